/* SPDX-License-Identifier: MIT */
/*
 * rdma_destroy_id() waits until the events of its id are acknowledged, and
 * acknowledging frees their private data: so copy, acknowledge, then act.
 */
#include "rdma/cm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "rdma/conn.h"
#include "rdma/tp.h"

#define EVENTS_PER_TURN 16

static void
copy_event(const struct rdma_cm_event *from, struct vrb_cm_event *to)
{
	const struct rdma_conn_param *conn = &from->param.conn;

	*to = (struct vrb_cm_event){
		.type = from->event,
		.status = from->status,
		.id = from->id,
		.responder_resources = conn->responder_resources,
		.initiator_depth = conn->initiator_depth,
	};
	if (!conn->private_data)
		return;
	to->data_bytes = conn->private_data_len;
	if (to->data_bytes > sizeof(to->data))
		to->data_bytes = sizeof(to->data);
	memcpy(to->data, conn->private_data, to->data_bytes);
}

static void
handle_events(struct ev_loop *loop, ev_io *w)
{
	struct vrb_tp *tp = container_of(w, struct vrb_tp, cm_io);
	struct rdma_cm_event *event;
	struct vrb_cm_owner *owner;
	struct vrb_cm_event copy;
	unsigned i;

	for (i = 0; i < EVENTS_PER_TURN; i++) {
		if (rdma_get_cm_event(tp->channel, &event) != 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			(void)log_err_errno(errno, "rdma: no connection events any more");
			ev_io_stop(loop, w);
			vrb_conn_end_all(tp, -EIO);
			return;
		}
		copy_event(event, &copy);
		if (rdma_ack_cm_event(event) != 0)
			(void)log_err_errno(errno, "rdma: cannot acknowledge an event");
		log_debug("rdma: %s, status %d", rdma_event_str(copy.type), copy.status);
		owner = copy.id->context;
		owner->handle(owner, &copy);
	}
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)revents;
	alloc_scope_enter();
	handle_events(loop, w);
	alloc_scope_leave();
}

int
vrb_cm_open(struct vrb_tp *tp)
{
	int r;

	tp->channel = rdma_create_event_channel();
	if (!tp->channel)
		return errno == ENOMEM || errno == EACCES ? -errno : -ENODEV;
	if (fcntl(tp->channel->fd, F_SETFL, fcntl(tp->channel->fd, F_GETFL) | O_NONBLOCK) < 0) {
		r = -errno;
		rdma_destroy_event_channel(tp->channel);
		return r;
	}
	ev_io_init(&tp->cm_io, readable_cb, tp->channel->fd, EV_READ);
	ev_io_start(tp->loop, &tp->cm_io);
	return 0;
}

void
vrb_cm_close(struct vrb_tp *tp)
{
	ev_io_stop(tp->loop, &tp->cm_io);
	rdma_destroy_event_channel(tp->channel);
}

void
vrb_cm_reject(struct rdma_cm_id *id, enum vrb_reject why)
{
	uint8_t data[VRB_HELLO_BYTES];

	vrb_reject_encode(why, data);
	/* A peer that has gone meanwhile is no concern. */
	(void)rdma_reject(id, data, sizeof(data));
	(void)rdma_destroy_id(id);
}
