/* SPDX-License-Identifier: MIT */
/*
 * fail.h - the names of what always holds (docs/architecture.md), and the end of a
 * run in which it did not: the seed, the settings and the last events are printed.
 */
#ifndef TESTS_SIM_FAIL_H
#define TESTS_SIM_FAIL_H

enum sim_rule {
	DEVICE_1 = 0,
	DEVICE_2,
	DEVICE_3,
	DEVICE_4,
	DEVICE_5,
	DEVICE_6,
	DEVICE_7,
	DEVICE_8,
	DEVICE_DURABLE,
	DAEMON_1,
	DAEMON_2,
	DAEMON_3,
	DAEMON_4,
	DAEMON_5,
	CONTRACT,
	ASSERTION,
	SIM_RULES,
};

struct sim;

/* "device invariant 2 (remote bit only on the newest copy)"; static. */
const char *sim_rule_name(enum sim_rule rule);

/* Which run is at work, for those that have only a signal to go by.  NULL: none. */
void sim_fail_set_run(struct sim *sim);
/* Instead of printing and exiting with 1: exit with 64 + the rule's number, for shrinking. */
void sim_fail_set_quiet(void);
/* SIGABRT and SIGSEGV report the run too. */
void sim_fail_catch_signals(void);

void sim_fail(enum sim_rule rule, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

#endif /* TESTS_SIM_FAIL_H */
