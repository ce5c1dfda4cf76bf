/* SPDX-License-Identifier: MIT */
/* One time for all that a poll has woken up, a later one for the next turn, and never an earlier one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>

#include "loop/turn_clock.h"

struct world {
	struct ev_loop *loop;
	struct turn_clock clock;
	ev_timer timers[2];
	uint64_t seen_ns[2];
};

/* The first spends time without saying so. */
static void
timer_cb(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct world *w = t->data;
	const ptrdiff_t i = t - w->timers;
	const uint64_t begun_ns = clock_now_ns();

	(void)loop;
	(void)revents;
	w->seen_ns[i] = turn_clock_now(&w->clock);
	assert_true(w->seen_ns[i] <= clock_now_ns());
	while (clock_now_ns() < begun_ns + 1000)
		;
}

static void
turn(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		ev_timer_init(&w->timers[i], timer_cb, 0., 0.);
		w->timers[i].data = w;
		ev_timer_start(w->loop, &w->timers[i]);
	}
	(void)ev_run(w->loop, EVRUN_ONCE);
	assert_false(ev_is_active(&w->timers[0]) || ev_is_active(&w->timers[1]));
}

static int
set_up(void **state)
{
	static struct world w;

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO)};
	turn_clock_start(&w.clock, w.loop);
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	turn_clock_stop(&w->clock);
	ev_loop_destroy(w->loop);
	return 0;
}

static void
now__once_a_turn(void **state)
{
	struct world *w = *state;
	uint64_t first_ns;

	turn(w);
	first_ns = w->seen_ns[0];
	assert_int_equal(w->seen_ns[1], first_ns);
	assert_int_equal(turn_clock_now(&w->clock), first_ns);
	turn(w);
	assert_true(w->seen_ns[0] > first_ns);
	assert_int_equal(w->seen_ns[1], w->seen_ns[0]);
}

static void
update__goes_on(void **state)
{
	struct world *w = *state;
	const uint64_t before_ns = turn_clock_now(&w->clock);

	while (clock_now_ns() <= before_ns)
		;
	turn_clock_update(&w->clock);
	assert_true(turn_clock_now(&w->clock) > before_ns);
}

/* It is there for others, and no reason to go on. */
static void
clock__does_not_keep_the_loop_alive(void **state)
{
	struct world *w = *state;

	assert_int_equal(ev_run(w->loop, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(now__once_a_turn),
		TEST(update__goes_on),
		TEST(clock__does_not_keep_the_loop_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
