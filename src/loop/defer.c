/* SPDX-License-Identifier: MIT */
/* ev_feed_event() of an own watcher would starve the poll; an idle and a check do not (ev.pod). */
#include "loop/defer.h"

#include "common/list.h"

static void
idle_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
check_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	struct defer *d = container_of(w, struct defer, check);

	(void)loop;
	(void)revents;
	defer_stop(d);
	d->fn(d->arg);
}

void
defer_init(struct defer *d, struct ev_loop *loop, void (*fn)(void *arg), void *arg)
{
	ev_check_init(&d->check, check_cb);
	ev_idle_init(&d->idle, idle_cb);
	d->loop = loop;
	d->fn = fn;
	d->arg = arg;
}

void
defer_start(struct defer *d)
{
	ev_check_start(d->loop, &d->check);
	ev_idle_start(d->loop, &d->idle);
}

void
defer_stop(struct defer *d)
{
	ev_check_stop(d->loop, &d->check);
	ev_idle_stop(d->loop, &d->idle);
}
