/* SPDX-License-Identifier: MIT */
/*
 * librdmacm opens the devices and owns their contexts; what we make in them has
 * to be gone before it closes one, which it does some time after a removal.  So
 * a device that reports its end ends its connections, and the last of them takes
 * the registrations and the protection domain along.
 */
#include "rdma/device.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/log.h"
#include "rdma/conn.h"
#include "rdma/region.h"
#include "rdma/tp.h"

#define ASYNC_EVENTS_PER_TURN 16

static void
release_memory(struct vrb_device *d)
{
	int r;

	ev_io_stop(d->tp->loop, &d->async_io);
	if (!d->pd)
		return;
	vrb_region_drop_device(d->tp, d);
	r = ibv_dealloc_pd(d->pd);
	if (r != 0)
		(void)log_err_errno(r, "rdma: %s: cannot release the protection domain",
				    ibv_get_device_name(d->verbs->device));
	d->pd = NULL;
}

void
vrb_device_gone(struct vrb_device *d)
{
	if (d->is_gone)
		return;
	log_warn("rdma: %s: the device is gone", ibv_get_device_name(d->verbs->device));
	d->is_gone = true;
	ev_io_stop(d->tp->loop, &d->async_io);
	vrb_conn_end_on_device(d, 0, -ENODEV);
	if (d->n_conns == 0)
		release_memory(d);
}

/* @event is a copy; the queue pair it names lives, only the loop destroys those. */
static void
handle_async(struct vrb_device *d, const struct ibv_async_event *event)
{
	const char *name = ibv_get_device_name(d->verbs->device);
	const char *what = ibv_event_type_str(event->event_type);

	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_PATH_MIG_ERR:
		vrb_conn_qp_failed(event->element.qp->qp_context, what);
		break;
	case IBV_EVENT_COMM_EST:
		/* The first message overtook the end of the handshake: the CM wants to know. */
		vrb_conn_comm_established(event->element.qp->qp_context);
		break;
	case IBV_EVENT_CQ_ERR:
		vrb_conn_qp_failed(event->element.cq->cq_context, what);
		break;
	case IBV_EVENT_PORT_ERR:
		/* Nothing arrives any more; without this each op would find out by itself. */
		log_warn("rdma: %s port %d: %s", name, event->element.port_num, what);
		vrb_conn_end_on_device(d, (uint8_t)event->element.port_num, -ENETDOWN);
		break;
	case IBV_EVENT_DEVICE_FATAL:
		vrb_device_gone(d);
		break;
	case IBV_EVENT_PORT_ACTIVE:
		log_notice("rdma: %s port %d: %s", name, event->element.port_num, what);
		break;
	case IBV_EVENT_SQ_DRAINED:  /* we never ask for the state SQD */
	case IBV_EVENT_PATH_MIG:    /* a connection goes on, on its other path */
	case IBV_EVENT_LID_CHANGE:  /* connections that break say so themselves, ... */
	case IBV_EVENT_PKEY_CHANGE: /* ... also for these */
	case IBV_EVENT_SM_CHANGE:
	case IBV_EVENT_CLIENT_REREGISTER:
	case IBV_EVENT_GID_CHANGE:
	case IBV_EVENT_SRQ_ERR: /* no shared receive queues here */
	case IBV_EVENT_SRQ_LIMIT_REACHED:
	case IBV_EVENT_QP_LAST_WQE_REACHED: /* only with those */
	case IBV_EVENT_WQ_FATAL:	    /* no work queues of their own either */
		log_debug("rdma: %s: %s", name, what);
		break;
	}
}

static void
async_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct vrb_device *d = container_of(w, struct vrb_device, async_io);
	struct ibv_async_event event;
	unsigned i;

	(void)loop;
	(void)revents;
	for (i = 0; i < ASYNC_EVENTS_PER_TURN && !d->is_gone; i++) {
		if (ibv_get_async_event(d->verbs, &event) != 0) {
			if (errno != EAGAIN && errno != EINTR)
				vrb_device_gone(d);
			return;
		}
		ibv_ack_async_event(&event);
		handle_async(d, &event);
	}
}

static uint8_t
clamp_u8(int value)
{
	return value < 1 ? 1 : value > UINT8_MAX ? UINT8_MAX : (uint8_t)value;
}

static void
read_attributes(struct vrb_device *d, const struct ibv_device_attr *attr)
{
	d->max_qp_wr = (uint32_t)attr->max_qp_wr;
	d->max_cqe = (uint32_t)attr->max_cqe;
	d->max_responder_resources = clamp_u8(attr->max_qp_rd_atom);
	d->max_initiator_depth = clamp_u8(attr->max_qp_init_rd_atom);
	d->has_windows = (attr->device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) &&
			 attr->max_mw > 0 && !d->tp->config.register_grants;
}

/* Frees what is left of a device that has gone; VRB_DEVICES_MAX: all are in use. */
static uint32_t
free_index(struct vrb_tp *tp)
{
	uint32_t i;

	for (i = 0; i < tp->n_devices; i++) {
		struct vrb_device *d = tp->devices[i];

		if (!d || (d->is_gone && !d->pd)) {
			free(d);
			tp->devices[i] = NULL;
			return i;
		}
	}
	return i;
}

static int
device_open(struct vrb_tp *tp, struct ibv_context *verbs, struct vrb_device **ret_device)
{
	struct ibv_device_attr attr;
	struct vrb_device *d;
	uint32_t index;
	int r;

	index = free_index(tp);
	if (index == VRB_DEVICES_MAX) {
		log_warn("rdma: %s: not used, as %u devices are",
			 ibv_get_device_name(verbs->device), VRB_DEVICES_MAX);
		return -ENODEV;
	}
	r = ibv_query_device(verbs, &attr);
	if (r != 0)
		return -r;
	if (fcntl(verbs->async_fd, F_SETFL, fcntl(verbs->async_fd, F_GETFL) | O_NONBLOCK) < 0)
		return -errno;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->tp = tp;
	d->verbs = verbs;
	d->index = index;
	read_attributes(d, &attr);
	d->pd = ibv_alloc_pd(verbs);
	if (!d->pd) {
		r = -errno;
		goto err_free;
	}
	r = vrb_region_add_device(tp, d);
	if (r < 0)
		goto err_pd;
	ev_io_init(&d->async_io, async_cb, verbs->async_fd, EV_READ);
	ev_io_start(tp->loop, &d->async_io);
	log_notice("rdma: %s: revokes grants by %s; %u reads at a time",
		   ibv_get_device_name(verbs->device),
		   d->has_windows ? "type 2B memory windows" : "one registration per grant",
		   d->max_initiator_depth);
	*ret_device = d;
	return 0;

err_pd:
	(void)ibv_dealloc_pd(d->pd);
err_free:
	free(d);
	return r;
}

int
vrb_device_open_all(struct vrb_tp *tp)
{
	struct ibv_context **contexts;
	struct vrb_device *d;
	int n, i, r;

	contexts = rdma_get_devices(&n);
	if (!contexts)
		return errno == ENOMEM ? -ENOMEM : -ENODEV;
	r = n > 0 ? 0 : -ENODEV;
	for (i = 0; i < n && r == 0; i++)
		r = device_open(tp, contexts[i], &d);
	rdma_free_devices(contexts);
	/* More devices than we use are no reason not to start. */
	return tp->n_devices > 0 && r == -ENODEV ? 0 : r;
}

int
vrb_device_find(struct vrb_tp *tp, struct ibv_context *verbs, struct vrb_device **ret_device)
{
	uint32_t i;

	for (i = 0; i < tp->n_devices; i++) {
		struct vrb_device *d = tp->devices[i];

		if (!d || d->verbs != verbs)
			continue;
		if (d->is_gone)
			return -ENODEV;
		*ret_device = d;
		return 0;
	}
	return device_open(tp, verbs, ret_device);
}

void
vrb_device_get(struct vrb_device *device)
{
	device->n_conns++;
}

void
vrb_device_put(struct vrb_device *device)
{
	assert(device->n_conns > 0);
	device->n_conns--;
	if (device->is_gone && device->n_conns == 0)
		release_memory(device);
}

void
vrb_device_close_all(struct vrb_tp *tp)
{
	while (tp->n_devices > 0) {
		struct vrb_device *d = tp->devices[--tp->n_devices];

		if (!d)
			continue;
		assert(d->n_conns == 0);
		release_memory(d);
		free(d);
	}
}
