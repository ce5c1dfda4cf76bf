/* SPDX-License-Identifier: MIT */
/*
 * gate.h - buffers of the backend, first come, first served.
 *
 * When backend_get() has nothing, whoever asked waits in a FIFO over all
 * connections, and whoever asks later waits behind it: a READ that needs 256
 * buffers is not overtaken for ever by those that need one.
 *
 * READs have a FIFO of their own, as they have buffers of their own: what writes
 * wait for may be a slow disk, which is nothing to a READ.
 */
#ifndef NBD_SERVER_GATE_H
#define NBD_SERVER_GATE_H

#include "common/list.h"
#include "loop/defer.h"
#include "nbd_server/backend.h"

struct nbds_waiter {
	struct list node; /* linked while it waits */
	/* Its turn came: ask again with nbds_gate_get(). */
	void (*run)(struct nbds_waiter *w);
};

struct nbds_fifo {
	struct list waiters;
	bool is_starved; /* get() gave NULL since this turn began */
};

struct nbds_gate {
	struct backend *be;
	struct nbds_fifo reads;
	struct nbds_fifo others;
	struct nbds_waiter *turn; /* the one whose run() is on the stack; may pass the others */
	struct defer kick;
};

void nbds_gate_init(struct nbds_gate *gate, struct ev_loop *loop, struct backend *be);
void nbds_gate_fini(struct nbds_gate *gate);

/* NULL: @w waits now (or did already) and is run when there may be something. */
struct backend_io *nbds_gate_get(struct nbds_gate *gate, struct nbds_waiter *w,
				 enum backend_kind kind, uint64_t offset_bytes,
				 uint32_t length_bytes);
/* @w got what it waited for; what it asks for next queues like everybody's. */
void nbds_gate_yield(struct nbds_gate *gate, struct nbds_waiter *w);
/* @w no longer wants anything.  Harmless when it does not wait. */
void nbds_gate_leave(struct nbds_gate *gate, struct nbds_waiter *w);

#endif /* NBD_SERVER_GATE_H */
