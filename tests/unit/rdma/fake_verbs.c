/* SPDX-License-Identifier: MIT */
/* A device without hardware, so that its failures come when a test wants them. */
#include "fake_verbs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/eventfd.h>
#include <unistd.h>

/* The library's own names, which verbs.h wraps in macros. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

static int
poll_cq(struct ibv_cq *base, int n, struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)base;
	int i;

	cq->n_polls++;
	if (cq->poll_error)
		return cq->poll_error;
	for (i = 0; i < n && cq->head != cq->tail; i++)
		wc[i] = cq->wcs[cq->head++ % FAKE_QUEUE];
	cq->drained += (unsigned)i;
	if (cq->drained > cq->max_drained)
		cq->max_drained = cq->drained;
	return i;
}

static int
req_notify_cq(struct ibv_cq *base, int solicited_only)
{
	struct fake_cq *cq = (struct fake_cq *)base;

	(void)solicited_only;
	cq->is_armed = cq->arm_error == 0;
	cq->n_armed++;
	return cq->arm_error;
}

static int
post_recv(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;
	const unsigned i = qp->receive_tail++ % FAKE_QUEUE;

	*bad = NULL;
	qp->receives[i].wr_id = wr->wr_id;
	qp->receives[i].addr = (void *)(uintptr_t)wr->sg_list->addr;
	qp->receives[i].length = wr->sg_list->length;
	return 0;
}

static void
deliver(struct fake_qp *from, const struct ibv_send_wr *wr)
{
	struct fake_qp *to = from->peer;
	const unsigned i = to->receive_head % FAKE_QUEUE;

	if (to->receive_head == to->receive_tail) {
		from->n_no_buffer++;
		return;
	}
	to->receive_head++;
	assert(wr->sg_list->length <= to->receives[i].length);
	memcpy(to->receives[i].addr, (void *)(uintptr_t)wr->sg_list->addr, wr->sg_list->length);
	fake_complete(to->receive_cq, to->receives[i].wr_id, IBV_WC_SUCCESS, wr->sg_list->length);
	fake_complete(from->send_cq, wr->wr_id, IBV_WC_SUCCESS, 0);
}

static int
post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;

	qp->n_doorbells++;
	for (; wr; wr = wr->next) {
		if (qp->fail_after == 0) {
			*bad = wr;
			return ENOMEM;
		}
		if (qp->fail_after > 0)
			qp->fail_after--;
		assert(qp->n_sends < FAKE_QUEUE);
		qp->sends[qp->n_sends].wr = *wr;
		qp->sends[qp->n_sends].sge = *wr->sg_list;
		qp->n_sends++;
		if (wr->opcode == IBV_WR_SEND && qp->peer)
			deliver(qp, wr);
	}
	return 0;
}

struct ibv_context *
fake_context(void)
{
	static struct ibv_context context = {
		.ops = {.poll_cq = poll_cq,
			.req_notify_cq = req_notify_cq,
			.post_recv = post_recv,
			.post_send = post_send},
	};

	return &context;
}

void
fake_complete(struct fake_cq *cq, uint64_t wr_id, enum ibv_wc_status status, uint32_t bytes)
{
	const uint64_t one = 1;

	assert(cq->n_cqe <= FAKE_QUEUE && cq->tail - cq->head < cq->n_cqe);
	cq->wcs[cq->tail++ % FAKE_QUEUE] =
		(struct ibv_wc){.wr_id = wr_id, .status = status, .byte_len = bytes};
	if (!cq->is_armed)
		return;
	cq->is_armed = false;
	assert(write(cq->channel.fd, &one, sizeof(one)) == sizeof(one));
}

struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *context)
{
	struct fake_cq *cq = calloc(1, sizeof(*cq));

	assert(cq);
	cq->cq.context = context;
	cq->cq.channel = &cq->channel;
	cq->channel.context = context;
	cq->channel.fd = eventfd(0, EFD_SEMAPHORE);
	return &cq->channel;
}

int
ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	(void)close(channel->fd);
	free(container_of(channel, struct fake_cq, channel));
	return 0;
}

struct ibv_cq *
ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context,
	      struct ibv_comp_channel *channel, int comp_vector)
{
	struct fake_cq *cq = container_of(channel, struct fake_cq, channel);

	(void)context;
	(void)comp_vector;
	assert(cqe > 0);
	cq->cq.cq_context = cq_context;
	cq->n_cqe = (unsigned)cqe;
	return &cq->cq;
}

int
ibv_destroy_cq(struct ibv_cq *base)
{
	/* The real one would wait for ever. */
	assert(((struct fake_cq *)base)->n_unacked == 0);
	return 0;
}

int
ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **ret_cq, void **ret_context)
{
	struct fake_cq *cq = container_of(channel, struct fake_cq, channel);
	uint64_t value;

	if (read(channel->fd, &value, sizeof(value)) < 0)
		return -1;
	cq->n_unacked++;
	*ret_cq = &cq->cq;
	*ret_context = cq->cq.cq_context;
	return 0;
}

void
ibv_ack_cq_events(struct ibv_cq *base, unsigned n)
{
	((struct fake_cq *)base)->n_unacked -= n;
}

struct ibv_mr *
ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *mr = calloc(1, sizeof(*mr));

	(void)access;
	assert(mr);
	*mr = (struct ibv_mr){.pd = pd, .addr = addr, .length = length, .lkey = 0x77};
	return mr;
}

struct ibv_mr *
ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned access)
{
	(void)iova;
	return ibv_reg_mr(pd, addr, length, (int)access);
}

int
ibv_dereg_mr(struct ibv_mr *mr)
{
	free(mr);
	return 0;
}

int
ibv_modify_qp(struct ibv_qp *base, struct ibv_qp_attr *attr, int mask)
{
	assert(mask == IBV_QP_STATE && attr->qp_state == IBV_QPS_ERR);
	((struct fake_qp *)base)->is_in_error = true;
	return 0;
}

int
rdma_disconnect(struct rdma_cm_id *id)
{
	(void)id;
	return 0;
}

static void
message_cb(void *arg, const void *msg, size_t length_bytes)
{
	struct fake_end *end = arg;

	end->n_messages++;
	memcpy(end->last, msg, length_bytes);
	end->last_bytes = length_bytes;
}

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop;
	(void)revents;
	vrb_conn_flush_all(container_of(w, struct vrb_tp, flush));
}

/* The end of a connection is tested with real devices: here it only begins. */
static void
turn_cb(void *arg)
{
	struct vrb_conn *conn = arg;

	vrb_ops_report_failed(&conn->ops);
}

static void
deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

int
fake_end_init(struct fake_end *end, struct ev_loop *loop, uint32_t message_depth, uint32_t op_depth)
{
	static const struct tp_conn_events events = {.message = message_cb};
	struct vrb_conn *conn = &end->conn;
	int r;

	*end = (struct fake_end){.tp.loop = loop, .qp.fail_after = -1};
	list_init(&end->tp.conns);
	list_init(&end->tp.to_flush);
	ev_prepare_init(&end->tp.flush, flush_cb);
	ev_set_priority(&end->tp.flush, LOOP_PRI_FLUSH);
	ev_prepare_start(loop, &end->tp.flush);
	vrb_cq_set_start(&end->tp.cqs, loop);
	end->device.tp = &end->tp;
	end->device.has_windows = true;
	end->mr.lkey = 0x42;
	end->region.addr = end->memory;
	end->region.length_bytes = sizeof(end->memory);
	end->region.mrs[0] = &end->mr;
	conn->base.tp = &end->tp.base;
	conn->dev = &end->device;
	conn->state = VRB_CONN_UP;
	conn->events = &events;
	conn->events_arg = end;
	list_init(&conn->flush_node);
	vrb_ops_prepare(&conn->ops);
	vrb_grants_init(&conn->grants);
	defer_init(&conn->turn, loop, turn_cb, conn);
	ev_timer_init(&conn->deadline, deadline_cb, 0., 0.);
	r = vrb_cq_init(&conn->send_cq, VRB_CQ_SEND, &end->tp.cqs, fake_context(), 1000,
			&vrb_conn_cq_events, conn);
	if (r == 0)
		r = vrb_cq_init(&conn->receive_cq, VRB_CQ_RECEIVE, &end->tp.cqs, fake_context(),
				1000, &vrb_conn_cq_events, conn);
	if (r < 0)
		return r;
	end->qp.qp.context = fake_context();
	end->qp.send_cq = (struct fake_cq *)conn->send_cq.cq;
	end->qp.receive_cq = (struct fake_cq *)conn->receive_cq.cq;
	end->qp.id.qp = &end->qp.qp;
	conn->id = &end->qp.id;
	r = vrb_msgs_init(conn, message_depth);
	if (r == 0)
		r = vrb_ops_init(conn, op_depth);
	return r == 0 ? vrb_msgs_post_receives(conn) : r;
}

void
fake_join(struct fake_end *a, struct fake_end *b)
{
	a->qp.peer = &b->qp;
	b->qp.peer = &a->qp;
	vrb_credit_set_there(&a->conn.msgs.credit, b->conn.msgs.credit.here);
	vrb_credit_set_there(&b->conn.msgs.credit, a->conn.msgs.credit.here);
}

void
fake_end_fini(struct fake_end *end)
{
	ev_prepare_stop(end->tp.loop, &end->tp.flush);
	ev_timer_stop(end->tp.loop, &end->conn.deadline);
	defer_stop(&end->conn.turn);
	vrb_cq_fini(&end->conn.send_cq);
	vrb_cq_fini(&end->conn.receive_cq);
	vrb_cq_set_stop(&end->tp.cqs);
	vrb_msgs_fini(&end->conn.msgs);
	vrb_ops_fini(&end->conn.ops);
}

void
fake_turns(struct ev_loop *loop, unsigned n)
{
	while (n-- > 0)
		ev_run(loop, EVRUN_NOWAIT);
}
