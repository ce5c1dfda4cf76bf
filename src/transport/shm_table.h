/* SPDX-License-Identifier: MIT */
/* shm_table.h - what an rkey means on one connection: a grant (daemon) or a mapping (client). */
#ifndef TRANSPORT_SHM_TABLE_H
#define TRANSPORT_SHM_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/shm_conn.h"

#define SHM_TABLE_INDEX_BITS 16u
#define SHM_TABLE_ENTRIES_MAX (1u << SHM_TABLE_INDEX_BITS)

/* tp_remote.addr of every grant: it only has to be an address, the rkey says which memory. */
#define SHM_GRANT_ADDR UINT64_C(0x100000)

struct tp_grant;

struct shm_entry {
	uint32_t rkey; /* of the last use */
	/* daemon */
	struct tp_grant *grant; /* NULL: free */
	uint32_t next_free;	/* index + 1; 0: none */
	/* client */
	uint8_t *base; /* NULL: free */
	uint64_t length_bytes;
	uint64_t fault_left_bytes; /* at its end, not in the page tables yet */
	int fault_advice;	   /* for madvise() */
	bool is_read_only;
	bool is_unanswered;   /* its REVOKED is to be sent */
	uint32_t next_answer; /* index + 1 of the next one; 0: none */
};

static inline uint32_t
shm_table_index(uint32_t rkey)
{
	return rkey & (SHM_TABLE_ENTRIES_MAX - 1);
}

/* The entry that @rkey points at, whatever is in it; NULL: beyond the table. */
static inline struct shm_entry *
shm_table_at(const struct shm_table *table, uint32_t rkey)
{
	const uint32_t index = shm_table_index(rkey);

	return index < table->size ? &table->entries[index] : NULL;
}

/* At least @size entries, the new ones zero.  Returns 0 or -ENOMEM. */
int shm_table_grow(struct shm_table *table, uint32_t size);

#endif /* TRANSPORT_SHM_TABLE_H */
