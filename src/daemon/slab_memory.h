/* SPDX-License-Identifier: MIT */
/*
 * slab_memory.h - what the daemon core asks of the memory under its slabs.
 *
 * Interface owned by daemon/; src/loop/slab_memory_host.c implements it with mmap
 * and one helper thread, tests and the simulator with plain memory.  A slot is the index
 * of a slab of the pool, 0 .. max_slabs - 1.  Requests for different slots may
 * be outstanding together; done() runs on the loop thread, never from inside a
 * call, exactly once per request.
 */
#ifndef DAEMON_SLAB_MEMORY_H
#define DAEMON_SLAB_MEMORY_H

#include <stdint.h>

struct tp;
struct tp_region;
struct slab_memory;

enum slab_memory_request {
	SLAB_MEMORY_FILL = 1, /* allocate, zero, and register with every transport */
	SLAB_MEMORY_ZERO,     /* zero a slab that a client had, or replace its memory */
	SLAB_MEMORY_DROP,     /* deregister and give back to the host */
};

/*
 * @status: 0, or -errno.  FILL: the slot stays empty and may be filled again.
 * ZERO: -ENOMEM, there was no memory to replace it: the slot is empty and may be filled
 * again; else the content is unknown.  DROP: a device may still reach the memory, it
 * stays allocated; the slot must not be used again.  May call start().
 */
typedef void slab_memory_done_fn(void *arg, enum slab_memory_request request, uint32_t slot,
				 int status);

struct slab_memory_ops {
	/* One request at a time per slot.  FILL: the slot is empty.  ZERO, DROP: it is
	 * filled, and nothing is granted on its regions. */
	void (*start)(struct slab_memory *m, enum slab_memory_request request, uint32_t slot);
	/* The slot's registration with @tp, or NULL when @tp has none of it; valid between
	 * the end of FILL and the start of DROP. */
	struct tp_region *(*region)(struct slab_memory *m, uint32_t slot, struct tp *tp);
	void (*set_done)(struct slab_memory *m, slab_memory_done_fn *done, void *arg);
};

struct slab_memory {
	const struct slab_memory_ops *ops;
};

#endif /* DAEMON_SLAB_MEMORY_H */
