/* SPDX-License-Identifier: MIT */
/*
 * memory.h - daemon/slab_memory.h in plain memory and virtual time.  Every byte that
 * gets into a slab comes through the net, so which pages are not zeros is known
 * without looking: a slab that was not zeroed shows when it is lent.
 */
#ifndef TESTS_SIM_MEMORY_H
#define TESTS_SIM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/slab_memory.h"
#include "sim/clock.h"
#include "sim/plan.h"

#define SIM_SLAB_PAGES (SIM_SLAB_BYTES / 4096u)

struct sim_host;
struct sim_memory;
struct sim_region;

struct sim_memory_slot {
	struct sim_event ev;
	struct sim_memory *m;
	uint8_t *bytes;			     /* kept from run to run */
	uint64_t dirty[SIM_SLAB_PAGES / 64]; /* pages that may hold anything but zeros */
	struct tp_region *region;	     /* NULL: the slot is empty */
	enum slab_memory_request request;
	bool is_busy;
	bool is_lost;
};

struct sim_memory {
	struct slab_memory memory; /* first */
	struct sim_host *host;
	struct sim_memory_slot slots[SIM_POOL_MAX];
	uint32_t n_slots;
	uint32_t n_busy;
	slab_memory_done_fn *done;
	void *arg;
	uint64_t fail_fills_ns; /* until then */
	uint32_t fail_zeros;	/* that many */
};

/* Empty slots; the bytes of an earlier run are taken over. */
void sim_memory_reset(struct sim_memory *m, struct sim_host *host, uint32_t n_slots);
/* Completes everything that is under way, at once. */
void sim_memory_finish(struct sim_memory *m);
/* The process is gone. */
void sim_memory_drop_all(struct sim_memory *m);
/* A peer wrote there. */
void sim_memory_written(struct sim_memory_slot *slot, uint64_t at, uint64_t length_bytes);
bool sim_memory_is_zero(const struct sim_memory_slot *slot);

#endif /* TESTS_SIM_MEMORY_H */
