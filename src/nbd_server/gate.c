/* SPDX-License-Identifier: MIT */
/*
 * Happy path: nobody waits, nbds_gate_get() is backend_get().
 * Failure modes: the backend is out of buffers (wait for its resume); the first
 * waiter goes away (the next one is tried, since the resume may have been its own).
 */
#include "nbd_server/gate.h"

#include <assert.h>

static void
run_fifo(struct nbds_gate *gate, struct nbds_fifo *fifo)
{
	struct nbds_waiter *w;

	assert(!gate->turn);
	fifo->is_starved = false;
	while (!fifo->is_starved && !list_is_empty(&fifo->waiters)) {
		w = container_of(list_pop_head(&fifo->waiters), struct nbds_waiter, node);
		gate->turn = w;
		w->run(w);
		gate->turn = NULL;
	}
}

static void
run_waiters(void *arg)
{
	struct nbds_gate *gate = arg;

	run_fifo(gate, &gate->reads);
	run_fifo(gate, &gate->others);
}

static bool
has_waiters(const struct nbds_gate *gate)
{
	return !list_is_empty(&gate->reads.waiters) || !list_is_empty(&gate->others.waiters);
}

void
nbds_gate_init(struct nbds_gate *gate, struct ev_loop *loop, struct backend *be)
{
	gate->be = be;
	list_init(&gate->reads.waiters);
	list_init(&gate->others.waiters);
	gate->reads.is_starved = false;
	gate->others.is_starved = false;
	gate->turn = NULL;
	defer_init(&gate->kick, loop, run_waiters, gate);
	backend_set_resume(be, run_waiters, gate);
}

void
nbds_gate_fini(struct nbds_gate *gate)
{
	assert(!has_waiters(gate));
	defer_stop(&gate->kick);
	backend_set_resume(gate->be, NULL, NULL);
}

struct backend_io *
nbds_gate_get(struct nbds_gate *gate, struct nbds_waiter *w, enum backend_kind kind,
	      uint64_t offset_bytes, uint32_t length_bytes)
{
	struct nbds_fifo *fifo = kind == BACKEND_READ ? &gate->reads : &gate->others;
	struct backend_io *io;

	if (list_is_linked(&w->node))
		return NULL;
	if (gate->turn != w && !list_is_empty(&fifo->waiters)) {
		list_add_tail(&fifo->waiters, &w->node);
		return NULL;
	}
	io = backend_get(gate->be, kind, offset_bytes, length_bytes);
	if (io)
		return io;
	fifo->is_starved = true;
	if (gate->turn == w)
		list_add_head(&fifo->waiters, &w->node);
	else
		list_add_tail(&fifo->waiters, &w->node);
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
	if (has_waiters(gate))
		defer_start(&gate->kick);
}
