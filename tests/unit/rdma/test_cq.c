/* SPDX-License-Identifier: MIT */
/* Bounded, fair, and no completion is forgotten. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_verbs.h"

struct fixture {
	struct ev_loop *loop;
	struct vrb_cq cq;
	struct fake_cq *fake;
	struct spin spin;
	struct vrb_wr wr;
	unsigned n_done;
	unsigned n_drained;
	unsigned n_broken;
	unsigned n_more; /* completions that come while one is handled */
	int error;
};

static void
wr_done(struct vrb_wr *wr, const struct ibv_wc *wc)
{
	struct fixture *f = container_of(wr, struct fixture, wr);

	assert_int_equal(wc->status, IBV_WC_SUCCESS);
	f->n_done++;
	if (f->n_more > 0) {
		f->n_more--;
		f->cq.outstanding++;
		fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	}
}

static void
drained(void *arg)
{
	((struct fixture *)arg)->n_drained++;
}

static void
broken(void *arg, int error)
{
	struct fixture *f = arg;

	f->n_broken++;
	f->error = error;
}

static void
complete(struct fixture *f, unsigned n)
{
	while (n-- > 0) {
		f->cq.outstanding++;
		fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	}
}

static int
setup(void **state)
{
	static const struct vrb_cq_events events = {.drained = drained, .broken = broken};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->loop = ev_loop_new(0);
	f->wr.done = wr_done;
	assert_int_equal(vrb_cq_init(&f->cq, f->loop, fake_context(), 2000, &events, f), 0);
	f->fake = (struct fake_cq *)f->cq.cq;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	vrb_cq_fini(&f->cq);
	vrb_cq_fini(&f->cq);
	spin_stop(&f->spin);
	ev_loop_destroy(f->loop);
	free(f);
	return 0;
}

struct other {
	ev_io io;
	struct fixture *f;
	unsigned n;
	unsigned n_before_end; /* turns it got while completions waited */
};

static void
other_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct other *o = container_of(w, struct other, io);

	(void)loop;
	(void)revents;
	o->n++;
	o->f->fake->drained = 0;
	if (o->f->n_done < 1000)
		o->n_before_end++;
}

static void
thousand_completions__others_have_their_turn(void **state)
{
	struct fixture *f = *state;
	struct other o = {.f = f};
	const int fd = eventfd(1, 0);
	unsigned turns;

	ev_io_init(&o.io, other_cb, fd, EV_READ);
	ev_io_start(f->loop, &o.io);
	complete(f, 1000);
	for (turns = 0; f->n_done < 1000 && turns < 100; turns++)
		ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->n_done, 1000);
	assert_int_equal(f->cq.outstanding, 0);
	assert_true(turns >= 1000 / (VRB_CQ_BUDGET + 16));
	assert_true(o.n_before_end + 2 >= turns);
	assert_true(f->fake->max_drained <= 2 * (VRB_CQ_BUDGET + 16));
	/* No backlog: the loop sleeps again. */
	fake_turns(f->loop, 3);
	assert_false(ev_is_active(&f->cq.again));
	assert_false(ev_is_active(&f->cq.keep_awake));
	assert_true(f->fake->is_armed);
	ev_io_stop(f->loop, &o.io);
	(void)close(fd);
}

static unsigned
next_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void
none_forgotten__at_any_moment(void **state)
{
	struct fixture *f = *state;
	unsigned random = 1, round, total = 0;

	for (round = 0; round < 500; round++) {
		const unsigned n = next_random(&random) % 100;
		const unsigned more = next_random(&random) % 100;

		complete(f, n);
		f->n_more = n > 0 ? more : 0;
		total += n + f->n_more;
		/* At worst one comes out at a time, as each brings the next. */
		fake_turns(f->loop, n + more + 2);
		assert_int_equal(f->n_done, total);
	}
	assert_true(f->n_drained > 0);
	assert_int_equal(f->fake->n_unacked, 0);
}

static void
broken__poll_fails(void **state)
{
	struct fixture *f = *state;

	complete(f, 1);
	f->fake->poll_error = -1;
	fake_turns(f->loop, 5);
	assert_int_equal(f->n_broken, 1);
	assert_int_equal(f->error, -EIO);
	assert_int_equal(f->n_done, 0);
}

static void
broken__arm_fails(void **state)
{
	struct fixture *f = *state;

	f->fake->arm_error = ENODEV;
	complete(f, 1);
	fake_turns(f->loop, 5);
	assert_int_equal(f->n_broken, 1);
	assert_int_equal(f->error, -ENODEV);
}

/* Turns of a loop that polls, with so many completions in each. */
static void
poll_turns(struct fixture *f, unsigned turns, unsigned each)
{
	while (turns-- > 0) {
		complete(f, each);
		ev_run(f->loop, EVRUN_NOWAIT);
	}
}

static bool
start_spinning(struct fixture *f)
{
	spin_start(&f->spin, f->loop, 100000000);
	f->spin.length.length_ns = f->spin.length.limit_ns;
	ev_run(f->loop, EVRUN_NOWAIT);
	return spin_is_polling(&f->spin);
}

static void
polling__needs_one_event(void **state)
{
	struct fixture *f = *state;

	if (!start_spinning(f))
		skip(); /* one processor */
	poll_turns(f, 100, 2);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->n_done, 200);
	assert_false(f->fake->is_armed);
	assert_false(ev_is_active(&f->cq.keep_awake));
	/* What is found counts as work, an empty queue does not. */
	assert_int_equal(f->spin.length.begun_ns, f->spin.length.seen_ns);
	poll_turns(f, 3, 0);
	assert_true(f->spin.length.begun_ns < f->spin.length.seen_ns);
}

static void
polling__ends_with_an_armed_queue(void **state)
{
	struct fixture *f = *state;
	unsigned total = 0;

	if (!start_spinning(f))
		skip();
	for (unsigned round = 0; round < 50; round++) {
		poll_turns(f, 3, 1);
		/* It arrives after the last look, and before the queue is armed. */
		complete(f, round % 3);
		spin_hold(&f->spin, true);
		total += 3 + round % 3;
		fake_turns(f->loop, 2);
		assert_true(f->fake->is_armed);
		assert_int_equal(f->n_done, total);
		/* Armed: it is heard of. */
		complete(f, 1);
		total++;
		fake_turns(f->loop, 2);
		assert_int_equal(f->n_done, total);
		spin_hold(&f->spin, false);
		ev_run(f->loop, EVRUN_NOWAIT);
	}
	assert_int_equal(f->fake->n_unacked, 0);
}

static void
polling__backlog_is_bounded(void **state)
{
	struct fixture *f = *state;

	if (!start_spinning(f))
		skip();
	poll_turns(f, 2, 1);
	complete(f, 1000);
	f->fake->drained = 0;
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_true(f->fake->drained <= VRB_CQ_BUDGET + 16);
	fake_turns(f->loop, 20);
	assert_int_equal(f->n_done, 1002);
}

static void
polling__spin_stops(void **state)
{
	struct fixture *f = *state;

	if (!start_spinning(f))
		skip();
	poll_turns(f, 3, 1);
	complete(f, 1);
	spin_stop(&f->spin);
	fake_turns(f->loop, 2);
	assert_int_equal(f->n_done, 4);
	assert_true(f->fake->is_armed);
}

static void
polling__arm_fails(void **state)
{
	struct fixture *f = *state;

	if (!start_spinning(f))
		skip();
	poll_turns(f, 3, 1);
	f->fake->arm_error = ENODEV;
	spin_hold(&f->spin, true);
	fake_turns(f->loop, 3);
	assert_int_equal(f->n_broken, 1);
	assert_int_equal(f->error, -ENODEV);
}

static void
polling__queue_goes(void **state)
{
	struct fixture *f = *state;

	if (!start_spinning(f))
		skip();
	poll_turns(f, 3, 1);
	vrb_cq_fini(&f->cq);
	fake_turns(f->loop, 3);
	spin_stop(&f->spin);
}

#define POLLING(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(thousand_completions__others_have_their_turn, setup,
						teardown),
		cmocka_unit_test_setup_teardown(none_forgotten__at_any_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(broken__poll_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(broken__arm_fails, setup, teardown),
		POLLING(polling__needs_one_event),
		POLLING(polling__ends_with_an_armed_queue),
		POLLING(polling__backlog_is_bounded),
		POLLING(polling__spin_stops),
		POLLING(polling__arm_fails),
		POLLING(polling__queue_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
