/* SPDX-License-Identifier: MIT */
/*
 * arena.h - everything a restarted server would need, in one piece of memory
 * addressed by index: slab table, page map, writes not yet on the backup, buffers.
 *
 * No pointer is stored in the arena, so it can become a memfd that survives the
 * process and is mapped elsewhere.  struct arena only caches where the parts begin.
 */
#ifndef SLAB_ARENA_H
#define SLAB_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "common/page.h"

#define ARENA_MAGIC UINT64_C(0x414e455241535353)
#define ARENA_VERSION 1u

struct arena_header {
	uint64_t magic;
	uint32_t version;
	uint32_t block_pages;
	uint64_t size_bytes;
	uint64_t slab_bytes;
	uint64_t buffer_bytes;
	uint64_t write_seq; /* of the newest arena_write */
};

enum slab_state {
	SLAB_STATE_UNMAPPED = 0, /* a zeroed arena is a valid empty table */
	SLAB_STATE_MAPPING,
	SLAB_STATE_MAPPED,
	SLAB_STATE_EVICTING,  /* on its way back to its daemon; see evict.h */
	SLAB_STATE_MIGRATING, /* has two homes; the arena has the new one; see migrate.h */
	SLAB_STATE_FAILED, /* pages were lost with the daemon: not mapped before they are rewritten */
};

#define SLAB_DAEMON_NONE UINT32_MAX

struct arena_slab {
	uint32_t state;	     /* enum slab_state */
	uint32_t generation; /* of the newest mapping; 0: never mapped */
	uint32_t daemon;     /* slot of the daemon while MAPPED or EVICTING */
	uint32_t rkey;
	uint64_t remote_addr;
	uint32_t pages_degraded; /* only copy is remote: the backup failed, or there is none */
	uint32_t
		pages_lost; /* marked by remote bits while FAILED; without a backup by backup bits */
};

/* Where the current copies of a block's pages are; bit i is page i. */
struct arena_block {
	uint32_t remote;
	uint32_t backup;
};

/* One write that the backup does not have yet.  Slot i belongs to buffer page i. */
struct arena_write {
	uint64_t seq; /* 0: free slot.  Order of two writes of a page. */
	uint64_t offset_bytes;
	uint32_t length_bytes;
	uint32_t buffer_page; /* of the first byte */
};

struct arena {
	struct arena_header *header;
	struct arena_slab *slabs;
	struct arena_block *blocks;
	struct arena_write *writes;
	uint8_t *buffers;
	uint32_t n_slabs;
	uint32_t n_blocks;
	uint32_t n_buffer_pages;
	uint32_t slab_blocks; /* blocks per slab */
	size_t total_bytes;
};

/*
 * arena_layout - compute the parts' places relative to @base (may be NULL to learn the size).
 * Returns 0 or -EINVAL (a size breaks the rules of device.h).
 */
int arena_layout(struct arena *a, void *base, uint64_t size_bytes, uint64_t slab_bytes,
		 uint64_t buffer_bytes);

static inline uint32_t
arena_slab_of_block(const struct arena *a, uint32_t block)
{
	return block / a->slab_blocks;
}

#endif /* SLAB_ARENA_H */
