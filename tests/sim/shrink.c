/* SPDX-License-Identifier: MIT */
#include "sim/shrink.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/cluster.h"
#include "sim/fail.h"
#include "sim/world.h"

/* Of one try; a run takes milliseconds. */
#define TRY_SECONDS 10u
/* Other orders of the same things, tried when the first does not fail any more. */
#define VARIANTS 3u

static uint32_t
n_items(const struct plan *p)
{
	return p->n_ops + p->n_faults;
}

static bool *
item(struct plan *p, uint32_t index)
{
	return index < p->n_faults ? &p->faults[index].is_dropped
				   : &p->ops[index - p->n_faults].is_dropped;
}

/* The exit status of a run of the plan: 0, or 64 + the rule. */
static int
run_apart(struct sim *sim)
{
	int status;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	assert(pid >= 0);
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		sim_fail_set_quiet();
		sim->trace.is_printed = false;
		(void)alarm(TRY_SECONDS);
		sim_run(sim);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool
fails_alike(struct sim *sim, int status)
{
	const uint64_t variant = sim->plan.variant;

	for (uint64_t v = 0; v < VARIANTS; v++) {
		sim->plan.variant = variant + v;
		if (run_apart(sim) == status)
			return true;
	}
	sim->plan.variant = variant;
	return false;
}

/* Drops [@first, @stop) if the plan still fails without. */
static bool
drop(struct sim *sim, uint32_t first, uint32_t stop, int status)
{
	bool *was = calloc(stop - first, sizeof(*was));
	bool is_new = false;

	assert(was);
	for (uint32_t i = first; i < stop; i++) {
		was[i - first] = *item(&sim->plan, i);
		is_new |= !was[i - first];
		*item(&sim->plan, i) = true;
	}
	if (!is_new || fails_alike(sim, status)) {
		free(was);
		return is_new;
	}
	for (uint32_t i = first; i < stop; i++)
		*item(&sim->plan, i) = was[i - first];
	free(was);
	return false;
}

bool
shrink_plan(struct sim *sim)
{
	const uint32_t n = n_items(&sim->plan);
	const int status = run_apart(sim);
	bool has_gained = true;

	if (status == 0)
		return false;
	for (uint32_t size = n / 2; size > 0 && (size > 1 || has_gained);
	     size = size > 1 ? size / 2 : 1) {
		has_gained = false;
		for (uint32_t first = 0; first < n; first += size)
			has_gained |= drop(sim, first, first + size < n ? first + size : n, status);
	}
	return true;
}
