/* SPDX-License-Identifier: MIT */
#include "slab/remote_queue.h"

#include <errno.h>
#include <stdlib.h>

#include "slab/core.h"

int
remote_queue_init(struct remote_queue *q, uint32_t n_remotes)
{
	list_init(&q->touched);
	q->n = 0;
	q->heap = calloc((size_t)n_remotes + 1, sizeof(struct remote *));
	return q->heap ? 0 : -ENOMEM;
}

void
remote_queue_fini(struct remote_queue *q)
{
	free(q->heap);
	q->heap = NULL;
}

static void
put(struct remote_queue *q, uint32_t place, struct remote *r)
{
	q->heap[place] = r;
	r->due_place = place;
}

static void
sift_up(struct remote_queue *q, struct remote *r, uint32_t place)
{
	while (place > 1 && r->due_ns < q->heap[place / 2]->due_ns) {
		put(q, place, q->heap[place / 2]);
		place /= 2;
	}
	put(q, place, r);
}

static void
sift_down(struct remote_queue *q, struct remote *r, uint32_t place)
{
	while (place * 2 <= q->n) {
		uint32_t child = place * 2;

		if (child < q->n && q->heap[child + 1]->due_ns < q->heap[child]->due_ns)
			child++;
		if (q->heap[child]->due_ns >= r->due_ns)
			break;
		put(q, place, q->heap[child]);
		place = child;
	}
	put(q, place, r);
}

static void
heap_place(struct remote_queue *q, struct remote *r, uint32_t place)
{
	if (place > 1 && r->due_ns < q->heap[place / 2]->due_ns)
		sift_up(q, r, place);
	else
		sift_down(q, r, place);
}

static void
heap_remove(struct remote_queue *q, struct remote *r)
{
	const uint32_t place = r->due_place;
	struct remote *last;

	if (place == 0)
		return;
	r->due_place = 0;
	last = q->heap[q->n--];
	if (last != r)
		heap_place(q, last, place);
}

void
remote_touch(struct remote *r)
{
	if (!list_is_linked(&r->touched_node))
		list_add_tail(&r->dev->remote_queue.touched, &r->touched_node);
}

void
remote_queue_forget(struct remote *r)
{
	list_del(&r->touched_node);
	heap_remove(&r->dev->remote_queue, r);
}

struct remote *
remote_queue_take(struct remote_queue *q, uint64_t now_ns)
{
	struct list *node = list_pop_head(&q->touched);
	struct remote *r;

	if (node)
		return container_of(node, struct remote, touched_node);
	if (q->n == 0 || q->heap[1]->due_ns > now_ns)
		return NULL;
	r = q->heap[1];
	heap_remove(q, r);
	return r;
}

void
remote_queue_set_due(struct remote *r, uint64_t due_ns)
{
	struct remote_queue *q = &r->dev->remote_queue;

	if (due_ns == UINT64_MAX) {
		heap_remove(q, r);
		return;
	}
	r->due_ns = due_ns;
	heap_place(q, r, r->due_place != 0 ? r->due_place : ++q->n);
}

uint64_t
remote_queue_due_ns(const struct remote_queue *q)
{
	return q->n > 0 ? q->heap[1]->due_ns : UINT64_MAX;
}
