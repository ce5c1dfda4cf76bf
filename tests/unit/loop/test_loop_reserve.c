/* SPDX-License-Identifier: MIT */
/* What was reserved is there: no watcher and no event makes libev allocate any more. */
#include "loop/loop_reserve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define WATCHERS 100u

static unsigned int allocations; /* libev's allocator has no argument for it */

static void *
count_realloc(void *p, long bytes)
{
	allocations++;
	if (bytes)
		return realloc(p, (size_t)bytes);
	free(p);
	return NULL;
}

static void
io_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)revents;
	(*(unsigned int *)w->data)++;
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	(*(unsigned int *)w->data)++;
}

/* All watchers at the same time, all of them ready. */
static unsigned int
events_of_one_turn(struct ev_loop *loop)
{
	ev_io io[WATCHERS - 1]; /* the descriptor that is duplicated has one */
	ev_timer timers[WATCHERS];
	unsigned int events = 0;
	const int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	for (unsigned int i = 0; i < WATCHERS - 1; i++) {
		const int copy = dup(fd);

		assert_true(copy >= 0);
		ev_io_init(&io[i], io_cb, copy, EV_READ);
		io[i].data = &events;
		ev_io_start(loop, &io[i]);
	}
	for (unsigned int i = 0; i < WATCHERS; i++) {
		ev_timer_init(&timers[i], timer_cb, 0., 0.);
		timers[i].data = &events;
		ev_timer_start(loop, &timers[i]);
	}
	(void)ev_run(loop, EVRUN_NOWAIT);
	for (unsigned int i = 0; i < WATCHERS - 1; i++) {
		ev_io_stop(loop, &io[i]);
		(void)close(io[i].fd);
	}
	for (unsigned int i = 0; i < WATCHERS; i++)
		ev_timer_stop(loop, &timers[i]);
	(void)close(fd);
	return events;
}

static void
reserve__is_enough(void **state)
{
	struct ev_loop *loop;
	unsigned int before;

	(void)state;
	ev_set_allocator(count_realloc);
	loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(loop);
	assert_int_equal(loop_reserve(loop, WATCHERS), 0);
	before = allocations;
	assert_true(before > 0);
	assert_int_equal(events_of_one_turn(loop), 2 * WATCHERS - 1);
	assert_int_equal(allocations, before);
	ev_loop_destroy(loop);
}

static void
reserve__without_it_libev_allocates(void **state)
{
	struct ev_loop *loop;
	unsigned int before;

	(void)state;
	ev_set_allocator(count_realloc);
	loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(loop);
	before = allocations;
	assert_true(events_of_one_turn(loop) > 0);
	assert_true(allocations > before);
	ev_loop_destroy(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reserve__is_enough),
		cmocka_unit_test(reserve__without_it_libev_allocates),
	};

	return cmocka_run_group_tests_name("loop_reserve", tests, NULL, NULL);
}
