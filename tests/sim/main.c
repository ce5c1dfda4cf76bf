/* SPDX-License-Identifier: MIT */
/*
 * sim --seeds N [--first S] [--seconds T] [--all-faults]
 *         runs seeds S .. S+N-1, at most for T seconds; a fault that never happened is a failure,
 *         and so is something that the cores were never seen to do
 * sim --seed S [--trace] [--shrink]
 *         one of them
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/cluster.h"
#include "sim/fail.h"
#include "sim/shrink.h"
#include "sim/world.h"

struct options {
	uint64_t first;
	uint64_t n_seeds;
	uint64_t seconds; /* 0: no limit */
	bool is_one;
	bool is_traced;
	bool is_shrunk;
	bool with_all_faults;
};

static double
now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void
usage(void)
{
	fprintf(stderr, "usage: sim --seeds N [--first S] [--seconds T] [--all-faults]\n"
			"       sim --seed S [--trace] [--shrink]\n");
	exit(2);
}

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end)
		usage();
	return value;
}

static void
parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"seeds", required_argument, NULL, 'n'},   {"first", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
		{"all-faults", no_argument, NULL, 'A'},	   {"trace", no_argument, NULL, 'T'},
		{"shrink", no_argument, NULL, 'S'},	   {NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){.first = 1};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'n')
			o->n_seeds = number(optarg);
		else if (c == 'f')
			o->first = number(optarg);
		else if (c == 't')
			o->seconds = number(optarg);
		else if (c == 's') {
			o->first = number(optarg);
			o->n_seeds = 1;
			o->is_one = true;
		} else if (c == 'T')
			o->is_traced = true;
		else if (c == 'S')
			o->is_shrunk = true;
		else if (c == 'A')
			o->with_all_faults = true;
		else
			usage();
	}
	if (optind != argc || o->n_seeds == 0)
		usage();
}

/* Returns whether every kind of fault has really happened, and what it has to bring about. */
static bool
print_summary(const struct sim *sim, uint64_t n, uint64_t n_events, double took_s)
{
	bool is_complete = true;

	printf("sim: %" PRIu64 " seeds, %" PRIu64 " events, %.0f runs/s\n", n, n_events,
	       (double)n / took_s);
	printf("faults:");
	for (uint32_t i = 0; i < FAULT_KINDS; i++) {
		printf(" %s %" PRIu64, fault_name((enum fault_kind)i), sim->counts[i]);
		is_complete = is_complete && sim->counts[i] > 0;
	}
	printf("\nseen:");
	for (uint32_t i = 0; i < SIGHT_KINDS; i++) {
		printf(" %s %" PRIu64, sight_name((enum sight_kind)i), sim->sights[i]);
		is_complete = is_complete && sim->sights[i] > 0;
	}
	printf("\n");
	return is_complete;
}

int
main(int argc, char **argv)
{
	struct options o;
	struct sim *sim;
	uint64_t n = 0, n_events = 0;
	double began_s;
	bool is_complete;

	parse(argc, argv, &o);
	/* Cores are made and freed thousands of times; the kernel need not hear of it. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	sim_fail_catch_signals();
	sim = sim_new();
	sim->trace.is_printed = o.is_traced;
	began_s = now_s();
	while (n < o.n_seeds) {
		if (o.seconds > 0 && now_s() - began_s >= (double)o.seconds)
			break;
		plan_make(&sim->plan, o.first + n);
		if (o.is_shrunk && shrink_plan(sim))
			sim->trace.is_printed = true;
		if (sim->trace.is_printed)
			plan_print(&sim->plan, stdout);
		sim_run(sim);
		n_events += sim->clock.n_fired;
		n++;
	}
	is_complete = print_summary(sim, n, n_events, now_s() - began_s);
	(void)sim_free(sim);
	if (o.with_all_faults && !is_complete) {
		printf("FAIL: a kind of fault has never happened, or something was never seen\n");
		return 1;
	}
	return 0;
}
