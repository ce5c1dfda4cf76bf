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
usage_print(FILE *out, const char *name, const char *what, unsigned int extras)
{
	const bool has_doctor = extras & CLI_DOCTOR;

	(void)fprintf(out,
		      "usage: %s -c FILE [--check%s] [-v]\n"
		      "%s\n\n"
		      "  -c, --config FILE  configuration, see %s.ini(5)\n"
		      "      --check        check FILE and exit with 0 or 2\n"
		      "%s"
		      "  -v, --verbose      log connections; twice: debug\n"
		      "  -h, --help         print this\n"
		      "  -V, --version      print the version\n",
		      name, has_doctor ? " | --doctor" : "", what, name,
		      has_doctor
			      ? "      --doctor       check FILE and this host, say what to mend; "
				"exit with 0, 1 or 2\n"
			      : "");
}

static bool
usage_error(const char *name, const struct cli *cli, const char *unexpected)
{
	if (unexpected)
		(void)fprintf(stderr, "%s: unexpected argument '%s'; see %s --help\n", name,
			      unexpected, name);
	else if (!cli->config_path)
		(void)fprintf(stderr, "%s: no configuration file; usage: %s -c FILE\n", name, name);
	else if (cli->is_check && cli->is_doctor)
		(void)fprintf(stderr, "%s: --check or --doctor, not both\n", name);
	else
		return false;
	return true;
}

bool
cli_parse(int argc, char **argv, const char *what, unsigned int extras, struct cli *ret_cli,
	  int *ret_exit)
{
	/* The first is left out for a program that has it not. */
	static const struct option options[] = {
		{"doctor", no_argument, NULL, 'D'},
		{"check", no_argument, NULL, 'C'},
		{"config", required_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	const struct option *known = extras & CLI_DOCTOR ? options : options + 1;
	const char *name = name_of(argv[0]);
	struct cli cli = {0};
	int c;

	*ret_exit = CLI_EXIT_USAGE;
	while ((c = getopt_long(argc, argv, "c:vhV", known, NULL)) != -1) {
		switch (c) {
		case 'c':
			cli.config_path = optarg;
			break;
		case 'C':
			cli.is_check = true;
			break;
		case 'D':
			cli.is_doctor = true;
			break;
		case 'v':
			cli.verbose++;
			break;
		case 'h':
			usage_print(stdout, name, what, extras);
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
	if (usage_error(name, &cli, optind < argc ? argv[optind] : NULL))
		return false;
	log_set_level(cli.verbose == 0	 ? LOG_LEVEL_NOTICE
		      : cli.verbose == 1 ? LOG_LEVEL_INFO
					 : LOG_LEVEL_DEBUG);
	*ret_cli = cli;
	return true;
}
