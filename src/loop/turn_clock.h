/* SPDX-License-Identifier: MIT */
/*
 * turn_clock.h - the time for everything that is measured: read once for many.
 *
 * The clock is read when somebody asks for the first time after the poll.  All that
 * happens until the next one has the same time, unless whoever spent some of it says so
 * (turn_clock_update()).  It never goes back.
 */
#ifndef LOOP_TURN_CLOCK_H
#define LOOP_TURN_CLOCK_H

#include <ev.h>
#include <stdint.h>

#include "loop/clock.h"

struct turn_clock {
	struct ev_loop *loop;
	ev_check check;
	uint64_t now_ns; /* 0: not read yet */
};

/* @c stays in place until turn_clock_stop(). */
void turn_clock_start(struct turn_clock *c, struct ev_loop *loop);
void turn_clock_stop(struct turn_clock *c);

static inline void
turn_clock_update(struct turn_clock *c)
{
	c->now_ns = clock_now_ns();
}

static inline uint64_t
turn_clock_now(struct turn_clock *c)
{
	if (c->now_ns == 0)
		turn_clock_update(c);
	return c->now_ns;
}

#endif /* LOOP_TURN_CLOCK_H */
