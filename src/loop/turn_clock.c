/* SPDX-License-Identifier: MIT */
#include "loop/turn_clock.h"

#include "common/list.h"

static void
check_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	(void)loop;
	(void)revents;
	container_of(w, struct turn_clock, check)->now_ns = 0;
}

void
turn_clock_start(struct turn_clock *c, struct ev_loop *loop)
{
	c->loop = loop;
	c->now_ns = 0;
	ev_check_init(&c->check, check_cb);
	/* Before whatever the poll has woken up. */
	ev_set_priority(&c->check, EV_MAXPRI);
	ev_check_start(loop, &c->check);
	/* It waits for nothing, so it must not keep the loop alive. */
	ev_unref(loop);
}

void
turn_clock_stop(struct turn_clock *c)
{
	ev_ref(c->loop);
	ev_check_stop(c->loop, &c->check);
}
