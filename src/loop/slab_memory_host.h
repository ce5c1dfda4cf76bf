/* SPDX-License-Identifier: MIT */
/*
 * slab_memory_host.h - daemon/slab_memory.h over this machine's memory.
 *
 * One anonymous mapping per slab, or what a transport that lends only its own memory
 * (tp_has_memory(); at most one of them) allocates; huge pages where the kernel has
 * them, locked where it allows (one warning where not), registered for lending with
 * each transport.  All of it happens on the helper thread; the loop thread only
 * hands requests over and gets their results.
 */
#ifndef LOOP_SLAB_MEMORY_HOST_H
#define LOOP_SLAB_MEMORY_HOST_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_MEMORY_HOST_TPS_MAX 4u

struct slab_memory;
struct tp;
struct worker;

/*
 * @slab_bytes: multiple of the page size.  @tps: @tp_count transports, at most
 * SLAB_MEMORY_HOST_TPS_MAX; they and @worker outlive the memory.
 * Returns 0 or -ENOMEM.
 */
int slab_memory_host_new(struct worker *worker, uint64_t slab_bytes, uint32_t slots,
			 struct tp *const *tps, size_t tp_count, struct slab_memory **ret_memory);
/* Before the first request: what a transport allocates comes from the machine's reserved huge
 * pages as long as there are some. */
void slab_memory_host_use_huge_pages(struct slab_memory *memory);
/* No request is outstanding.  Slabs that could not be dropped stay mapped for ever.
 * NULL is a no-op.  Returns NULL. */
struct slab_memory *slab_memory_host_free(struct slab_memory *m);

#endif /* LOOP_SLAB_MEMORY_HOST_H */
