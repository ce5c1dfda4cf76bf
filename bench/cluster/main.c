/* SPDX-License-Identifier: MIT */
/* One run of a cluster: options in, JSON out.  bench/cluster/run makes the table and the plots. */
#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/page.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "world.h"

/* guard.h found a core that allocates. */
void
sim_fail(enum sim_rule rule, const char *fmt, ...)
{
	va_list ap;

	(void)rule;
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	abort();
}

static uint64_t
number(const char *text)
{
	char *end;
	const uint64_t n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "cluster: not a number: %s\n", text);
		exit(2);
	}
	return n;
}

static void
usage(void)
{
	fprintf(stderr,
		"usage: cluster [--machines N] [--containers N] [--portals N] [--choices D]\n"
		"               [--seconds S] [--warmup S] [--seed N] [--wide]\n");
	exit(2);
}

static void
options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"machines", required_argument, NULL, 'm'},
		{"containers", required_argument, NULL, 'c'},
		{"portals", required_argument, NULL, 'p'},
		{"choices", required_argument, NULL, 'd'},
		{"seconds", required_argument, NULL, 's'},
		{"warmup", required_argument, NULL, 'w'},
		{"seed", required_argument, NULL, 'S'},
		{"wide", no_argument, NULL, 'W'},
		{NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){
		.n_machines = 32,
		.n_portals = 31,
		.choices = 2,
		.seconds = 300,
		.warmup_seconds = 100,
		.seed = 1,
	};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'W')
			o->is_wide = true;
		else if (c == '?')
			usage();
		else if (c == 'S')
			o->seed = number(optarg);
		else
			*(c == 'm'   ? &o->n_machines
			  : c == 'c' ? &o->n_containers
			  : c == 'p' ? &o->n_portals
			  : c == 'd' ? &o->choices
			  : c == 's' ? &o->seconds
				     : &o->warmup_seconds) = (uint32_t)number(optarg);
	}
	/* The paper: about 90 on 32. */
	if (o->n_containers == 0)
		o->n_containers = (uint32_t)((uint64_t)o->n_machines * 90 / 32);
	if (o->n_portals > o->n_machines - 1)
		o->n_portals = o->n_machines - 1;
	if (optind != argc || o->n_machines < 2 || o->choices < 1 ||
	    o->warmup_seconds + 10 > o->seconds)
		usage();
}

int
main(int argc, char **argv)
{
	static struct world w;
	uint64_t end_ns;

	options_parse(argc, argv, &w.opt);
	sim_clock_reset(&w.clock);
	w.rng = rng_of(w.opt.seed, 0);
	net_init(&w.net);
	w.machines = guard_alloc(w.opt.n_machines * sizeof(*w.machines));
	for (uint32_t i = 0; i < w.opt.n_machines; i++)
		(void)snprintf(w.machines[i].address, sizeof(w.machines[i].address), "%u", i);
	for (uint32_t i = 0; i < w.opt.n_machines; i++)
		machine_init(&w.machines[i], &w, i);
	measure_init(&w.measure, &w);
	load_init(&w);
	end_ns = w.clock.now_ns + w.opt.seconds * NSEC_PER_SEC;
	while (sim_clock_step(&w.clock, end_ns))
		;
	measure_report(&w.measure, stdout);
	/* Then it shows nothing. */
	return w.measure.n_placements > 0 ? 0 : 1;
}
