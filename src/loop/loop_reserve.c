/* SPDX-License-Identifier: MIT */
/*
 * There is no call for it, so it is done by use: watchers are started, descriptors
 * are made ready, all in one turn, and everything is stopped again.
 */
#include "loop/loop_reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* epoll's array of results doubles when a poll has filled it. */
#define TURNS_MAX 16
/* Of one descriptor or session, in one turn: read, write, timer, and what defers. */
#define PENDING_EACH 4u

union dummy {
	ev_watcher any;
	ev_io io;
	ev_timer timer;
	ev_idle idle;
	ev_prepare prepare;
	ev_check check;
	ev_async async;
};

static void
io_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
idle_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
prepare_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
check_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

/* Pending events of one priority. */
static void
grow_pending(struct ev_loop *loop, union dummy *dummies, uint32_t n, int priority)
{
	for (uint32_t i = 0; i < n; i++) {
		ev_init(&dummies[i].any, NULL);
		ev_set_cb(&dummies[i].timer, timer_cb);
		ev_set_priority(&dummies[i].any, priority);
		ev_feed_event(loop, &dummies[i].any, 0);
	}
	for (uint32_t i = 0; i < n; i++)
		(void)ev_clear_pending(loop, &dummies[i].any);
}

static void
grow_idles(struct ev_loop *loop, union dummy *dummies, uint32_t n, int priority)
{
	for (uint32_t i = 0; i < n; i++) {
		ev_idle_init(&dummies[i].idle, idle_cb);
		ev_set_priority(&dummies[i].idle, priority);
		ev_idle_start(loop, &dummies[i].idle);
	}
	for (uint32_t i = 0; i < n; i++)
		ev_idle_stop(loop, &dummies[i].idle);
}

/* The heap of timers, and the list of those that expire in one turn. */
static void
grow_timers(struct ev_loop *loop, union dummy *dummies, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		ev_timer_init(&dummies[i].timer, timer_cb, 0., 0.);
		ev_timer_start(loop, &dummies[i].timer);
	}
	(void)ev_run(loop, EVRUN_NOWAIT);
	for (uint32_t i = 0; i < n; i++)
		ev_timer_stop(loop, &dummies[i].timer);
}

static void
grow_others(struct ev_loop *loop, union dummy *dummies, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		ev_prepare_init(&dummies[i].prepare, prepare_cb);
		ev_prepare_start(loop, &dummies[i].prepare);
	}
	for (uint32_t i = 0; i < n; i++)
		ev_prepare_stop(loop, &dummies[i].prepare);
	for (uint32_t i = 0; i < n; i++) {
		ev_check_init(&dummies[i].check, check_cb);
		ev_check_start(loop, &dummies[i].check);
	}
	for (uint32_t i = 0; i < n; i++)
		ev_check_stop(loop, &dummies[i].check);
}

/* Descriptors, their changes, and what a poll returns: all of them ready at once. */
static int
grow_descriptors(struct ev_loop *loop, union dummy *dummies, uint32_t n)
{
	const int first_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	uint32_t open_count = 0;
	int r = 0;

	if (first_fd < 0)
		return -errno;
	while (open_count < n) {
		const int fd = fcntl(first_fd, F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			r = -errno;
			break;
		}
		ev_io_init(&dummies[open_count].io, io_cb, fd, EV_READ);
		ev_io_start(loop, &dummies[open_count].io);
		open_count++;
	}
	for (uint32_t turn = 0; turn < TURNS_MAX && open_count > 0; turn++)
		(void)ev_run(loop, EVRUN_NOWAIT);
	while (open_count > 0) {
		ev_io *w = &dummies[--open_count].io;

		ev_io_stop(loop, w);
		(void)close(w->fd);
	}
	(void)close(first_fd);
	return r;
}

int
loop_reserve(struct ev_loop *loop, uint32_t watchers)
{
	const uint32_t pending = PENDING_EACH * watchers;
	union dummy *dummies = calloc(pending, sizeof(*dummies));
	int r;

	if (!dummies)
		return -ENOMEM;
	for (int priority = EV_MINPRI; priority <= EV_MAXPRI; priority++) {
		grow_pending(loop, dummies, pending, priority);
		grow_idles(loop, dummies, watchers, priority);
	}
	grow_timers(loop, dummies, watchers);
	grow_others(loop, dummies, watchers);
	r = grow_descriptors(loop, dummies, watchers);
	free(dummies);
	return r;
}
