/* SPDX-License-Identifier: MIT */
/*
 * mem_backend.h - bytes in memory behind backend.h, with every misbehaviour that the
 * contract allows: late and reordered completions, errors, and no buffers.
 *
 * A piece takes effect at its submit, so whatever order completions come in, the
 * order of effects is the one that backend.h promises.
 */
#ifndef TESTS_MEM_BACKEND_H
#define TESTS_MEM_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "nbd_server/backend.h"

struct mem_backend;
struct turn_clock;

struct mem_backend_config {
	uint64_t size_bytes;
	uint32_t slots;	       /* buffers of BLOCK_BYTES */
	uint32_t delay_ms;     /* from submit to done; 0: the same turn, when it ends */
	uint32_t reorder_seed; /* not 0: completions of a turn come in random order */
	uint32_t null_every;   /* not 0: each n-th get() gives NULL, resume() follows */
	/* Pieces of @fail_kind that hold this byte fail with @fail_status; 0: none. */
	enum backend_kind fail_kind;
	uint64_t fail_offset_bytes;
	int fail_status;
	bool no_fast_zero; /* FAST_ZERO gives -EOPNOTSUPP */
};

struct mem_backend_stats {
	uint32_t lent; /* slots in the server's hands now */
	uint32_t lent_max;
	uint32_t nulls;
	uint32_t flushes;
	uint32_t fua_writes;
	uint32_t fua_ranges;
	uint32_t trims;
	uint32_t zeroes;
	uint32_t range_in_flight_max; /* TRIM and ZERO pieces in flight at once */
	uint64_t trimmed_bytes;
};

struct mem_backend *mem_backend_new(struct ev_loop *loop, const struct mem_backend_config *config);
/* Nothing may be lent.  NULL is a no-op. */
void mem_backend_free(struct mem_backend *mem);
/* As it was when new; nothing may be lent. */
void mem_backend_reset(struct mem_backend *mem);
struct backend *mem_backend_of(struct mem_backend *mem);
/* For the server, as long as the backend is there. */
struct turn_clock *mem_backend_clock(struct mem_backend *mem);
const struct mem_backend_stats *mem_backend_stats(const struct mem_backend *mem);

#endif /* TESTS_MEM_BACKEND_H */
