/* SPDX-License-Identifier: MIT */
/* SIGTERM and SIGINT reach the callback, SIGPIPE reaches nobody, and the loop may end. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "loop/signals.h"

struct world {
	struct ev_loop *loop;
	struct signals signals;
	int last;
	unsigned count;
	unsigned reloads;
};

static void
stop_cb(void *arg, int signal_number)
{
	struct world *w = arg;

	w->last = signal_number;
	w->count++;
}

static void
reload_cb(void *arg)
{
	struct world *w = arg;

	w->reloads++;
}

static void
signals__are_told(void **state)
{
	struct world w = {.loop = ev_default_loop(EVFLAG_AUTO)};
	int fds[2];

	(void)state;
	signals_start(&w.signals, w.loop, stop_cb, &w);
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	while (w.count < 1)
		(void)ev_run(w.loop, EVRUN_NOWAIT);
	assert_int_equal(w.last, SIGTERM);
	assert_int_equal(kill(getpid(), SIGINT), 0);
	while (w.count < 2)
		(void)ev_run(w.loop, EVRUN_NOWAIT);
	assert_int_equal(w.last, SIGINT);
	signals_on_hangup(&w.signals, reload_cb);
	assert_int_equal(kill(getpid(), SIGHUP), 0);
	while (w.reloads < 1)
		(void)ev_run(w.loop, EVRUN_NOWAIT);
	assert_int_equal(pipe(fds), 0);
	(void)close(fds[0]);
	assert_int_equal(write(fds[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	(void)close(fds[1]);
	/* The watchers alone do not keep the loop alive. */
	(void)ev_run(w.loop, 0);
	signals_stop(&w.signals);
	assert_int_equal(w.count, 2);
	ev_loop_destroy(w.loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals__are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
