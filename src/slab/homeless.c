/* SPDX-License-Identifier: MIT */
#include "slab/homeless.h"

#include <errno.h>

#include "slab/core.h"

/* Between two looks; a slab that was mapped is looked at in the same turn. */
#define LOOK_NS (10 * NSEC_PER_MSEC)
/* Without a home for so many op_timeouts: a MAP alone may take all of them. */
#define HOMELESS_TIMEOUTS MAP_ANSWER_TIMEOUTS
/* homeless_since_ns: nobody has waited since a slab was mapped or lost. */
#define NOBODY_WAITED UINT64_MAX

static uint64_t
patience_ns(const struct slab_device *d)
{
	return HOMELESS_TIMEOUTS * d->config.op_timeout_ns;
}

void
homeless_submitted(struct piece *p)
{
	/* From here on, not from its turn: each of many writes of a page would wait anew. */
	p->wait_until_ns = device_now(p->dev) + 2 * patience_ns(p->dev);
}

static void
wait_on(struct piece *p)
{
	struct slab_device *d = p->dev;

	list_add_tail(&d->homeless, &p->wait_node);
	/* Not from each write on: what does not fit the buffers would wait for all before it. */
	if (d->homeless_since_ns == NOBODY_WAITED)
		d->homeless_since_ns = device_now(d);
}

void
homeless_init(struct slab_device *d)
{
	list_init(&d->homeless);
	d->homeless_since_ns = NOBODY_WAITED;
}

void
homeless_add(struct piece *p)
{
	wait_on(p);
	if (!p->dev->homeless_timer.is_armed)
		core_timer_arm(&p->dev->homeless_timer, LOOK_NS);
}

void
homeless_look(struct slab_device *d)
{
	d->homeless_since_ns = NOBODY_WAITED;
	if (!list_is_empty(&d->homeless))
		core_timer_arm(&d->homeless_timer, 0);
}

static bool
is_overdue(const struct piece *p, uint64_t now_ns)
{
	const struct slab_device *d = p->dev;
	const bool is_unasked = d->arena.slabs[piece_slab(p)].state == SLAB_STATE_UNMAPPED;

	return now_ns >= p->wait_until_ns || (is_unasked && d->homeless_since_ns != NOBODY_WAITED &&
					      now_ns >= d->homeless_since_ns + patience_ns(d));
}

static void
look_at(struct piece *p, uint64_t now_ns)
{
	struct slab_device *d = p->dev;
	const uint32_t slab = piece_slab(p);

	slab_want(d, slab);
	if (slab_is_mapped(d, slab)) {
		write_rehome(p);
		return;
	}
	/* How long a slab may be on its way back is its daemon's deadline's matter. */
	if (d->arena.slabs[slab].state == SLAB_STATE_EVICTING)
		p->wait_until_ns = now_ns + 2 * patience_ns(d);
	if (d->is_stopping || is_overdue(p, now_ns))
		write_give_up(p, -ENOSPC);
	else
		wait_on(p);
}

uint64_t
homeless_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	struct list again;
	struct list *node;

	if (list_is_empty(&d->homeless) || !core_timer_is_due(&d->homeless_timer, now_ns, &next_ns))
		return next_ns;
	list_init(&again);
	list_splice_tail(&again, &d->homeless);
	while ((node = list_pop_head(&again)) != NULL)
		look_at(container_of(node, struct piece, wait_node), now_ns);
	if (!list_is_empty(&d->homeless)) {
		core_timer_arm(&d->homeless_timer, LOOK_NS);
		(void)core_timer_is_due(&d->homeless_timer, now_ns, &next_ns);
	}
	return next_ns;
}
