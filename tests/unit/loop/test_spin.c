/* SPDX-License-Identifier: MIT */
/* A loop that polls: it serves everything meanwhile, and sleeps when it shall.  Limits are far from
 * what a busy machine does to times: 100 s is never over, every wait is longer than 1 us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "common/list.h"
#include "loop/spin.h"

#define ENDLESS_US 100000000u
/* So many turns are no sleeping loop's, with timers of milliseconds. */
/* Of 2 ms. */
#define TICKS_MAX 5000u
#define MANY 200u

struct world {
	struct ev_loop *loop;
	struct spin spin;
	ev_timer timer;
	ev_io io;
	int pipe[2];
	unsigned ticks;
	unsigned reads;
};

static void
timer_cb(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct world *w = container_of(t, struct world, timer);

	(void)loop;
	(void)revents;
	w->ticks++;
}

static void
io_cb(struct ev_loop *loop, ev_io *io, int revents)
{
	struct world *w = container_of(io, struct world, io);
	char byte;

	(void)loop;
	(void)revents;
	assert_int_equal(read(w->pipe[0], &byte, 1), 1);
	w->reads++;
}

static bool
has_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

static int
set_up(void **state)
{
	static struct world w;

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO)};
	assert_int_equal(pipe2(w.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	ev_timer_init(&w.timer, timer_cb, 0.002, 0.002);
	ev_timer_start(w.loop, &w.timer);
	ev_io_init(&w.io, io_cb, w.pipe[0], EV_READ);
	ev_io_start(w.loop, &w.io);
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	spin_stop(&w->spin);
	spin_stop(&w->spin);
	ev_timer_stop(w->loop, &w->timer);
	ev_io_stop(w->loop, &w->io);
	ev_loop_destroy(w->loop);
	(void)close(w->pipe[0]);
	(void)close(w->pipe[1]);
	return 0;
}

/* Turns that it takes until the timer has ticked so often. */
static unsigned
run_ticks(struct world *w, unsigned ticks)
{
	const unsigned begun = ev_iteration(w->loop);
	const unsigned wanted = w->ticks + ticks;

	while (w->ticks < wanted)
		(void)ev_run(w->loop, EVRUN_ONCE);
	return ev_iteration(w->loop) - begun;
}

/* Two waits that were slept through, and it polls for as long as the test takes. */
static void
start_spinning(struct world *w)
{
	spin_start(&w->spin, w->loop, ENDLESS_US);
	if (!has_processors())
		skip();
	(void)run_ticks(w, 3);
	w->spin.length.length_ns = w->spin.length.limit_ns;
}

static void
limit__none_sleeps(void **state)
{
	struct world *w = *state;
	struct spin_stats stats;

	spin_start(&w->spin, w->loop, 0);
	assert_true(run_ticks(w, 5) < MANY);
	spin_get_stats(&w->spin, &stats);
	assert_int_equal(stats.limit_ns, 0);
	assert_int_equal(stats.spun_ns, 0);
}

static void
limit__shorter_than_all_waits_sleeps(void **state)
{
	struct world *w = *state;

	spin_start(&w->spin, w->loop, 1);
	assert_true(run_ticks(w, 5) < MANY);
}

static void
waits__short_ones_are_polled_through(void **state)
{
	struct world *w = *state;
	struct spin_stats start, stats;

	start_spinning(w);
	/* A tick that came late while the length was learned may have been waited for in vain. */
	spin_get_stats(&w->spin, &start);
	assert_true(run_ticks(w, 5) > MANY);
	spin_get_stats(&w->spin, &stats);
	/* Where others have the processor a tick is over before it could be waited for. */
	for (unsigned i = 0; i < TICKS_MAX && stats.paid_total < 4; i++) {
		(void)run_ticks(w, 1);
		spin_get_stats(&w->spin, &stats);
	}
	assert_true(stats.paid_total >= 4);
	assert_int_equal(stats.unpaid_total, start.unpaid_total);
	assert_true(stats.spun_ns > 0);
}

static void
spinning__descriptors_are_served(void **state)
{
	struct world *w = *state;

	start_spinning(w);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(write(w->pipe[1], "x", 1), 1);
		/* The turn that finds it, not one later. */
		(void)ev_run(w->loop, EVRUN_NOWAIT);
		assert_int_equal(w->reads, i);
		(void)ev_run(w->loop, EVRUN_NOWAIT);
	}
	/* And timers. */
	(void)run_ticks(w, 3);
}

static void
held__sleeps_until_it_is_not(void **state)
{
	struct world *w = *state;

	start_spinning(w);
	spin_hold(&w->spin, true);
	assert_true(run_ticks(w, 5) < MANY);
	spin_hold(&w->spin, false);
	assert_true(run_ticks(w, 5) > MANY);
}

static void
stopped__sleeps(void **state)
{
	struct world *w = *state;

	start_spinning(w);
	(void)run_ticks(w, 2);
	spin_stop(&w->spin);
	assert_true(run_ticks(w, 5) < MANY);
}

/* Its watchers alone are no reason to go on. */
static void
watchers__keep_no_loop_running(void **state)
{
	struct world *w = *state;

	spin_start(&w->spin, w->loop, ENDLESS_US);
	ev_timer_stop(w->loop, &w->timer);
	ev_io_stop(w->loop, &w->io);
	assert_false(ev_run(w->loop, 0));
}

static void
start_on_one_processor(struct world *w)
{
	cpu_set_t all, one;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
		if (CPU_ISSET(i, &all))
			CPU_SET(i, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	spin_start(&w->spin, w->loop, ENDLESS_US);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	w->spin.length.length_ns = w->spin.length.limit_ns;
}

static void
processors__one_is_left_to_others(void **state)
{
	struct world *w = *state;
	struct spin_stats stats;

	start_on_one_processor(w);
	assert_true(run_ticks(w, 5) < MANY);
	spin_get_stats(&w->spin, &stats);
	assert_int_equal(stats.spun_ns, 0);
	assert_int_equal(stats.paid_total + stats.unpaid_total, 0);
}

/* A device brings it, and needs no processor. */
static void
processors__one_polls_for_what_is_expected(void **state)
{
	struct world *w = *state;
	struct spin_stats stats;

	start_on_one_processor(w);
	spin_expect(&w->spin);
	assert_true(run_ticks(w, 5) > MANY);
	spin_expect_no_more(&w->spin);
	assert_true(run_ticks(w, 5) < MANY);
	spin_get_stats(&w->spin, &stats);
	assert_true(stats.paid_total > 0);
	assert_int_equal(stats.unpaid_total, 0);
	/* What was slept through meanwhile changed nothing of what was learned. */
	assert_int_equal(stats.length_ns, stats.limit_ns);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(limit__none_sleeps),
		TEST(limit__shorter_than_all_waits_sleeps),
		TEST(waits__short_ones_are_polled_through),
		TEST(spinning__descriptors_are_served),
		TEST(held__sleeps_until_it_is_not),
		TEST(stopped__sleeps),
		TEST(watchers__keep_no_loop_running),
		TEST(processors__one_is_left_to_others),
		TEST(processors__one_polls_for_what_is_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
