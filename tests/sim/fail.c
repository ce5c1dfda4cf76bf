/* SPDX-License-Identifier: MIT */
#include "sim/fail.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/guard.h"
#include "sim/world.h"

/* A signal handler has nothing else to find the run by. */
static struct sim *current;
static bool is_quiet;

const char *
sim_rule_name(enum sim_rule rule)
{
	static const char *const names[SIM_RULES] = {
		[DEVICE_1] = "device invariant 1 (a read returns the last acknowledged write)",
		[DEVICE_2] = "device invariant 2 (remote bit only on the newest copy)",
		[DEVICE_3] = "device invariant 3 (a buffer is reused only when all I/O on it has "
			     "completed)",
		[DEVICE_4] = "device invariant 4 (a slab is given up only when it is safe)",
		[DEVICE_5] =
			"device invariant 5 (a daemon's failure touches its own slabs only, no "
			"wait without a deadline)",
		[DEVICE_6] = "device invariant 6 (a failed backup write is never silent)",
		[DEVICE_7] = "device invariant 7 (an error only when no copy can be reached)",
		[DEVICE_8] = "device invariant 8 (no allocation and no unbounded queue)",
		[DEVICE_DURABLE] =
			"device durability (FLUSH, FUA and ack = both are on the backup)",
		[DAEMON_1] = "daemon invariant 1 (a slab has one client and is zeroed before "
			     "another's)",
		[DAEMON_2] = "daemon invariant 2 (no remote access after revocation)",
		[DAEMON_3] = "daemon invariant 3 (memory is returned under pressure)",
		[DAEMON_4] = "daemon invariant 4 (no message crashes it or makes it allocate)",
		[DAEMON_5] = "daemon invariant 5 (a dead client's slabs come back)",
		[CONTRACT] = "contract of an interface",
		[ASSERTION] = "assertion",
	};

	return names[rule];
}

void
sim_fail_set_run(struct sim *sim)
{
	current = sim;
}

void
sim_fail_set_quiet(void)
{
	is_quiet = true;
}

static void
report(void)
{
	const struct sim *sim = current;

	plan_print(&sim->plan, stdout);
	if (sim->trace.is_printed)
		return;
	printf("the last events:\n");
	trace_print(&sim->trace, stdout);
	printf("replay: sim --seed %" PRIu64 " --trace; smaller: sim --seed %" PRIu64 " --shrink\n",
	       sim->plan.seed, sim->plan.seed);
}

void
sim_fail(enum sim_rule rule, const char *fmt, ...)
{
	va_list ap;

	guard_reset();
	if (is_quiet)
		_exit(64 + (int)rule);
	printf("FAIL seed %" PRIu64 ": %s: ", current ? current->plan.seed : 0,
	       sim_rule_name(rule));
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (current)
		report();
	fflush(stdout);
	_exit(1);
}

static void
signal_cb(int number)
{
	(void)signal(number, SIG_DFL);
	sim_fail(ASSERTION, "signal %d, see standard error", number);
}

void
sim_fail_catch_signals(void)
{
	static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)signal(numbers[i], signal_cb);
}
