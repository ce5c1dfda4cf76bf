/* SPDX-License-Identifier: MIT */
/*
 * world.h - the whole cluster of a run.
 *
 * Memory is modelled at 1:1024: a GiB of a machine, and of its slabs, is a MiB here, so
 * that a page map is small and a slab has 8 blocks.  Page I/O is thinned out, to
 * where activity (pages per second of a slab) still lies on the same side of HotSlab.
 */
#ifndef BENCH_CLUSTER_WORLD_H
#define BENCH_CLUSTER_WORLD_H

#include <stdint.h>

#include "common/rng.h"
#include "load.h"
#include "machine.h"
#include "measure.h"
#include "net.h"
#include "sim/clock.h"

/* What a GiB of the modelled machine is here. */
#define GIB_BYTES (UINT64_C(1) << 20)

struct options {
	uint32_t n_machines;
	uint32_t n_containers;
	uint32_t n_portals; /* daemons that a device knows */
	uint32_t choices;   /* d */
	uint32_t seconds;
	uint32_t warmup_seconds; /* of these, not measured */
	uint64_t seed;
	bool is_wide; /* the first devices know every daemon */
};

struct world {
	struct options opt;
	struct sim_clock clock;
	struct rng rng;
	struct net net;
	struct machine *machines;
	struct load load;
	struct measure measure;
};

static inline struct host *
world_daemon_host(struct world *w, uint32_t machine)
{
	return &w->machines[machine].daemon_host;
}

#endif /* BENCH_CLUSTER_WORLD_H */
