/* SPDX-License-Identifier: MIT */
/* Ops go to the device in order, in chains, as far as there is room; each ends once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_verbs.h"

#define OPS 10u
#define ROOM 4u

struct fixture {
	struct ev_loop *loop;
	struct fake_end end;
	struct tp_op ops[OPS];
	int status[OPS];
	unsigned n_done;
};

static void
op_done(struct tp_op *op, int status)
{
	struct fixture *f = (struct fixture *)op->transport_u64;
	const size_t i = (size_t)(op - f->ops);

	assert_int_equal(f->status[i], 1);
	f->status[i] = status;
	f->n_done++;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	unsigned i;

	assert_non_null(f);
	f->loop = ev_loop_new(0);
	assert_int_equal(fake_end_init(&f->end, f->loop, 4, ROOM), 0);
	for (i = 0; i < OPS; i++) {
		f->status[i] = 1;
		f->ops[i] = (struct tp_op){
			.kind = i % 2 ? TP_OP_READ : TP_OP_WRITE,
			.length_bytes = 100 + i,
			.region = (struct tp_region *)&f->end.region,
			.buf = f->end.memory + i * 200,
			.remote_addr = 0x1000 + i,
			.rkey = 0x500 + i,
			.done = op_done,
			.transport_u64 = (uintptr_t)f,
		};
	}
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	fake_end_fini(&f->end);
	ev_loop_destroy(f->loop);
	free(f);
	return 0;
}

static void
post_all(struct fixture *f)
{
	unsigned i;

	for (i = 0; i < OPS; i++)
		vrb_conn_post((struct tp_conn *)&f->end.conn, &f->ops[i]);
}

static void
complete_send(struct fixture *f, unsigned i, enum ibv_wc_status status)
{
	fake_complete(f->end.qp.send_cq, f->end.qp.sends[i].wr.wr_id, status, 0);
}

static void
in_order__as_room_allows(void **state)
{
	struct fixture *f = *state;
	struct fake_qp *qp = &f->end.qp;
	unsigned i;

	post_all(f);
	assert_int_equal(qp->n_sends, 0); /* nothing before the turn ends */
	fake_turns(f->loop, 1);
	assert_int_equal(qp->n_sends, ROOM);
	assert_int_equal(qp->n_doorbells, 1);
	complete_send(f, 0, IBV_WC_SUCCESS);
	complete_send(f, 1, IBV_WC_SUCCESS);
	fake_turns(f->loop, 3);
	assert_int_equal(f->n_done, 2);
	assert_int_equal(qp->n_sends, ROOM + 2);
	assert_int_equal(qp->n_doorbells, 2);
	for (i = 2; i < OPS; i++) {
		complete_send(f, i, IBV_WC_SUCCESS);
		fake_turns(f->loop, 3);
	}
	assert_int_equal(f->n_done, OPS);
	for (i = 0; i < OPS; i++) {
		const struct ibv_send_wr *wr = &qp->sends[i].wr;

		assert_int_equal(f->status[i], 0);
		assert_int_equal(wr->opcode, i % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE);
		assert_int_equal(wr->send_flags, IBV_SEND_SIGNALED);
		assert_int_equal(wr->wr.rdma.remote_addr, 0x1000 + i);
		assert_int_equal(wr->wr.rdma.rkey, 0x500 + i);
		assert_int_equal(qp->sends[i].sge.addr, (uintptr_t)f->ops[i].buf);
		assert_int_equal(qp->sends[i].sge.length, 100 + i);
		assert_int_equal(qp->sends[i].sge.lkey, 0x42);
	}
	assert_int_equal(f->end.conn.state, VRB_CONN_UP);
}

static void
all_end__one_fails(void **state)
{
	struct fixture *f = *state;
	unsigned i;

	post_all(f);
	fake_turns(f->loop, 1);
	complete_send(f, 0, IBV_WC_SUCCESS);
	complete_send(f, 1, IBV_WC_REM_ACCESS_ERR);
	complete_send(f, 2, IBV_WC_WR_FLUSH_ERR);
	complete_send(f, 3, IBV_WC_WR_FLUSH_ERR);
	fake_turns(f->loop, 5);
	assert_int_equal(f->n_done, OPS);
	assert_int_equal(f->status[0], 0);
	assert_int_equal(f->status[1], -EACCES);
	for (i = 2; i < OPS; i++)
		assert_int_equal(f->status[i], -ECANCELED);
	assert_int_equal(f->end.conn.state, VRB_CONN_DRAINING);
	assert_int_equal(f->end.conn.reason, -EACCES);
	assert_true(f->end.qp.is_in_error);
	assert_int_equal(f->end.qp.n_sends, ROOM);
}

/* A flush that is seen before the error it comes from does not hide it. */
static void
reason__flush_first(void **state)
{
	struct fixture *f = *state;

	post_all(f);
	fake_turns(f->loop, 1);
	complete_send(f, 1, IBV_WC_WR_FLUSH_ERR);
	complete_send(f, 0, IBV_WC_RETRY_EXC_ERR);
	fake_turns(f->loop, 5);
	assert_int_equal(f->end.conn.reason, -ETIMEDOUT);
	assert_int_equal(f->status[0], -ETIMEDOUT);
}

static void
all_end__device_refuses(void **state)
{
	struct fixture *f = *state;
	unsigned i;

	f->end.qp.fail_after = 2;
	post_all(f);
	fake_turns(f->loop, 1);
	assert_int_equal(f->end.conn.state, VRB_CONN_DRAINING);
	complete_send(f, 0, IBV_WC_WR_FLUSH_ERR);
	complete_send(f, 1, IBV_WC_SUCCESS);
	fake_turns(f->loop, 5);
	assert_int_equal(f->n_done, OPS);
	for (i = 0; i < OPS; i++)
		assert_int_equal(f->status[i], i == 1 ? 0 : -ECANCELED);
	/* Only the receive buffers are still with the device. */
	assert_int_equal(f->end.conn.send_cq.outstanding, 0);
	assert_int_equal(f->end.conn.receive_cq.outstanding, 4 + VRB_CREDIT_SPARE_BUFFERS);
}

static void
fails__memory_not_registered(void **state)
{
	struct fixture *f = *state;

	f->end.region.mrs[0] = NULL;
	post_all(f);
	assert_int_equal(f->n_done, 0);
	fake_turns(f->loop, 3);
	assert_int_equal(f->n_done, OPS);
	assert_int_equal(f->status[0], -ECANCELED);
	assert_int_equal(f->end.conn.reason, -ENODEV);
	assert_int_equal(f->end.qp.n_sends, 0);
}

static void
canceled__posted_while_ending(void **state)
{
	struct fixture *f = *state;

	vrb_conn_end(&f->end.conn, 0);
	post_all(f);
	assert_int_equal(f->n_done, 0);
	fake_turns(f->loop, 3);
	assert_int_equal(f->n_done, OPS);
	assert_int_equal(f->status[3], -ECANCELED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(in_order__as_room_allows, setup, teardown),
		cmocka_unit_test_setup_teardown(all_end__one_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(reason__flush_first, setup, teardown),
		cmocka_unit_test_setup_teardown(all_end__device_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(fails__memory_not_registered, setup, teardown),
		cmocka_unit_test_setup_teardown(canceled__posted_while_ending, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
