/* SPDX-License-Identifier: MIT */
/*
 * fake_slab_memory.h - daemon/slab_memory.h over malloc, one step at a time.
 *
 * Requests wait until the test completes them.  FILL and ZERO write only at
 * their completion: fresh memory is scribbled over before it is zeroed, so a slab
 * that is used too early shows.  Wrong use of slab_memory.h ends the test by
 * assert: two requests for one slot, ZERO or DROP of a slot that is empty, ZERO
 * of a slab that a peer can still reach.
 */
#ifndef TESTS_LIB_FAKE_SLAB_MEMORY_H
#define TESTS_LIB_FAKE_SLAB_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/slab_memory.h"

#define FAKE_SLAB_MEMORY_TPS_MAX 4u

/* @tps: @tp_count transports with which every slab is registered; they outlive it. */
struct slab_memory *fake_slab_memory_new(uint64_t slab_bytes, uint32_t slots, struct tp **tps,
					 size_t tp_count);
/* No request waits; slabs still there are dropped.  Returns NULL. */
struct slab_memory *fake_slab_memory_free(struct slab_memory *m);

/* Requests that wait; how many of them are @request. */
unsigned fake_slab_memory_pending(const struct slab_memory *m);
unsigned fake_slab_memory_pending_of(const struct slab_memory *m, enum slab_memory_request request);
/* Completes the oldest request.  @status: 0 does it; else it fails and changes nothing
 * (DROP: the memory stays).  false: none waits. */
bool fake_slab_memory_step(struct slab_memory *m, int status);
/* The same with the @index th oldest. */
bool fake_slab_memory_step_at(struct slab_memory *m, unsigned index, int status);
/* Completes everything that waits, and what that starts, with success. */
void fake_slab_memory_run(struct slab_memory *m);

/* The slab's bytes; NULL when the slot is empty. */
uint8_t *fake_slab_memory_bytes(struct slab_memory *m, uint32_t slot);
bool fake_slab_memory_is_zero(struct slab_memory *m, uint32_t slot);

#endif /* TESTS_LIB_FAKE_SLAB_MEMORY_H */
