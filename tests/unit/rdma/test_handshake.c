/* SPDX-License-Identifier: MIT */
/*
 * What a connection asks of the device before it is made: the time after which a dead peer is
 * noticed, and queues that nothing can overrun.
 * s9_ is a defect of the published code: one completion queue of ten entries for all clients.
 */
#include "rdma/handshake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/page.h"
#include "fake_verbs.h"

#define CLIENTS 40u
#define OPS 600u
/* More than one turn of the loop takes: completions pile up. */
#define TURNS 40u

/* What was asked for, in this order. */
enum step { STEP_OPTION = 1, STEP_ROUTE, STEP_QUEUE_PAIR, STEP_CONNECT, STEP_ACCEPT, STEP_REJECT };

struct wishes {
	enum step steps[8];
	unsigned n_steps;
	int option_error;
	uint8_t ack_timeout;
	struct rdma_conn_param param;
};

struct peer {
	struct vrb_conn conn;
	struct fake_qp qp;
	struct ibv_qp_cap cap;
	struct tp_op ops[OPS];
	unsigned n_done;
	unsigned n_messages;
};

struct fixture {
	struct ev_loop *loop;
	struct vrb_tp tp;
	struct vrb_device device;
	struct vrb_region region;
	struct ibv_mr mr;
	uint8_t memory[PAGE_BYTES];
	struct wishes wishes;
};

static struct fixture *the_fixture;

static void
note(enum step step)
{
	struct wishes *w = &the_fixture->wishes;

	if (w->n_steps < sizeof(w->steps) / sizeof(w->steps[0]))
		w->steps[w->n_steps++] = step;
}

int
rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t length)
{
	(void)id;
	assert_int_equal(level, RDMA_OPTION_ID);
	assert_int_equal(name, RDMA_OPTION_ID_ACK_TIMEOUT);
	assert_int_equal(length, sizeof(uint8_t));
	note(STEP_OPTION);
	the_fixture->wishes.ack_timeout = *(uint8_t *)value;
	errno = the_fixture->wishes.option_error;
	return errno ? -1 : 0;
}

int
rdma_resolve_route(struct rdma_cm_id *id, int timeout_ms)
{
	(void)id;
	assert_true(timeout_ms > 0);
	note(STEP_ROUTE);
	return 0;
}

int
rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct peer *p = container_of(id, struct peer, qp.id);

	(void)pd;
	note(STEP_QUEUE_PAIR);
	assert_ptr_not_equal(attr->send_cq, attr->recv_cq);
	p->cap = attr->cap;
	p->qp.send_cq = (struct fake_cq *)attr->send_cq;
	p->qp.receive_cq = (struct fake_cq *)attr->recv_cq;
	p->qp.qp.context = fake_context();
	id->qp = &p->qp.qp;
	return 0;
}

int
rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	(void)id;
	note(STEP_CONNECT);
	the_fixture->wishes.param = *param;
	return 0;
}

int
rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	(void)id;
	note(STEP_ACCEPT);
	the_fixture->wishes.param = *param;
	return 0;
}

int
rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t length)
{
	(void)id;
	(void)data;
	(void)length;
	note(STEP_REJECT);
	return 0;
}

static void
message_cb(void *arg, const void *msg, size_t length_bytes)
{
	(void)msg;
	(void)length_bytes;
	((struct peer *)arg)->n_messages++;
}

static void
turn_cb(void *arg)
{
	vrb_ops_report_failed(&((struct vrb_conn *)arg)->ops);
}

static void
deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop;
	(void)revents;
	vrb_conn_flush_all(container_of(w, struct vrb_tp, flush));
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->loop = ev_loop_new(0);
	f->tp.loop = f->loop;
	vrb_tp_config_default(&f->tp.config);
	list_init(&f->tp.conns);
	list_init(&f->tp.to_flush);
	ev_prepare_init(&f->tp.flush, flush_cb);
	ev_set_priority(&f->tp.flush, LOOP_PRI_FLUSH);
	ev_prepare_start(f->loop, &f->tp.flush);
	vrb_cq_set_start(&f->tp.cqs, f->loop);
	f->device = (struct vrb_device){
		.tp = &f->tp,
		.verbs = fake_context(),
		.has_windows = true,
		.max_qp_wr = 4096,
		.max_cqe = 4096,
		.max_responder_resources = 16,
		.max_initiator_depth = 16,
	};
	f->tp.devices[0] = &f->device;
	f->tp.n_devices = 1;
	f->region.addr = f->memory;
	f->region.length_bytes = sizeof(f->memory);
	f->region.mrs[0] = &f->mr;
	the_fixture = f;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	ev_prepare_stop(f->loop, &f->tp.flush);
	vrb_cq_set_stop(&f->tp.cqs);
	ev_loop_destroy(f->loop);
	free(f);
	return 0;
}

static struct peer *
peer_new(struct fixture *f, bool is_client)
{
	static const struct tp_conn_events events = {.message = message_cb};
	struct peer *p = calloc(1, sizeof(*p));
	struct vrb_conn *conn;

	assert_non_null(p);
	conn = &p->conn;
	p->qp.fail_after = -1;
	p->qp.id.verbs = fake_context();
	conn->id = &p->qp.id;
	conn->base.tp = &f->tp.base;
	conn->is_client = is_client;
	conn->state = is_client ? VRB_CONN_RESOLVING : VRB_CONN_ACCEPTING;
	conn->resolve_ms = 1000;
	conn->peer_message_depth = 32;
	conn->events = &events;
	conn->events_arg = p;
	list_init(&conn->flush_node);
	vrb_ops_prepare(&conn->ops);
	vrb_grants_init(&conn->grants);
	defer_init(&conn->turn, f->loop, turn_cb, conn);
	ev_timer_init(&conn->deadline, deadline_cb, 0., 0.);
	return p;
}

static void
peer_free(struct peer *p)
{
	defer_stop(&p->conn.turn);
	vrb_cq_fini(&p->conn.send_cq);
	vrb_cq_fini(&p->conn.receive_cq);
	vrb_msgs_fini(&p->conn.msgs);
	vrb_ops_fini(&p->conn.ops);
	free(p);
}

static void
assert_steps(const struct fixture *f, unsigned n, const enum step *steps)
{
	assert_int_equal(f->wishes.n_steps, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(f->wishes.steps[i], steps[i]);
}

/* 7 retries are for ever on some devices: a peer without power would never be noticed. */
static void
assert_dead_peer_is_noticed(const struct fixture *f)
{
	assert_int_equal(f->wishes.ack_timeout, 15);
	assert_int_equal(f->wishes.param.retry_count, 6);
	assert_in_range(f->wishes.param.rnr_retry_count, 1, 6);
}

static void
client__ack_timeout_and_retries_are_explicit(void **state)
{
	static const enum step steps[] = {STEP_OPTION, STEP_ROUTE, STEP_QUEUE_PAIR, STEP_CONNECT};
	struct fixture *f = *state;
	struct peer *p = peer_new(f, true);
	struct vrb_cm_event event = {.type = RDMA_CM_EVENT_ADDR_RESOLVED};

	vrb_handshake_handle(&p->conn.cm, &event);
	event.type = RDMA_CM_EVENT_ROUTE_RESOLVED;
	vrb_handshake_handle(&p->conn.cm, &event);
	assert_int_equal(p->conn.state, VRB_CONN_CONNECTING);
	assert_steps(f, 4, steps);
	assert_dead_peer_is_noticed(f);
	peer_free(p);
}

static void
daemon__ack_timeout_and_retries_are_explicit(void **state)
{
	static const enum step steps[] = {STEP_OPTION, STEP_QUEUE_PAIR, STEP_ACCEPT};
	struct fixture *f = *state;
	struct peer *p = peer_new(f, false);

	assert_int_equal(vrb_handshake_accept(&p->conn), 0);
	assert_steps(f, 3, steps);
	assert_dead_peer_is_noticed(f);
	peer_free(p);
}

/* Rather no connection than one that hangs with its peer. */
static void
daemon__without_an_ack_timeout_there_is_no_connection(void **state)
{
	static const enum step steps[] = {STEP_OPTION, STEP_REJECT};
	struct fixture *f = *state;
	struct peer *p = peer_new(f, false);

	f->wishes.option_error = ENOSYS;
	assert_int_equal(vrb_handshake_accept(&p->conn), -ENOSYS);
	assert_steps(f, 2, steps);
	peer_free(p);
}

static void
config__waits_without_end_are_refused(void **state)
{
	const struct {
		uint8_t ack_timeout, retry_count, rnr_retry_count;
	} bad[] = {{15, 7, 6}, {15, 0, 6}, {15, 6, 7}, {0, 6, 6},
		   {7, 6, 6},  {21, 6, 6}, {31, 6, 6}};
	struct fixture *f = *state;
	struct vrb_tp_config config;
	struct tp *tp;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vrb_tp_config_default(&config);
		config.ack_timeout = bad[i].ack_timeout;
		config.retry_count = bad[i].retry_count;
		config.rnr_retry_count = bad[i].rnr_retry_count;
		assert_int_equal(vrb_tp_new(f->loop, &config, &tp), -EINVAL);
	}
}

static void
op_done(struct tp_op *op, int status)
{
	assert_int_equal(status, 0);
	((struct peer *)op->transport_u64)->n_done++;
}

/* All that the connection takes, and more. */
static void
post_all(struct fixture *f, struct peer *p)
{
	static const uint8_t message[TP_MESSAGE_BYTES_MAX] = {1};

	for (unsigned i = 0; i < OPS; i++) {
		p->ops[i] = (struct tp_op){
			.kind = i % 2 ? TP_OP_READ : TP_OP_WRITE,
			.length_bytes = PAGE_BYTES,
			.region = (struct tp_region *)&f->region,
			.buf = f->memory,
			.done = op_done,
			.transport_u64 = (uintptr_t)p,
		};
		vrb_conn_post((struct tp_conn *)&p->conn, &p->ops[i]);
	}
	while (vrb_conn_send((struct tp_conn *)&p->conn, message, sizeof(message)) == 0)
		;
}

/* Everything that is posted ends at once, while nobody looks; the fake fails when one is lost. */
static void
complete_all(struct peer *p, unsigned *n_completed)
{
	const struct fake_qp *qp = &p->qp;

	for (; *n_completed < qp->n_sends; ++*n_completed)
		fake_complete(qp->send_cq, qp->sends[*n_completed].wr.wr_id, IBV_WC_SUCCESS, 0);
}

static void
receive_all(struct peer *p)
{
	unsigned n = p->conn.msgs.credit.here;

	for (; n > 0; n--) {
		const unsigned i = p->qp.receive_head++ % FAKE_QUEUE;
		uint8_t *header = p->qp.receives[i].addr;

		header[0] = VRB_MSG_DATA;
		fake_complete(p->qp.receive_cq, p->qp.receives[i].wr_id, IBV_WC_SUCCESS,
			      VRB_MSG_HEADER_BYTES + 8);
	}
}

static void
s9_no_completion_queue_is_overrun_by_many_clients(void **state)
{
	struct fixture *f = *state;
	struct peer *peers[CLIENTS];
	unsigned n_completed[CLIENTS] = {0};

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct peer *p = peers[i] = peer_new(f, false);

		assert_int_equal(vrb_handshake_accept(&p->conn), 0);
		p->conn.state = VRB_CONN_UP;
		assert_true(p->cap.max_send_wr <= p->qp.send_cq->n_cqe);
		assert_true(p->cap.max_recv_wr <= p->qp.receive_cq->n_cqe);
		assert_int_equal(p->qp.receive_tail, p->cap.max_recv_wr);
		for (unsigned k = 0; k < i; k++) {
			assert_ptr_not_equal(p->qp.send_cq, peers[k]->qp.send_cq);
			assert_ptr_not_equal(p->qp.receive_cq, peers[k]->qp.receive_cq);
		}
		post_all(f, p);
	}
	vrb_conn_flush_all(&f->tp);
	for (unsigned i = 0; i < CLIENTS; i++) {
		assert_in_range(peers[i]->qp.n_sends, 1, peers[i]->cap.max_send_wr);
		complete_all(peers[i], &n_completed[i]);
		receive_all(peers[i]);
	}
	for (unsigned turn = 0; turn < TURNS; turn++) {
		fake_turns(f->loop, 1);
		for (unsigned i = 0; i < CLIENTS; i++)
			complete_all(peers[i], &n_completed[i]);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		assert_int_equal(peers[i]->n_done, OPS);
		assert_int_equal(peers[i]->n_messages, peers[i]->conn.msgs.credit.here);
		assert_int_equal(peers[i]->conn.state, VRB_CONN_UP);
		peer_free(peers[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(client__ack_timeout_and_retries_are_explicit, setup,
						teardown),
		cmocka_unit_test_setup_teardown(daemon__ack_timeout_and_retries_are_explicit, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			daemon__without_an_ack_timeout_there_is_no_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(config__waits_without_end_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(s9_no_completion_queue_is_overrun_by_many_clients,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
