/* SPDX-License-Identifier: MIT */
/*
 * shm_memory.h - memory that can be lent over shm, and the regions in it.
 *
 * All of it may run on the helper thread.  A region of local buffers is any memory; one
 * of TP_LEND is exactly one block of shm_memory_new(), for one grant; one of
 * TP_LEND_READ is a copy of what the memory holds now, for any number of them.
 */
#ifndef TRANSPORT_SHM_MEMORY_H
#define TRANSPORT_SHM_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "transport/transport.h"

struct shm_memory {
	struct list node;
	uint8_t *base;
	size_t length_bytes;
	int fd; /* a memfd, sealed against shrinking and growing */
};

struct tp_region {
	struct tp_base base;
	uint8_t *mem;
	size_t length_bytes;
	enum tp_lend lend;
	int fd; /* TP_LEND: of the memory.  TP_LEND_READ: its own, sealed against writing */
	atomic_uint grants;
	atomic_bool is_spent;
};

int shm_memory_new(struct tp *tp, size_t length_bytes, bool huge, void **ret_base);
void shm_memory_free(struct tp *tp, void *base);

int shm_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
			struct tp_region **ret_region);
int shm_region_release(struct tp_region *region);
bool shm_region_is_spent(const struct tp_region *region);

/*
 * shm_memory_map - map what a daemon lends; takes over @fd.
 *
 * Refuses what could go away under the mapping.  *@ret_is_read_only: it is sealed
 * against writing.  Returns 0; -EPROTO with the reason in *@ret_why; -ENOMEM and others
 * of mmap(2).
 */
int shm_memory_map(int fd, uint64_t length_bytes, uint8_t **ret_base, bool *ret_is_read_only,
		   const char **ret_why);

#endif /* TRANSPORT_SHM_MEMORY_H */
