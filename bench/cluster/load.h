/* SPDX-License-Identifier: MIT */
/*
 * load.h - the containers of the paper's cluster experiment: half may use all of their
 * working set, 30 % three quarters of it, 20 % half; what is over goes to the device.
 *
 * A container starts on a random machine that has room for what it may use, its memory
 * grows to its working set within a minute, it pages while it runs, and when it ends
 * its swap space is trimmed and another one of the same kind starts somewhere else.
 */
#ifndef BENCH_CLUSTER_LOAD_H
#define BENCH_CLUSTER_LOAD_H

#include <stdint.h>

#include "common/list.h"
#include "common/rng.h"
#include "sim/clock.h"

#define CONTAINER_SLABS_MAX 16u

struct world;
struct machine;

struct swap_slab {
	uint8_t slab;	   /* of the device */
	uint8_t n_written; /* blocks, from the first on */
	uint8_t next_block;
	float pieces_per_second; /* of one block each */
	float due;		 /* pieces */
};

struct container {
	struct list node; /* of its machine */
	struct sim_event start_ev;
	struct world *world;
	struct machine *machine;
	double share; /* of its working set that it may use */
	double working_set_gib;
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t n_slabs;
	struct swap_slab slabs[CONTAINER_SLABS_MAX];
};

struct load {
	struct rng rng; /* so that containers do the same whatever the network does */
	struct container *containers;
	uint64_t n_started;
	uint64_t n_unplaced; /* no machine had room: tried again later */
	uint64_t n_pieces;
	uint64_t n_starved; /* times that a slab's page I/O had to wait for a buffer */
};

void load_init(struct world *w);

#endif /* BENCH_CLUSTER_LOAD_H */
