/* SPDX-License-Identifier: MIT */
/* A core gets its turns: at its deadlines, before the others of a turn, and when told "now". */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>

#include "common/page.h"
#include "loop/clock.h"
#include "loop/core_driver.h"
#include "loop/defer.h"
#include "loop/turn_clock.h"

struct world {
	struct ev_loop *loop;
	struct core_driver driver;
	ev_timer other;
	unsigned turns;
	unsigned wanted;
	unsigned others;
	uint64_t deadline_ns;
	uint64_t period_ns; /* 0: the deadline is now */
	uint64_t last_ns;
};

static uint64_t
advance_cb(void *core, uint64_t now_ns)
{
	struct world *w = core;

	assert_true(now_ns >= w->last_ns);
	w->last_ns = now_ns;
	if (w->period_ns == UINT64_MAX)
		return UINT64_MAX;
	if (now_ns >= w->deadline_ns) {
		w->deadline_ns = now_ns + w->period_ns;
		if (++w->turns == w->wanted)
			ev_break(w->loop, EVBREAK_ALL);
	}
	return w->deadline_ns;
}

static void
other_cb(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct world *w = t->data;

	(void)loop;
	(void)revents;
	w->others++;
	if (w->period_ns == UINT64_MAX && w->others == w->wanted)
		ev_break(w->loop, EVBREAK_ALL);
}

static int
set_up(void **state)
{
	static struct world w;

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO)};
	ev_timer_init(&w.other, other_cb, 0.001, 0.001);
	w.other.data = &w;
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	core_driver_stop(&w->driver);
	core_driver_stop(&w->driver);
	ev_timer_stop(w->loop, &w->other);
	ev_loop_destroy(w->loop);
	return 0;
}

static void
deadline__is_kept(void **state)
{
	struct world *w = *state;
	uint64_t begun_ns = clock_now_ns();

	w->period_ns = 2 * NSEC_PER_MSEC;
	w->wanted = 6;
	core_driver_start(&w->driver, w->loop, NULL, advance_cb, w);
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->turns, w->wanted);
	/* The first one is due at once. */
	assert_true(clock_now_ns() - begun_ns >= 5 * w->period_ns);
}

static void
deadline__now_does_not_starve_others(void **state)
{
	struct world *w = *state;

	w->wanted = 2000000; /* far more than other_cb() below lets happen */
	w->period_ns = 0;
	ev_timer_start(w->loop, &w->other);
	core_driver_start(&w->driver, w->loop, NULL, advance_cb, w);
	while (w->others < 3)
		(void)ev_run(w->loop, EVRUN_ONCE);
	assert_true(w->turns > 3);
}

static void
deadline__none_still_runs_once_a_turn(void **state)
{
	struct world *w = *state;

	w->period_ns = UINT64_MAX;
	w->wanted = 3;
	ev_timer_start(w->loop, &w->other);
	core_driver_start(&w->driver, w->loop, NULL, advance_cb, w);
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->others, 3);
	assert_true(w->last_ns > 0);
}

/* The core's time is that of what the same poll woke up. */
static void
clock__of_the_turn(void **state)
{
	struct world *w = *state;
	struct turn_clock clock;

	turn_clock_start(&clock, w->loop);
	w->period_ns = NSEC_PER_MSEC;
	w->wanted = 3;
	core_driver_start(&w->driver, w->loop, &clock, advance_cb, w);
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->turns, w->wanted);
	assert_int_equal(w->last_ns, turn_clock_now(&clock));
	turn_clock_stop(&clock);
}

/* What a core asks for at its n-th turn. */
static uint64_t
moving_cb(void *core, uint64_t now_ns)
{
	struct world *w = core;

	w->turns++;
	if (now_ns >= w->deadline_ns && w->deadline_ns > 0)
		ev_break(w->loop, EVBREAK_ALL);
	else if (w->turns == w->wanted)
		w->deadline_ns = now_ns + w->period_ns;
	return w->deadline_ns > 0 ? w->deadline_ns : now_ns + 3600 * NSEC_PER_SEC;
}

static void
deadline__that_comes_nearer_is_kept(void **state)
{
	struct world *w = *state;
	uint64_t begun_ns = clock_now_ns();

	w->wanted = 3;
	w->period_ns = 5 * NSEC_PER_MSEC;
	ev_timer_set(&w->other, 0.001, 0.0);
	ev_timer_start(w->loop, &w->other);
	core_driver_start(&w->driver, w->loop, NULL, moving_cb, w);
	(void)ev_run(w->loop, EVRUN_NOWAIT);
	(void)ev_run(w->loop, EVRUN_ONCE);
	(void)ev_run(w->loop, 0);
	assert_true(clock_now_ns() >= w->deadline_ns);
	assert_true(clock_now_ns() - begun_ns < 600 * NSEC_PER_SEC);
}

/* The timer ends at what was asked for first, and no turn is lost by that. */
static void
deadline__that_moves_away_is_kept(void **state)
{
	struct world *w = *state;

	w->deadline_ns = clock_now_ns() + 2 * NSEC_PER_MSEC;
	w->wanted = 2;
	w->period_ns = 20 * NSEC_PER_MSEC;
	core_driver_start(&w->driver, w->loop, NULL, moving_cb, w);
	(void)ev_run(w->loop, EVRUN_NOWAIT);
	(void)ev_run(w->loop, 0);
	assert_true(clock_now_ns() >= w->deadline_ns);
	assert_true(w->turns >= 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(deadline__is_kept),
		TEST(deadline__now_does_not_starve_others),
		TEST(deadline__none_still_runs_once_a_turn),
		TEST(clock__of_the_turn),
		TEST(deadline__that_comes_nearer_is_kept),
		TEST(deadline__that_moves_away_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
