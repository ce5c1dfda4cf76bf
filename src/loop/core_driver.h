/* SPDX-License-Identifier: MIT */
/*
 * core_driver.h - gives a pure core its turns.
 *
 * The core's advance(core, now_ns) runs once per loop turn, before the poll
 * (LOOP_PRI_RUN), and says when it wants to run next: then a timer wakes the
 * loop, or, when that is now, the poll does not block.
 */
#ifndef LOOP_CORE_DRIVER_H
#define LOOP_CORE_DRIVER_H

#include <stdint.h>

#include <ev.h>

typedef uint64_t core_advance_fn(void *core, uint64_t now_ns);

struct turn_clock;

struct core_driver {
	ev_prepare prepare;
	ev_timer timer;
	ev_idle idle;
	struct ev_loop *loop;
	struct turn_clock *clock;
	core_advance_fn *advance;
	void *core;
	uint64_t timer_ns; /* while it is active: when the core asked for it */
};

/*
 * Starts at once.  @cd stays in place until core_driver_stop().
 * @clock: says what time it is; NULL: the clock is read in each turn.
 */
void core_driver_start(struct core_driver *cd, struct ev_loop *loop, struct turn_clock *clock,
		       core_advance_fn *advance, void *core);
void core_driver_stop(struct core_driver *cd);

#endif /* LOOP_CORE_DRIVER_H */
