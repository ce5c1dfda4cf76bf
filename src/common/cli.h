/* SPDX-License-Identifier: MIT */
/* cli.h - the command line that slabswap-nbd and slabswapd share. */
#ifndef COMMON_CLI_H
#define COMMON_CLI_H

#include <stdbool.h>

/* Exit statuses: 0 done, 1 anything else, and this. */
#define CLI_EXIT_USAGE 2

/* Options that not every program has. */
#define CLI_DOCTOR (1u << 0)

struct cli {
	const char *config_path;
	bool is_check;	/* --check: look at the configuration file and exit */
	bool is_doctor; /* --doctor: look at the host too; never with is_check */
	int verbose;	/* number of -v */
};

/*
 * cli_parse - @argv as @ret_cli.
 *
 * @what: one line that says what the program is.
 * @extras: CLI_* bits of the options above that it has.
 *
 * Returns true to go on.  Else *@ret_exit is the exit status: --help and
 * --version have printed (0), a usage error has its line (CLI_EXIT_USAGE).
 * Sets the log level from -v.
 */
bool cli_parse(int argc, char **argv, const char *what, unsigned int extras, struct cli *ret_cli,
	       int *ret_exit);

#endif /* COMMON_CLI_H */
