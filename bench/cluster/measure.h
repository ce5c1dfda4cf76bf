/* SPDX-License-Identifier: MIT */
/*
 * measure.h - what a run counts, and its report as JSON.
 *
 * The load of a machine is the memory in use on it: the system, its containers, and with
 * slabswap the slabs that others have mapped there; not those that wait to be mapped.
 * Everything but CPU time follows from the seed.
 */
#ifndef BENCH_CLUSTER_MEASURE_H
#define BENCH_CLUSTER_MEASURE_H

#include <stdint.h>
#include <stdio.h>

#include "net.h"

struct world;

enum measure_side {
	MEASURE_DEVICE = 0,
	MEASURE_DAEMON,
	MEASURE_WIDE, /* a device that knows every daemon */
	MEASURE_SIDES,
};

/* Of all machines. */
struct load_figures {
	double utilisation; /* of all memory */
	double max_to_median;
	double max_to_min;
};

struct measure_sample {
	uint32_t second;
	struct load_figures without;
	struct load_figures with;
};

/* Counters of all machines, to be subtracted. */
struct measure_totals {
	uint64_t n_sent[NET_MESSAGE_TYPES];
	uint64_t maps;
	uint64_t refused;
	uint64_t evictions;	   /* slabs that daemons took back */
	uint64_t evictions_forced; /* without their clients' DONE */
	uint64_t dones;		   /* EVICTs that clients answered */
	uint64_t done_ns;	   /* ... after, together */
	uint64_t migrations;
	uint64_t given_back; /* by clients, unasked */
	uint64_t pages_read_remote;
	uint64_t pages_read_backup;
};

struct measure {
	struct world *world;
	struct sim_event sample_ev;
	uint32_t second;
	struct measure_sample *samples;
	uint32_t n_samples;
	uint32_t first_sample; /* after the warm-up */
	double *loads_without;
	double *loads_with;
	struct measure_totals at_warm;
	uint64_t n_turns[MEASURE_SIDES];
	uint64_t turn_cpu_ns[MEASURE_SIDES];
	uint64_t placement_cpu_ns[MEASURE_SIDES];
	uint64_t n_placed[MEASURE_SIDES]; /* of devices */
	uint64_t wide_start_ns;		  /* CPU: to make such a device */
	uint32_t *placements_ns;	  /* in virtual time */
	uint32_t n_placements;
	uint32_t placements_room;
};

void measure_init(struct measure *ms, struct world *w);
/* A turn of a core took @cpu_ns. */
void measure_turn(struct measure *ms, enum measure_side side, uint64_t cpu_ns);
/* Work for placements took @cpu_ns. */
void measure_placement_cpu(struct measure *ms, enum measure_side side, uint64_t cpu_ns);
/* A slab was mapped, @ns after its placement began. */
void measure_placement(struct measure *ms, enum measure_side side, uint64_t ns);
void measure_report(struct measure *ms, FILE *to);

#endif /* BENCH_CLUSTER_MEASURE_H */
