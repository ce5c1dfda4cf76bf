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
#include "loop/spin.h"

struct fixture {
	struct ev_loop *loop;
	struct vrb_cq_set set;
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
		vrb_cq_posted(&f->cq, 1);
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
		vrb_cq_posted(&f->cq, 1);
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
	vrb_cq_set_start(&f->set, f->loop);
	assert_int_equal(
		vrb_cq_init(&f->cq, VRB_CQ_SEND, &f->set, fake_context(), 2000, &events, f), 0);
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
	vrb_cq_set_stop(&f->set);
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
	vrb_cq_posted(&f->cq, 1);
	fake_turns(f->loop, 3);
	assert_false(ev_is_active(&f->cq.look));
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
	/* Whatever the machine has. */
	f->spin.is_alone = false;
	f->spin.length.length_ns = f->spin.length.limit_ns;
	ev_run(f->loop, EVRUN_NOWAIT);
	return spin_is_polling(&f->spin);
}

static void
nothing_outstanding__is_not_armed(void **state)
{
	struct fixture *f = *state;

	fake_turns(f->loop, 3);
	assert_int_equal(f->fake->n_armed, 0);
	complete(f, 2);
	fake_turns(f->loop, 5);
	assert_int_equal(f->n_done, 2);
	assert_int_equal(f->fake->n_armed, 1);
	assert_false(ev_is_active(&f->cq.look));
}

static void
post_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)revents;
	vrb_cq_posted(&((struct fixture *)w->data)->cq, 1);
	ev_prepare_stop(loop, w);
}

/* Doorbells are rung in a prepare watcher: the poll right after it must not sleep deaf. */
static void
posted__just_before_the_poll_is_armed(void **state)
{
	struct fixture *f = *state;
	ev_prepare post;

	ev_prepare_init(&post, post_cb);
	ev_set_priority(&post, LOOP_PRI_FLUSH);
	post.data = f;
	ev_prepare_start(f->loop, &post);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->cq.outstanding, 1);
	assert_true(f->fake->is_armed);
}

/* Between the last look and arming: no event comes of it. */
static void
arming__what_came_before_is_taken(void **state)
{
	struct fixture *f = *state;

	vrb_cq_posted(&f->cq, 2);
	fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->n_done, 1);
	assert_true(f->fake->is_armed);
	/* A turn for what follows from it, then the loop sleeps. */
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_false(ev_is_active(&f->cq.keep_awake));
	fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->n_done, 2);
	assert_int_equal(f->fake->n_unacked, 0);
}

static void
polling__needs_no_event(void **state)
{
	struct fixture *f = *state;

	assert_true(start_spinning(f));
	poll_turns(f, 100, 2);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_int_equal(f->n_done, 200);
	assert_int_equal(f->fake->n_armed, 0);
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

	assert_true(start_spinning(f));
	for (unsigned round = 0; round < 50; round++) {
		poll_turns(f, 3, 1);
		/* It arrives after the last look, and before the queue is armed. */
		complete(f, round % 3);
		vrb_cq_posted(&f->cq, 1);
		spin_hold(&f->spin, true);
		total += 3 + round % 3;
		fake_turns(f->loop, 2);
		assert_true(f->fake->is_armed);
		assert_int_equal(f->n_done, total);
		/* Armed: it is heard of. */
		fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
		total++;
		fake_turns(f->loop, 2);
		assert_int_equal(f->n_done, total);
		spin_hold(&f->spin, false);
		ev_run(f->loop, EVRUN_NOWAIT);
	}
	assert_int_equal(f->fake->n_unacked, 0);
}

/* What polling on one processor goes by. */
static void
expected__while_something_is_outstanding(void **state)
{
	struct fixture *f = *state;

	(void)start_spinning(f);
	assert_int_equal(f->spin.expected, 0);
	vrb_cq_posted(&f->cq, 2);
	assert_int_equal(f->spin.expected, 1);
	fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	fake_turns(f->loop, 2);
	assert_int_equal(f->spin.expected, 1);
	fake_complete(f->fake, (uintptr_t)&f->wr, IBV_WC_SUCCESS, 0);
	fake_turns(f->loop, 2);
	assert_int_equal(f->spin.expected, 0);
	/* The end of a connection takes them along. */
	vrb_cq_posted(&f->cq, 1);
	assert_int_equal(f->spin.expected, 1);
	vrb_cq_fini(&f->cq);
	assert_int_equal(f->spin.expected, 0);
}

static void
expected__no_message_of_a_peer(void **state)
{
	struct fixture *f = *state;

	(void)start_spinning(f);
	f->cq.kind = VRB_CQ_RECEIVE;
	vrb_cq_posted(&f->cq, 2);
	assert_int_equal(f->spin.expected, 0);
}

static void
polling__backlog_is_bounded(void **state)
{
	struct fixture *f = *state;

	assert_true(start_spinning(f));
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

	assert_true(start_spinning(f));
	poll_turns(f, 3, 1);
	complete(f, 1);
	vrb_cq_posted(&f->cq, 1);
	spin_stop(&f->spin);
	fake_turns(f->loop, 2);
	assert_int_equal(f->n_done, 4);
	assert_true(f->fake->is_armed);
}

static void
polling__arm_fails(void **state)
{
	struct fixture *f = *state;

	assert_true(start_spinning(f));
	poll_turns(f, 3, 1);
	f->fake->arm_error = ENODEV;
	vrb_cq_posted(&f->cq, 1);
	spin_hold(&f->spin, true);
	fake_turns(f->loop, 3);
	assert_int_equal(f->n_broken, 1);
	assert_int_equal(f->error, -ENODEV);
}

static void
polling__queue_goes(void **state)
{
	struct fixture *f = *state;

	assert_true(start_spinning(f));
	poll_turns(f, 3, 1);
	vrb_cq_fini(&f->cq);
	fake_turns(f->loop, 3);
	spin_stop(&f->spin);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(thousand_completions__others_have_their_turn),
		TEST(none_forgotten__at_any_moment),
		TEST(broken__poll_fails),
		TEST(broken__arm_fails),
		TEST(nothing_outstanding__is_not_armed),
		TEST(posted__just_before_the_poll_is_armed),
		TEST(arming__what_came_before_is_taken),
		TEST(polling__needs_no_event),
		TEST(polling__ends_with_an_armed_queue),
		TEST(polling__backlog_is_bounded),
		TEST(polling__spin_stops),
		TEST(polling__arm_fails),
		TEST(polling__queue_goes),
		TEST(expected__while_something_is_outstanding),
		TEST(expected__no_message_of_a_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
