/* SPDX-License-Identifier: MIT */
#include "common/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

static const char *
name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void
usage_print(FILE *out, const char *name, const char *what)
{
	(void)fprintf(out,
		      "usage: %s -c FILE [--check] [-v]\n"
		      "%s\n\n"
		      "  -c, --config FILE  configuration, see %s.ini(5)\n"
		      "      --check        check FILE and exit with 0 or 2\n"
		      "  -v, --verbose      log connections; twice: debug\n"
		      "  -h, --help         print this\n"
		      "  -V, --version      print the version\n",
		      name, what, name);
}

bool
cli_parse(int argc, char **argv, const char *what, struct cli *ret_cli, int *ret_exit)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'C'},
		{"verbose", no_argument, NULL, 'v'},	  {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	  {NULL, 0, NULL, 0},
	};
	const char *name = name_of(argv[0]);
	struct cli cli = {0};
	int c;

	*ret_exit = CLI_EXIT_USAGE;
	while ((c = getopt_long(argc, argv, "c:vhV", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			cli.config_path = optarg;
			break;
		case 'C':
			cli.is_check = true;
			break;
		case 'v':
			cli.verbose++;
			break;
		case 'h':
			usage_print(stdout, name, what);
			*ret_exit = 0;
			return false;
		case 'V':
			(void)printf("%s %s\n", name, SLABSWAP_VERSION);
			*ret_exit = 0;
			return false;
		default: /* getopt_long() has said what is wrong */
			return false;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "%s: unexpected argument '%s'; see %s --help\n", name,
			      argv[optind], name);
		return false;
	}
	if (!cli.config_path) {
		(void)fprintf(stderr, "%s: no configuration file; usage: %s -c FILE\n", name, name);
		return false;
	}
	log_set_level(cli.verbose == 0	 ? LOG_LEVEL_NOTICE
		      : cli.verbose == 1 ? LOG_LEVEL_INFO
					 : LOG_LEVEL_DEBUG);
	*ret_cli = cli;
	return true;
}
