/* SPDX-License-Identifier: MIT */
/* Messages between two ends: whole, in order, never into nothing; and bad ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_verbs.h"

struct fixture {
	struct ev_loop *loop;
	struct fake_end a, b;
};

static struct tp_conn *
base(struct fake_end *end)
{
	return (struct tp_conn *)&end->conn;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->loop = ev_loop_new(0);
	assert_int_equal(fake_end_init(&f->a, f->loop, 8, 4), 0);
	assert_int_equal(fake_end_init(&f->b, f->loop, 5, 4), 0);
	fake_join(&f->a, &f->b);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	fake_end_fini(&f->a);
	fake_end_fini(&f->b);
	ev_loop_destroy(f->loop);
	free(f);
	return 0;
}

static void
send_all(struct fake_end *from, struct fake_end *to, struct ev_loop *loop, unsigned n)
{
	unsigned i, turns = 0;

	for (i = 0; i < n;) {
		uint32_t value = i;
		const int r = vrb_conn_send(base(from), &value, sizeof(value));

		if (r == 0) {
			i++;
			continue;
		}
		assert_int_equal(r, -EAGAIN);
		fake_turns(loop, 1);
		assert_true(++turns < 10 * n);
	}
	for (turns = 0; to->n_messages < n && turns < 1000; turns++)
		fake_turns(loop, 1);
	assert_int_equal(to->n_messages, n);
	assert_int_equal(from->qp.n_no_buffer, 0);
	assert_int_equal(to->qp.n_no_buffer, 0);
}

static void
one_side_talks__any_number(void **state)
{
	struct fixture *f = *state;
	uint32_t last;

	send_all(&f->a, &f->b, f->loop, 700);
	memcpy(&last, f->b.last, sizeof(last));
	assert_int_equal(last, 699);
	assert_int_equal(f->a.n_messages, 0); /* credits are not messages */
	send_all(&f->b, &f->a, f->loop, 700);
	assert_int_equal(f->a.conn.state, VRB_CONN_UP);
	assert_int_equal(f->b.conn.state, VRB_CONN_UP);
}

static void
sizes__whole(void **state)
{
	struct fixture *f = *state;
	uint8_t msg[TP_MESSAGE_BYTES_MAX + 1];
	size_t n;

	for (n = 0; n < sizeof(msg); n++)
		msg[n] = (uint8_t)(n * 7);
	for (n = 1; n <= TP_MESSAGE_BYTES_MAX; n++) {
		assert_int_equal(vrb_conn_send(base(&f->a), msg, n), 0);
		fake_turns(f->loop, 4);
		assert_int_equal(f->b.n_messages, n);
		assert_int_equal(f->b.last_bytes, n);
		assert_memory_equal(f->b.last, msg, n);
	}
	assert_int_equal(vrb_conn_send(base(&f->a), msg, sizeof(msg)), -EMSGSIZE);
	assert_int_equal(vrb_conn_send(base(&f->a), msg, 0), -EMSGSIZE);
}

static void
queue__takes_what_it_promises(void **state)
{
	struct fixture *f = *state;
	unsigned n = 0;

	fake_turns(f->loop, 1);
	assert_true(f->b.conn.receive_cq.is_armed);
	ev_io_stop(f->loop, &f->b.conn.receive_cq.io); /* the peer reads nothing */
	while (vrb_conn_send(base(&f->a), "x", 1) == 0 && n < 1000) {
		n++;
		fake_turns(f->loop, 1);
	}
	/* Its five buffers, and our queue. */
	assert_int_equal(n, 5 + TP_SEND_QUEUE_MAX);
	assert_int_equal(f->a.qp.n_no_buffer, 0);
	ev_io_start(f->loop, &f->b.conn.receive_cq.io);
	fake_turns(f->loop, 200);
	assert_int_equal(f->b.n_messages, n);
}

static void
close__after_what_was_sent(void **state)
{
	struct fixture *f = *state;
	unsigned i;

	for (i = 0; i < 4; i++)
		assert_int_equal(vrb_conn_send(base(&f->a), "x", 1), 0);
	vrb_conn_close(base(&f->a));
	vrb_conn_close(base(&f->a));
	assert_int_equal(vrb_conn_send(base(&f->a), "x", 1), -ENOTCONN);
	fake_turns(f->loop, 5);
	assert_int_equal(f->b.n_messages, 4);
	assert_int_equal(f->b.conn.state, VRB_CONN_DRAINING);
	assert_int_equal(f->b.conn.reason, 0);
	assert_int_equal(f->a.conn.state, VRB_CONN_DRAINING);
	assert_int_equal(f->a.conn.reason, 0);
}

/* The CM's word that the peer is gone may come before its farewell is read. */
static void
close__disconnected_before_farewell(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vrb_conn_send(base(&f->a), "x", 1), 0);
	vrb_conn_close(base(&f->a));
	vrb_conn_end_vaguely(&f->b.conn, -ECONNRESET);
	assert_int_equal(f->b.conn.reason, -ECONNRESET);
	fake_turns(f->loop, 5);
	assert_int_equal(f->b.n_messages, 1);
	assert_int_equal(f->b.conn.reason, 0);
}

static void
close__no_message_after_it(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vrb_conn_send(base(&f->a), "x", 1), 0);
	assert_int_equal(vrb_msgs_flush(&f->a.conn), 0);
	vrb_conn_close(base(&f->b));
	fake_turns(f->loop, 5);
	assert_int_equal(f->b.n_messages, 0);
}

/* Puts raw bytes into the next receive buffer of @to. */
static void
inject(struct fake_end *to, const uint8_t *bytes, uint32_t length)
{
	struct fake_qp *qp = &to->qp;
	const unsigned i = qp->receive_head++ % FAKE_QUEUE;

	memcpy(qp->receives[i].addr, bytes, length);
	fake_complete(qp->receive_cq, qp->receives[i].wr_id, IBV_WC_SUCCESS, length);
}

static void
bad_message__ends_the_connection(void **state)
{
	static const struct {
		uint8_t bytes[12];
		uint32_t length;
	} bad[] = {
		{{0}, 0},		    /* nothing */
		{{1, 0, 0, 0, 0, 0, 0}, 7}, /* cut header */
		{{0}, 9},		    /* kind 0 */
		{{4}, 8},		    /* unknown kind */
		{{1}, 8},		    /* data without data */
		{{2}, 9},		    /* credits with data */
		{{3}, 9},		    /* farewell with data */
		{{1, 1}, 9},		    /* reserved byte */
		{{1, 0, 0, 0, 0, 0, 0, 1}, 9},
		{{2, 0, 1, 0}, 8}, /* a credit nobody spent */
		{{2, 0, 0xff, 0xff}, 8},
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture *f;

		assert_int_equal(setup(state), 0);
		f = *state;
		inject(&f->a, bad[i].bytes, bad[i].length);
		fake_turns(f->loop, 3);
		assert_int_equal(f->a.conn.state, VRB_CONN_DRAINING);
		assert_int_equal(f->a.conn.reason, -EPROTO);
		assert_int_equal(f->a.n_messages, 0);
		assert_int_equal(teardown(state), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_side_talks__any_number, setup, teardown),
		cmocka_unit_test_setup_teardown(sizes__whole, setup, teardown),
		cmocka_unit_test_setup_teardown(queue__takes_what_it_promises, setup, teardown),
		cmocka_unit_test_setup_teardown(close__after_what_was_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(close__disconnected_before_farewell, setup,
						teardown),
		cmocka_unit_test_setup_teardown(close__no_message_after_it, setup, teardown),
		cmocka_unit_test(bad_message__ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
