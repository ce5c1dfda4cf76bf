/* SPDX-License-Identifier: MIT */
/*
 * Happy path: nobody waits, nbds_gate_get() is backend_get().
 * Failure modes: the backend is out of buffers (wait for its resume); the first
 * waiter goes away (the next one is tried, since the resume may have been its own).
 */
#include "nbd_server/gate.h"

#include <assert.h>

static void
run_waiters(void *arg)
{
	struct nbds_gate *gate = arg;
	struct nbds_waiter *w;

	assert(!gate->turn);
	gate->is_starved = false;
	while (!gate->is_starved && !list_is_empty(&gate->waiters)) {
		w = container_of(list_pop_head(&gate->waiters), struct nbds_waiter, node);
		gate->turn = w;
		w->run(w);
		gate->turn = NULL;
	}
}

void
nbds_gate_init(struct nbds_gate *gate, struct ev_loop *loop, struct backend *be)
{
	gate->be = be;
	list_init(&gate->waiters);
	gate->turn = NULL;
	gate->is_starved = false;
	defer_init(&gate->kick, loop, run_waiters, gate);
	backend_set_resume(be, run_waiters, gate);
}

void
nbds_gate_fini(struct nbds_gate *gate)
{
	assert(list_is_empty(&gate->waiters));
	defer_stop(&gate->kick);
	backend_set_resume(gate->be, NULL, NULL);
}

struct backend_io *
nbds_gate_get(struct nbds_gate *gate, struct nbds_waiter *w, enum backend_kind kind,
	      uint64_t offset_bytes, uint32_t length_bytes)
{
	struct backend_io *io;

	if (list_is_linked(&w->node))
		return NULL;
	if (gate->turn != w && !list_is_empty(&gate->waiters)) {
		list_add_tail(&gate->waiters, &w->node);
		return NULL;
	}
	io = backend_get(gate->be, kind, offset_bytes, length_bytes);
	if (io)
		return io;
	gate->is_starved = true;
	if (gate->turn == w)
		list_add_head(&gate->waiters, &w->node);
	else
		list_add_tail(&gate->waiters, &w->node);
	return NULL;
}

void
nbds_gate_yield(struct nbds_gate *gate, struct nbds_waiter *w)
{
	if (gate->turn == w)
		gate->turn = NULL;
}

void
nbds_gate_leave(struct nbds_gate *gate, struct nbds_waiter *w)
{
	if (!list_is_linked(&w->node))
		return;
	list_del(&w->node);
	if (!list_is_empty(&gate->waiters))
		defer_start(&gate->kick);
}
