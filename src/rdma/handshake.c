/* SPDX-License-Identifier: MIT */
/*
 * client: resolve address -> resolve route -> make the queue pair, post the receive
 *         buffers -> connect -> ESTABLISHED
 * daemon: incoming() -> make the queue pair, post the receive buffers -> accept
 *         -> ESTABLISHED, or the first message
 * Every failure ends the connection; its deadline runs all the time.
 */
#include "rdma/handshake.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "rdma/device.h"
#include "rdma/hello.h"
#include "rdma/status.h"

static uint32_t
min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint8_t
min_u8(uint8_t a, uint8_t b)
{
	return a < b ? a : b;
}

/* Everything that the connection ever needs, so that nothing is allocated later. */
static int
make_queue_pair(struct vrb_conn *conn)
{
	const struct vrb_tp_config *config = &vrb_tp_of(conn->base.tp)->config;
	const struct vrb_device *d = conn->dev;
	struct vrb_cq_set *cqs = &vrb_tp_of(conn->base.tp)->cqs;
	const uint32_t depth = config->message_depth;
	const uint32_t n_recv = vrb_msgs_recv_wrs(depth);
	const uint32_t n_other = vrb_msgs_send_wrs(depth) + VRB_GRANT_WRS;
	struct ibv_qp_init_attr attr;
	uint32_t n_ops;
	int r;

	if (d->max_qp_wr <= n_other || d->max_qp_wr < n_recv || d->max_cqe <= n_other ||
	    d->max_cqe < n_recv)
		return log_err_errno(ENODEV, "%s: the device has too small queues", conn->name);
	n_ops = min_u32(config->op_depth, d->max_qp_wr - n_other);
	n_ops = min_u32(n_ops, d->max_cqe - n_other);

	if (!d->has_windows && !conn->is_client) {
		conn->own_pd = ibv_alloc_pd(d->verbs);
		if (!conn->own_pd)
			return -errno;
	}
	r = vrb_cq_init(&conn->send_cq, VRB_CQ_SEND, cqs, d->verbs, n_ops + n_other,
			&vrb_conn_cq_events, conn);
	if (r < 0)
		return r;
	r = vrb_cq_init(&conn->receive_cq, VRB_CQ_RECEIVE, cqs, d->verbs, n_recv,
			&vrb_conn_cq_events, conn);
	if (r < 0)
		return r;
	r = vrb_msgs_init(conn, depth);
	if (r < 0)
		return r;
	r = vrb_ops_init(conn, n_ops);
	if (r < 0)
		return r;
	attr = (struct ibv_qp_init_attr){
		.qp_context = conn,
		.send_cq = conn->send_cq.cq,
		.recv_cq = conn->receive_cq.cq,
		.cap = {.max_send_wr = n_ops + n_other,
			.max_recv_wr = n_recv,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
	};
	if (rdma_create_qp(conn->id, vrb_conn_pd(conn), &attr) != 0)
		return -errno;
	return vrb_msgs_post_receives(conn);
}

static int
find_device(struct vrb_conn *conn)
{
	struct vrb_tp *tp = vrb_tp_of(conn->base.tp);
	uint8_t timeout = tp->config.ack_timeout;
	int r;

	assert(!conn->dev);
	r = vrb_device_find(tp, conn->id->verbs, &conn->dev);
	if (r < 0)
		return r;
	vrb_device_get(conn->dev);
	/* Before the route is resolved, as that is where the kernel uses it. */
	if (rdma_set_option(conn->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			    sizeof(timeout)) != 0)
		return log_err_errno(errno, "%s: cannot set the ack timeout", conn->name);
	return 0;
}

static void
fill_param(struct vrb_conn *conn, uint8_t hello[VRB_HELLO_BYTES], struct rdma_conn_param *param)
{
	const struct vrb_tp_config *config = &vrb_tp_of(conn->base.tp)->config;

	vrb_hello_encode((uint16_t)config->message_depth, hello);
	*param = (struct rdma_conn_param){
		.private_data = hello,
		.private_data_len = VRB_HELLO_BYTES,
		.responder_resources = conn->dev->max_responder_resources,
		.initiator_depth = conn->dev->max_initiator_depth,
		.flow_control = 1,
		.retry_count = config->retry_count,
		.rnr_retry_count = config->rnr_retry_count,
	};
}

int
vrb_handshake_resolve(struct vrb_conn *conn, const struct sockaddr *address, uint64_t timeout_ns)
{
	const uint64_t timeout_ms = timeout_ns / 1000000u + 1;

	conn->resolve_ms = timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
	/* The kernel copies the address. */
	if (rdma_resolve_addr(conn->id, NULL, (struct sockaddr *)(uintptr_t)address,
			      conn->resolve_ms) == 0)
		return 0;
	switch (errno) {
	case ENODEV:
	case ENOMEM:
	case EINVAL:
		return -errno;
	default:
		return -ENODEV; /* no route that leads over an RDMA device */
	}
}

int
vrb_handshake_accept(struct vrb_conn *conn)
{
	uint8_t hello[VRB_HELLO_BYTES], reject[VRB_HELLO_BYTES];
	struct rdma_conn_param param;
	int r;

	r = find_device(conn);
	if (r == 0)
		r = make_queue_pair(conn);
	if (r == 0) {
		vrb_credit_set_there(&conn->msgs.credit, conn->peer_message_depth);
		fill_param(conn, hello, &param);
		param.responder_resources =
			min_u8(param.responder_resources, conn->responder_resources);
		param.initiator_depth = min_u8(param.initiator_depth, conn->initiator_depth);
		if (rdma_accept(conn->id, &param) == 0)
			return 0;
		r = -errno;
	}
	vrb_reject_encode(VRB_REJECT_BUSY, reject);
	(void)rdma_reject(conn->id, reject, sizeof(reject));
	return r;
}

static void
address_resolved(struct vrb_conn *conn)
{
	int r;

	r = find_device(conn);
	if (r < 0)
		vrb_conn_fail(conn, r, "the device");
	else if (rdma_resolve_route(conn->id, conn->resolve_ms) != 0)
		vrb_conn_fail(conn, -errno, "the route");
}

static void
route_resolved(struct vrb_conn *conn)
{
	uint8_t hello[VRB_HELLO_BYTES];
	struct rdma_conn_param param;
	int r;

	r = make_queue_pair(conn);
	if (r < 0) {
		vrb_conn_fail(conn, r, "the queue pair");
		return;
	}
	fill_param(conn, hello, &param);
	if (rdma_connect(conn->id, &param) != 0) {
		vrb_conn_fail(conn, -errno, "to connect");
		return;
	}
	conn->state = VRB_CONN_CONNECTING;
}

/* What the kernel made of our wishes decides how fast a dead peer is noticed. */
static void
log_queue_pair(struct vrb_conn *conn)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	if (ibv_query_qp(conn->id->qp, &attr, IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT, &init) != 0)
		return;
	log_info("%s: up; %u ops at a time, %u reads; ack timeout 2^%u, %u retries", conn->name,
		 conn->ops.depth, attr.max_rd_atomic, attr.timeout, attr.retry_cnt);
}

static void
client_established(struct vrb_conn *conn, const struct vrb_cm_event *event)
{
	uint16_t depth;
	int r;

	r = vrb_hello_decode(event->data, event->data_bytes, &depth);
	if (r < 0) {
		vrb_conn_fail(conn, r, "the daemon's answer");
		return;
	}
	vrb_credit_set_there(&conn->msgs.credit, depth);
	log_queue_pair(conn);
	vrb_conn_set_up(conn);
}

static void
rejected(struct vrb_conn *conn, const struct vrb_cm_event *event)
{
	int r = vrb_reject_decode(event->data, event->data_bytes);

	if (r == -ENOMSG)
		r = vrb_status_of_reject(event->status);
	vrb_conn_end(conn, r);
}

void
vrb_handshake_handle(struct vrb_cm_owner *owner, const struct vrb_cm_event *event)
{
	struct vrb_conn *conn = container_of(owner, struct vrb_conn, cm);

	if (conn->state >= VRB_CONN_DRAINING)
		return; /* there is nothing left to end */
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		address_resolved(conn);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		route_resolved(conn);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
		vrb_conn_end(conn, vrb_status_of_cm(event->type, event->status));
		break;
	case RDMA_CM_EVENT_REJECTED:
		rejected(conn, event);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (conn->state == VRB_CONN_CONNECTING)
			client_established(conn, event);
		else
			vrb_conn_heard(conn);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		/* After an orderly close the farewell is in the queue, perhaps unread. */
		vrb_conn_end_vaguely(conn, -ECONNRESET);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		if (conn->dev)
			vrb_device_gone(conn->dev);
		vrb_conn_end(conn, -ENODEV);
		break;
	case RDMA_CM_EVENT_ADDR_CHANGE:
		/* A bond moved the address to another device: the queue pair stays behind. */
		vrb_conn_end(conn, -ECONNRESET);
		break;
	case RDMA_CM_EVENT_CONNECT_REQUEST:  /* the listener has these */
	case RDMA_CM_EVENT_CONNECT_RESPONSE: /* librdmacm answers it: the id has a queue pair */
	case RDMA_CM_EVENT_MULTICAST_JOIN:   /* not for connections */
	case RDMA_CM_EVENT_MULTICAST_ERROR:
	case RDMA_CM_EVENT_TIMEWAIT_EXIT: /* the kernel keeps the number from reuse until then */
		log_debug("%s: %s", conn->name, rdma_event_str(event->type));
		break;
	}
}
