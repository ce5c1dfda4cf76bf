/* SPDX-License-Identifier: MIT */
/*
 * doctor_report.h - what every check of --doctor has: what it is about, and how it says its finding.
 *
 * One line for each finding on standard output, "ok|warning|failure  what: finding";
 * after a warning or failure one more, indented: the command that mends it.
 */
#ifndef PROGRAMS_DOCTOR_REPORT_H
#define PROGRAMS_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ini.h"

struct server_file_config;

/* Of the file, and of a name service that lists many. */
#define DOCTOR_PORTALS_MAX 288u

struct doctor_portals {
	uint32_t count;
	char item[DOCTOR_PORTALS_MAX][INI_ITEM_BYTES];
};

struct doctor {
	const char *config_path;
	const struct server_file_config *config;
	struct doctor_portals *portals; /* addresses only */
	uint64_t arena_bytes;		/* what the server maps and locks for this configuration */
	pid_t server_pid; /* of the server that serves this device now; 0: none does */
	uint32_t failures;
	uint32_t warnings;
	bool owes_fix; /* a warning or failure was said, its command not yet */
};

void doctor_ok(struct doctor *d, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* It works, but not as well or not always.  doctor_fix() must follow. */
void doctor_warning(struct doctor *d, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The device cannot start, or swapping to it can lose or hang.  doctor_fix() must follow. */
void doctor_failure(struct doctor *d, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The command. */
void doctor_fix(struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif /* PROGRAMS_DOCTOR_REPORT_H */
