/* SPDX-License-Identifier: MIT */
/* When the server is a real-time task: as soon as memory is short, not longer than that, and
 * only while it works. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/page.h"
#include "loop/clock.h"
#include "loop/defer.h"
#include "loop/spin.h"
#include "programs/realtime.h"

#define LOW (UINT64_C(100) << 20)
#define S NSEC_PER_SEC

/* One look, and what follows from it. */
static bool
look(struct realtime *r, uint64_t free_bytes, uint64_t now_ns)
{
	r->is_on = realtime_wants(r, free_bytes, now_ns);
	return r->is_on;
}

static void
low__covers_a_boosted_watermark(void **state)
{
	(void)state;
	assert_int_equal(realtime_low_bytes(65536), UINT64_C(512) << 20);
	/* 150 % of high, which is 150 % of min, on top of min. */
	assert_true(realtime_low_bytes(65536) > UINT64_C(65536) * 1024 * 13 / 4);
	assert_int_equal(realtime_low_bytes(1000), UINT64_C(32) << 20);
	assert_int_equal(realtime_low_bytes(0), UINT64_C(32) << 20);
}

static void
wants__at_once_when_memory_is_short(void **state)
{
	struct realtime r = {.low_bytes = LOW};

	(void)state;
	assert_false(look(&r, 3 * LOW, S));
	assert_false(look(&r, LOW, S));
	assert_true(look(&r, LOW - 1, S));
	assert_true(look(&r, 0, S));
}

static void
wants__until_there_was_plenty_for_a_second(void **state)
{
	struct realtime r = {.low_bytes = LOW};

	(void)state;
	assert_true(look(&r, LOW - 1, S));
	assert_true(look(&r, 2 * LOW - 1, 9 * S));
	assert_true(look(&r, 2 * LOW, 10 * S));
	assert_true(look(&r, 2 * LOW, 11 * S - 1));
	/* Short for a moment: the second begins again. */
	assert_true(look(&r, 2 * LOW - 1, 11 * S - 1));
	assert_true(look(&r, 2 * LOW, 12 * S));
	assert_true(look(&r, 2 * LOW, 13 * S - 1));
	assert_false(look(&r, 2 * LOW, 13 * S));
	assert_false(look(&r, LOW, 13 * S));
}

static void
calm__is_what_there_is_above_low_at_10_gib_a_second(void **state)
{
	const struct realtime r = {.low_bytes = LOW};

	(void)state;
	assert_int_equal(realtime_calm_ns(&r, 0), NSEC_PER_MSEC);
	assert_int_equal(realtime_calm_ns(&r, LOW), NSEC_PER_MSEC);
	assert_int_equal(realtime_calm_ns(&r, LOW + (UINT64_C(10) << 20)), NSEC_PER_MSEC);
	assert_int_equal(realtime_calm_ns(&r, LOW + (UINT64_C(500) << 20)), 50 * NSEC_PER_MSEC);
	assert_int_equal(realtime_calm_ns(&r, LOW + (UINT64_C(1) << 40)), 100 * NSEC_PER_MSEC);
	assert_int_equal(realtime_calm_ns(&(struct realtime){.low_bytes = UINT64_MAX}, UINT64_MAX),
			 NSEC_PER_MSEC);
}

#define DEADLINE_NS (10 * NSEC_PER_SEC)
#define NEVER_SLEPT (-1)

/* A loop that a thread wakes, and what it was when its watchers ran. */
struct turns {
	struct ev_loop *loop;
	ev_async wake;
	ev_prepare submit; /* as the disk's */
	pthread_t thread;
	pid_t loop_tid;
	int worked_as;
	int submitted_as;
	int waited_as;
};

static void
work_cb(struct ev_loop *loop, ev_async *w, int events)
{
	struct turns *t = w->data;

	(void)loop;
	(void)events;
	t->worked_as = sched_getscheduler(0);
	ev_prepare_start(loop, &t->submit);
}

static void
submit_cb(struct ev_loop *loop, ev_prepare *w, int events)
{
	struct turns *t = w->data;

	(void)events;
	t->submitted_as = sched_getscheduler(0);
	ev_prepare_stop(loop, w);
	ev_break(loop, EVBREAK_ALL);
}

static bool
sleeps(pid_t tid)
{
	char path[64], state = '?';
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = '?';
	(void)fclose(f);
	return state == 'S';
}

static void *
wake(void *arg)
{
	const struct sched_param ordinary = {0};
	const uint64_t deadline_ns = clock_now_ns() + DEADLINE_NS;
	struct turns *t = arg;
	bool is_asleep;

	/* It is what its maker was: on a machine of one processor the loop would wait for it. */
	(void)sched_setscheduler(0, SCHED_OTHER, &ordinary);
	while (!(is_asleep = sleeps(t->loop_tid)) && clock_now_ns() < deadline_ns)
		(void)sched_yield();
	t->waited_as = is_asleep ? sched_getscheduler(t->loop_tid) : NEVER_SLEPT;
	ev_async_send(t->loop, &t->wake);
	return NULL;
}

static struct turns
turns_with(uint64_t low_bytes)
{
	struct turns t = {.loop = ev_loop_new(EVFLAG_AUTO), .loop_tid = gettid()};
	struct spin spin = {0};
	struct realtime r;

	realtime_start(&r, t.loop, low_bytes, &spin);
	/* A first turn looks at the memory. */
	ev_run(t.loop, EVRUN_NOWAIT);
	assert_int_equal(r.is_on, low_bytes > 0);
	assert_int_equal(spin.is_held, r.is_on);
	ev_prepare_init(&t.submit, submit_cb);
	ev_set_priority(&t.submit, LOOP_PRI_DISK);
	t.submit.data = &t;
	ev_async_init(&t.wake, work_cb);
	t.wake.data = &t;
	ev_async_start(t.loop, &t.wake);
	assert_int_equal(pthread_create(&t.thread, NULL, wake, &t), 0);
	ev_run(t.loop, 0);
	assert_int_equal(pthread_join(t.thread, NULL), 0);
	realtime_stop(&r);
	ev_async_stop(t.loop, &t.wake);
	ev_loop_destroy(t.loop);
	(void)realtime_try(); /* ordinary again */
	return t;
}

static void
turn__works_as_a_real_time_task_and_waits_as_an_ordinary_one(void **state)
{
	struct turns t;

	(void)state;
	if (realtime_try() < 0) {
		print_message("this process may not be real-time: it needs CAP_SYS_NICE\n");
		skip();
	}
	t = turns_with(UINT64_MAX);
	assert_int_equal(t.waited_as, SCHED_OTHER);
	assert_int_equal(t.worked_as, SCHED_FIFO);
	assert_int_equal(t.submitted_as, SCHED_FIFO);
	t = turns_with(0); /* there is always enough */
	assert_int_equal(t.waited_as, SCHED_OTHER);
	assert_int_equal(t.worked_as, SCHED_OTHER);
	assert_int_equal(t.submitted_as, SCHED_OTHER);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(low__covers_a_boosted_watermark),
		cmocka_unit_test(wants__at_once_when_memory_is_short),
		cmocka_unit_test(wants__until_there_was_plenty_for_a_second),
		cmocka_unit_test(calm__is_what_there_is_above_low_at_10_gib_a_second),
		cmocka_unit_test(turn__works_as_a_real_time_task_and_waits_as_an_ordinary_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
