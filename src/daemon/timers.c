/* SPDX-License-Identifier: MIT */
/* Armed at the end, due at the beginning. */
#include "daemon/timers.h"

void
timers_init(struct timers *q, uint64_t length_ns)
{
	q->length_ns = length_ns;
	list_init(&q->queue);
}

void
timer_init(struct timer *t)
{
	list_init(&t->node);
}

void
timer_arm(struct timers *q, struct timer *t)
{
	list_del(&t->node);
	list_add_tail(&q->queue, &t->node);
	t->deadline_ns = 0;
}

void
timer_disarm(struct timer *t)
{
	list_del(&t->node);
}

static struct timer *
timer_at(struct list *n)
{
	return container_of(n, struct timer, node);
}

struct timer *
timers_due(struct timers *q, uint64_t now_ns, uint64_t *next_ns)
{
	struct timer *t;

	for (struct list *n = q->queue.prev; n != &q->queue && timer_at(n)->deadline_ns == 0;
	     n = n->prev)
		timer_at(n)->deadline_ns = now_ns + q->length_ns;
	if (list_is_empty(&q->queue))
		return NULL;
	t = timer_at(q->queue.next);
	if (t->deadline_ns <= now_ns) {
		timer_disarm(t);
		return t;
	}
	if (t->deadline_ns < *next_ns)
		*next_ns = t->deadline_ns;
	return NULL;
}
