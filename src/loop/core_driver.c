/* SPDX-License-Identifier: MIT */
#include "loop/core_driver.h"

#include "common/list.h"
#include "common/page.h"
#include "loop/clock.h"
#include "loop/defer.h"
#include "loop/turn_clock.h"

/* The loop's own deadlines are far shorter; this keeps the sum in range. */
#define TIMER_SECONDS_MAX 3600.0

static void
idle_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

/* Nothing to do here: waking the loop is what matters, prepare does the rest. */
static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

/*
 * Deadlines mostly move back, one operation's after the other's.  The timer is left where
 * it is then, and sees when it ends what is next: that is seldom, and turns are many.
 */
static void
set_timer(struct core_driver *cd, uint64_t now_ns, uint64_t next_ns)
{
	double seconds;

	if (next_ns == UINT64_MAX || (ev_is_active(&cd->timer) && cd->timer_ns <= next_ns))
		return;
	seconds = (double)(next_ns - now_ns) / (double)NSEC_PER_SEC;
	ev_timer_stop(cd->loop, &cd->timer);
	ev_timer_set(&cd->timer, seconds < TIMER_SECONDS_MAX ? seconds : TIMER_SECONDS_MAX, 0.0);
	ev_timer_start(cd->loop, &cd->timer);
	cd->timer_ns = next_ns;
}

static void
prepare_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct core_driver *cd = container_of(w, struct core_driver, prepare);
	const uint64_t now_ns = cd->clock ? turn_clock_now(cd->clock) : clock_now_ns();
	const uint64_t next_ns = cd->advance(cd->core, now_ns);

	(void)revents;
	if (next_ns <= now_ns) {
		ev_idle_start(loop, &cd->idle);
		return;
	}
	ev_idle_stop(loop, &cd->idle);
	set_timer(cd, now_ns, next_ns);
}

void
core_driver_start(struct core_driver *cd, struct ev_loop *loop, struct turn_clock *clock,
		  core_advance_fn *advance, void *core)
{
	cd->loop = loop;
	cd->clock = clock;
	cd->advance = advance;
	cd->core = core;
	ev_prepare_init(&cd->prepare, prepare_cb);
	ev_set_priority(&cd->prepare, LOOP_PRI_RUN);
	ev_timer_init(&cd->timer, timer_cb, 0.0, 0.0);
	ev_idle_init(&cd->idle, idle_cb);
	ev_prepare_start(loop, &cd->prepare);
}

void
core_driver_stop(struct core_driver *cd)
{
	ev_prepare_stop(cd->loop, &cd->prepare);
	ev_timer_stop(cd->loop, &cd->timer);
	ev_idle_stop(cd->loop, &cd->idle);
}
