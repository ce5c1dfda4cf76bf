/* SPDX-License-Identifier: MIT */
/*
 * The end of a connection, whoever begins it:
 *   (tp_close of one that is up: send the farewell, wait for it a moment)
 *   stop submitting -> queue pair to error -> every work request completes
 *   -> done() of each op -> take the grants back -> destroy the queue pair
 *   -> deregister -> destroy the id -> down() -> free.
 * The requests are drained, not timed out; should a device never give them back,
 * destroying the queue pair after a deadline is what ends its use of the memory.
 */
#include "rdma/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "rdma/device.h"
#include "rdma/handshake.h"
#include "rdma/status.h"
#include "transport/address.h"

#define ACCEPT_SECONDS 5.0
#define LINGER_SECONDS 0.25
#define DRAIN_SECONDS 5.0

/* States */

bool
vrb_conn_is_up(const struct vrb_conn *conn)
{
	return conn->state == VRB_CONN_UP;
}

bool
vrb_conn_is_ending(const struct vrb_conn *conn)
{
	return conn->state >= VRB_CONN_LINGERING;
}

bool
vrb_conn_takes_messages(const struct vrb_conn *conn)
{
	return conn->state == VRB_CONN_ACCEPTING || conn->state == VRB_CONN_UP;
}

bool
vrb_conn_can_post(const struct vrb_conn *conn)
{
	return !conn->own_pd;
}

bool
vrb_conn_can_grant(const struct vrb_conn *conn)
{
	return conn->dev->has_windows || conn->own_pd;
}

struct ibv_pd *
vrb_conn_pd(const struct vrb_conn *conn)
{
	return conn->own_pd ? conn->own_pd : conn->dev->pd;
}

static struct vrb_tp *
instance(const struct vrb_conn *conn)
{
	return vrb_tp_of(conn->base.tp);
}

void
vrb_conn_want_flush(struct vrb_conn *conn)
{
	if (conn->state == VRB_CONN_UP && !list_is_linked(&conn->flush_node))
		list_add_tail(&instance(conn)->to_flush, &conn->flush_node);
}

void
vrb_conn_want_turn(struct vrb_conn *conn)
{
	defer_start(&conn->turn);
}

static void
set_deadline(struct vrb_conn *conn, double seconds)
{
	struct ev_loop *loop = instance(conn)->loop;

	/* The loop's idea of now may be as old as a long callback. */
	ev_now_update(loop);
	ev_timer_stop(loop, &conn->deadline);
	ev_timer_set(&conn->deadline, seconds, 0.);
	ev_timer_start(loop, &conn->deadline);
}

static void
stop_deadline(struct vrb_conn *conn)
{
	ev_timer_stop(instance(conn)->loop, &conn->deadline);
}

/* The end */

static void
stop_queue_pair(struct vrb_conn *conn)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	int r;

	if (!conn->id->qp)
		return;
	/* Tells the peer, if there is one to tell. */
	(void)rdma_disconnect(conn->id);
	r = ibv_modify_qp(conn->id->qp, &attr, IBV_QP_STATE);
	if (r != 0) {
		(void)log_err_errno(r, "%s: cannot stop the queue pair", conn->name);
		conn->is_drain_over = true;
	}
}

static void
start_draining(struct vrb_conn *conn)
{
	if (conn->state == VRB_CONN_ACCEPTING)
		instance(conn)->n_pending--;
	conn->state = VRB_CONN_DRAINING;
	list_del(&conn->flush_node);
	vrb_ops_cancel_waiting(&conn->ops);
	stop_queue_pair(conn);
	set_deadline(conn, DRAIN_SECONDS);
	vrb_conn_want_turn(conn);
}

static void
end(struct vrb_conn *conn, int reason, bool is_vague)
{
	assert(conn->state != VRB_CONN_INCOMING && conn->state != VRB_CONN_REFUSED);
	if (conn->state == VRB_CONN_DEAD)
		return;
	if (conn->state == VRB_CONN_DRAINING) {
		if (conn->is_reason_vague && !is_vague) {
			conn->reason = reason;
			conn->is_reason_vague = false;
		}
		return;
	}
	/* A close of ours that the peer or the link cuts short stays a close of ours. */
	if (conn->state != VRB_CONN_LINGERING) {
		conn->reason = reason;
		conn->is_reason_vague = is_vague;
	}
	start_draining(conn);
}

void
vrb_conn_end(struct vrb_conn *conn, int reason)
{
	end(conn, reason, false);
}

void
vrb_conn_end_vaguely(struct vrb_conn *conn, int reason)
{
	end(conn, reason, true);
}

void
vrb_conn_fail(struct vrb_conn *conn, int error, const char *what)
{
	assert(error < 0);
	if (!vrb_conn_is_ending(conn))
		log_warn("%s: %s: %s", conn->name, what, strerror(-error));
	vrb_conn_end(conn, error);
}

void
vrb_conn_wc_failed(struct vrb_conn *conn, const struct ibv_wc *wc, const char *what)
{
	const int status = vrb_status_of_wc(wc->status);

	if (status == -ECANCELED) {
		/* The device stopped the queue pair by itself: why comes with another request. */
		vrb_conn_end_vaguely(conn, -ECONNRESET);
		return;
	}
	if (!vrb_conn_is_ending(conn) || conn->is_reason_vague)
		log_warn("%s: %s failed: %s (vendor error 0x%x)", conn->name, what,
			 ibv_wc_status_str(wc->status), wc->vendor_err);
	vrb_conn_end(conn, status);
}

/* Runs the last callback. */
static void
take_apart_in_scope(struct vrb_conn *conn)
{
	int r;

	conn->state = VRB_CONN_DEAD;
	stop_deadline(conn);
	vrb_grants_close_all(conn);
	if (conn->id->qp)
		rdma_destroy_qp(conn->id);
	vrb_ops_cancel_posted(&conn->ops);
	while (!list_is_empty(&conn->ops.failed))
		vrb_ops_report_failed(&conn->ops);
	vrb_grants_free_all(conn);
	vrb_cq_fini(&conn->send_cq);
	vrb_cq_fini(&conn->receive_cq);
	vrb_msgs_fini(&conn->msgs);
	vrb_ops_fini(&conn->ops);
	if (conn->own_pd) {
		r = ibv_dealloc_pd(conn->own_pd);
		if (r != 0)
			(void)log_err_errno(r, "%s: cannot release its domain", conn->name);
	}
	(void)rdma_destroy_id(conn->id);
	if (conn->dev)
		vrb_device_put(conn->dev);
	log_info("%s: down: %s", conn->name, conn->reason ? strerror(-conn->reason) : "closed");
	conn->events->down(conn->events_arg, conn->reason);
	defer_stop(&conn->turn);
	list_del(&conn->node);
	free(conn);
}

static void
take_apart(struct vrb_conn *conn)
{
	struct vrb_tp *tp = instance(conn);

	alloc_scope_enter();
	take_apart_in_scope(conn);
	alloc_scope_leave();
	vrb_tp_check_shutdown(tp);
}

/* Of all kinds, with the device. */
static uint32_t
outstanding(const struct vrb_conn *conn)
{
	return conn->send_cq.outstanding + conn->receive_cq.outstanding;
}

static void
turn_cb(void *arg)
{
	struct vrb_conn *conn = arg;

	vrb_ops_report_failed(&conn->ops);
	vrb_grants_report(conn);
	if (conn->state != VRB_CONN_DRAINING || !list_is_empty(&conn->ops.failed))
		return;
	if (outstanding(conn) == 0 || conn->is_drain_over)
		take_apart(conn);
}

static void
deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct vrb_conn *conn = container_of(w, struct vrb_conn, deadline);

	(void)loop;
	(void)revents;
	if (conn->state == VRB_CONN_LINGERING) {
		start_draining(conn);
	} else if (conn->state == VRB_CONN_DRAINING) {
		log_warn("%s: %u requests never ended; destroying the queue pair", conn->name,
			 outstanding(conn));
		conn->is_drain_over = true;
		vrb_conn_want_turn(conn);
	} else {
		vrb_conn_end(conn, -ETIMEDOUT);
	}
}

/* The completion queues */

static void
cq_drained(void *arg)
{
	struct vrb_conn *conn = arg;

	vrb_conn_want_flush(conn);
	if (conn->state == VRB_CONN_DRAINING && outstanding(conn) == 0)
		vrb_conn_want_turn(conn);
}

static void
cq_broken(void *arg, int error)
{
	struct vrb_conn *conn = arg;

	vrb_conn_fail(conn, error, "a completion queue");
	if (conn->state == VRB_CONN_LINGERING)
		start_draining(conn);
	conn->is_drain_over = true;
	vrb_conn_want_turn(conn);
}

const struct vrb_cq_events vrb_conn_cq_events = {.drained = cq_drained, .broken = cq_broken};

void
vrb_conn_deliver(struct vrb_conn *conn, const void *msg, size_t length_bytes)
{
	if (!conn->is_closed_here)
		conn->events->message(conn->events_arg, msg, length_bytes);
}

void
vrb_conn_heard(struct vrb_conn *conn)
{
	if (conn->state != VRB_CONN_ACCEPTING)
		return;
	instance(conn)->n_pending--;
	stop_deadline(conn);
	conn->state = VRB_CONN_UP;
	vrb_conn_want_flush(conn);
	log_info("%s: up", conn->name);
}

void
vrb_conn_set_up(struct vrb_conn *conn)
{
	assert(conn->state == VRB_CONN_CONNECTING);
	stop_deadline(conn);
	conn->state = VRB_CONN_UP;
	conn->events->up(conn->events_arg);
}

void
vrb_conn_bye_sent(struct vrb_conn *conn)
{
	if (conn->state == VRB_CONN_LINGERING)
		start_draining(conn);
}

/* What transport.h asks for */

static struct vrb_conn *
conn_new(struct vrb_tp *tp, bool is_client)
{
	struct vrb_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->base.tp = &tp->base;
	conn->cm.handle = vrb_handshake_handle;
	conn->is_client = is_client;
	conn->state = is_client ? VRB_CONN_RESOLVING : VRB_CONN_INCOMING;
	list_init(&conn->flush_node);
	vrb_ops_prepare(&conn->ops);
	vrb_grants_init(&conn->grants);
	defer_init(&conn->turn, tp->loop, turn_cb, conn);
	ev_timer_init(&conn->deadline, deadline_cb, 0., 0.);
	list_add_tail(&tp->conns, &conn->node);
	return conn;
}

static void
set_name(struct vrb_conn *conn, const struct sockaddr *peer)
{
	char address[TP_ADDRESS_BYTES_MAX];

	tp_address_format(peer, address, sizeof(address));
	(void)snprintf(conn->name, sizeof(conn->name), "rdma:%s#%u", address,
		       ++instance(conn)->next_serial);
}

static int
connect_in_scope(struct tp *base, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct vrb_tp *tp = vrb_tp_of(base);
	struct sockaddr_storage sa;
	struct vrb_conn *conn;
	socklen_t sa_bytes;
	int r;

	if (tp->is_shutting_down)
		return -ENODEV;
	r = tp_address_parse(address, &sa, &sa_bytes);
	if (r < 0)
		return r;
	conn = conn_new(tp, true);
	if (!conn)
		return -ENOMEM;
	conn->events = events;
	conn->events_arg = arg;
	set_name(conn, (struct sockaddr *)&sa);
	if (rdma_create_id(tp->channel, &conn->id, &conn->cm, RDMA_PS_TCP) != 0) {
		r = -errno;
		goto err_free;
	}
	r = vrb_handshake_resolve(conn, (struct sockaddr *)&sa, timeout_ns);
	if (r < 0)
		goto err_id;
	set_deadline(conn, (double)timeout_ns * 1e-9);
	*ret_conn = (struct tp_conn *)conn;
	return 0;

err_id:
	(void)rdma_destroy_id(conn->id);
err_free:
	list_del(&conn->node);
	free(conn);
	return r;
}

int
vrb_conn_connect(struct tp *base, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	int r;

	alloc_scope_enter();
	r = connect_in_scope(base, address, timeout_ns, events, arg, ret_conn);
	alloc_scope_leave();
	return r;
}

int
vrb_conn_new_incoming(struct vrb_tp *tp, const struct vrb_cm_event *event,
		      uint16_t peer_message_depth, struct vrb_conn **ret_conn)
{
	struct vrb_conn *conn = conn_new(tp, false);

	if (!conn)
		return -ENOMEM;
	conn->id = event->id;
	conn->id->context = &conn->cm;
	conn->peer_message_depth = peer_message_depth;
	conn->responder_resources = event->responder_resources;
	conn->initiator_depth = event->initiator_depth;
	set_name(conn, rdma_get_peer_addr(event->id));
	*ret_conn = conn;
	return 0;
}

void
vrb_conn_incoming_done(struct vrb_conn *conn)
{
	struct vrb_tp *tp = instance(conn);

	assert(conn->state != VRB_CONN_INCOMING);
	if (conn->state != VRB_CONN_REFUSED)
		return;
	log_info("%s: refused", conn->name);
	vrb_cm_reject(conn->id, VRB_REJECT_REFUSED);
	list_del(&conn->node);
	free(conn);
	vrb_tp_check_shutdown(tp);
}

void
vrb_conn_accept(struct tp_conn *base, const struct tp_conn_events *events, void *arg)
{
	struct vrb_conn *conn = vrb_conn_of(base);
	int r;

	assert(conn->state == VRB_CONN_INCOMING);
	conn->events = events;
	conn->events_arg = arg;
	conn->state = VRB_CONN_ACCEPTING;
	instance(conn)->n_pending++;
	set_deadline(conn, ACCEPT_SECONDS);
	r = vrb_handshake_accept(conn);
	if (r < 0)
		vrb_conn_fail(conn, r, "to accept");
}

void
vrb_conn_close(struct tp_conn *base)
{
	struct vrb_conn *conn = vrb_conn_of(base);

	conn->is_closed_here = true;
	if (conn->state == VRB_CONN_INCOMING)
		conn->state = VRB_CONN_REFUSED;
	if (conn->state == VRB_CONN_REFUSED || vrb_conn_is_ending(conn))
		return;
	/* What was sent before the close is on its way before the farewell. */
	if (conn->state != VRB_CONN_UP || vrb_msgs_flush(conn) < 0 || vrb_msgs_send_bye(conn) < 0) {
		vrb_conn_end(conn, 0);
		return;
	}
	conn->state = VRB_CONN_LINGERING;
	list_del(&conn->flush_node);
	vrb_ops_cancel_waiting(&conn->ops);
	vrb_conn_want_turn(conn);
	set_deadline(conn, LINGER_SECONDS);
}

const char *
vrb_conn_name(const struct tp_conn *conn)
{
	return ((const struct vrb_conn *)conn)->name;
}

int
vrb_conn_send(struct tp_conn *base, const void *msg, size_t length_bytes)
{
	struct vrb_conn *conn = vrb_conn_of(base);
	int r;

	if (!vrb_conn_takes_messages(conn))
		return -ENOTCONN;
	r = vrb_msgs_queue(conn, msg, length_bytes);
	vrb_conn_want_flush(conn);
	return r;
}

void
vrb_conn_post(struct tp_conn *base, struct tp_op *op)
{
	struct vrb_conn *conn = vrb_conn_of(base);

	assert(op->length_bytes > 0 && op->length_bytes <= TP_OP_BYTES_MAX && op->done);
	op->conn = base;
	if (vrb_conn_is_up(conn)) {
		list_add_tail(&conn->ops.waiting, &op->node);
		vrb_conn_want_flush(conn);
		return;
	}
	list_add_tail(&conn->ops.failed, &op->node);
	vrb_conn_want_turn(conn);
}

/* For the instance and the devices */

void
vrb_conn_flush_all(struct vrb_tp *tp)
{
	struct list *node;
	int r;

	while ((node = list_pop_head(&tp->to_flush))) {
		struct vrb_conn *conn = container_of(node, struct vrb_conn, flush_node);

		r = vrb_grants_flush(conn);
		if (r == 0)
			r = vrb_msgs_flush(conn);
		if (r == 0)
			r = vrb_ops_flush(conn);
		if (r < 0)
			vrb_conn_fail(conn, r, "to post");
	}
}

void
vrb_conn_close_all(struct vrb_tp *tp)
{
	struct list *node;

	list_foreach (node, &tp->conns)
		vrb_conn_close((struct tp_conn *)container_of(node, struct vrb_conn, node));
}

void
vrb_conn_end_all(struct vrb_tp *tp, int reason)
{
	struct list *node;

	list_foreach (node, &tp->conns)
		vrb_conn_end(container_of(node, struct vrb_conn, node), reason);
}

void
vrb_conn_end_on_device(struct vrb_device *device, uint8_t port, int reason)
{
	struct list *node;

	list_foreach (node, &device->tp->conns) {
		struct vrb_conn *conn = container_of(node, struct vrb_conn, node);

		if (conn->dev == device && (port == 0 || conn->id->port_num == port))
			vrb_conn_end(conn, reason);
	}
}

void
vrb_conn_qp_failed(struct vrb_conn *conn, const char *what)
{
	log_info("%s: %s", conn->name, what);
	vrb_conn_end_vaguely(conn, -EIO);
}

void
vrb_conn_comm_established(struct vrb_conn *conn)
{
	if (conn->state == VRB_CONN_ACCEPTING)
		(void)rdma_notify(conn->id, IBV_EVENT_COMM_EST);
}
