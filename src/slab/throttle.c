/* SPDX-License-Identifier: MIT */
#include "slab/throttle.h"

#include "slab/core.h"

/* Of the buffers for writes, this part is for what comes while answers are held. */
#define THROTTLE_DIVISOR 2u

static bool
has_room(const struct slab_device *d)
{
	return d->pool.n_free >= d->pool.n_pages / THROTTLE_DIVISOR;
}

void
throttle_answer(struct piece *p)
{
	struct slab_device *d = p->dev;

	piece_answer(p, 0);
	if (has_room(d))
		return;
	list_del(&p->done_node);
	list_add_tail(&d->held_answers, &p->done_node);
	p->is_answer_held = true;
	d->stats.answers_held++;
}

void
throttle_release(struct piece *p)
{
	if (!p->is_answer_held)
		return;
	p->is_answer_held = false;
	list_del(&p->done_node);
	list_add_tail(&p->dev->done_pieces, &p->done_node);
}

bool
throttle_is_due(const struct slab_device *d)
{
	return !list_is_empty(&d->held_answers) && has_room(d);
}

void
throttle_advance(struct slab_device *d, uint64_t now_ns)
{
	/* What was held since the last advance began to be so at a time that nobody knows. */
	if (d->is_throttled)
		d->stats.backup_wait_ns += now_ns - d->now_ns;
	while (throttle_is_due(d))
		throttle_release(container_of(d->held_answers.next, struct piece, done_node));
	d->is_throttled = !list_is_empty(&d->held_answers);
}
