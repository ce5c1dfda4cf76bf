/* SPDX-License-Identifier: MIT */
/* A request that is no peer of ours is refused here and never becomes a connection. */
#include "rdma/listener.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rdma/rdma_cma.h>

#include "common/log.h"
#include "rdma/cm.h"
#include "rdma/conn.h"
#include "transport/address.h"

#define BACKLOG 64

struct vrb_listener {
	struct tp_base base; /* first */
	struct vrb_cm_owner cm;
	struct list node;
	struct rdma_cm_id *id; /* NULL: its device has gone */
	tp_incoming_fn *incoming;
	void *arg;
	char address[TP_ADDRESS_BYTES_MAX];
};

static struct vrb_listener *
listener_of(const struct tp_listener *listener)
{
	return (struct vrb_listener *)(uintptr_t)listener;
}

static void
refuse(const struct vrb_listener *l, const struct vrb_cm_event *event, enum vrb_reject why,
       const char *text)
{
	char peer[TP_ADDRESS_BYTES_MAX];

	tp_address_format(rdma_get_peer_addr(event->id), peer, sizeof(peer));
	log_info("rdma:%s: refused %s: %s", l->address, peer, text);
	vrb_cm_reject(event->id, why);
}

static void
handle_request(struct vrb_listener *l, const struct vrb_cm_event *event)
{
	struct vrb_tp *tp = vrb_tp_of(l->base.tp);
	struct vrb_conn *conn;
	uint16_t depth;
	int r;

	r = vrb_hello_decode(event->data, event->data_bytes, &depth);
	if (r == -EPROTONOSUPPORT)
		refuse(l, event, VRB_REJECT_VERSION, "another version of the protocol");
	else if (r < 0)
		refuse(l, event, VRB_REJECT_PROTOCOL, "not our protocol");
	else if (tp->n_pending >= tp->config.pending_max)
		refuse(l, event, VRB_REJECT_BUSY, "too many connections are being made");
	else if (vrb_conn_new_incoming(tp, event, depth, &conn) < 0)
		refuse(l, event, VRB_REJECT_BUSY, "no memory");
	else {
		/* May close this listener: not used any more after this. */
		l->incoming(l->arg, (struct tp_conn *)conn);
		vrb_conn_incoming_done(conn);
	}
}

static void
handle(struct vrb_cm_owner *owner, const struct vrb_cm_event *event)
{
	struct vrb_listener *l = container_of(owner, struct vrb_listener, cm);

	switch (event->type) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		handle_request(l, event);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		/* Only a listener on one device's address hears of it.  The removal waits
		 * for the id. */
		log_warn("rdma:%s: the device is gone, nobody can connect", l->address);
		(void)rdma_destroy_id(l->id);
		l->id = NULL;
		break;
	case RDMA_CM_EVENT_ADDR_CHANGE:
		log_warn("rdma:%s: the address has moved", l->address);
		break;
	case RDMA_CM_EVENT_ADDR_RESOLVED: /* the rest comes to ids of connections only */
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
	case RDMA_CM_EVENT_ESTABLISHED:
	case RDMA_CM_EVENT_DISCONNECTED:
	case RDMA_CM_EVENT_MULTICAST_JOIN:
	case RDMA_CM_EVENT_MULTICAST_ERROR:
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		log_debug("rdma:%s: %s", l->address, rdma_event_str(event->type));
		break;
	}
}

int
vrb_listener_new(struct tp *base, const char *address, tp_incoming_fn *incoming, void *arg,
		 struct tp_listener **ret_listener)
{
	struct vrb_tp *tp = vrb_tp_of(base);
	struct sockaddr_storage sa;
	struct vrb_listener *l;
	socklen_t sa_bytes;
	int r;

	r = tp_address_parse(address, &sa, &sa_bytes);
	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	*l = (struct vrb_listener){
		.base.tp = base, .cm.handle = handle, .incoming = incoming, .arg = arg};
	if (rdma_create_id(tp->channel, &l->id, &l->cm, RDMA_PS_TCP) != 0) {
		r = -errno;
		goto err_free;
	}
	if (rdma_bind_addr(l->id, (struct sockaddr *)&sa) != 0 ||
	    rdma_listen(l->id, BACKLOG) != 0) {
		r = -errno;
		goto err_id;
	}
	tp_address_format(rdma_get_local_addr(l->id), l->address, sizeof(l->address));
	list_add_tail(&tp->listeners, &l->node);
	*ret_listener = (struct tp_listener *)l;
	return 0;

err_id:
	(void)rdma_destroy_id(l->id);
err_free:
	free(l);
	return r;
}

void
vrb_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	(void)snprintf(buf, size, "rdma:%s", listener_of(listener)->address);
}

void
vrb_listener_close(struct tp_listener *base)
{
	struct vrb_listener *l = listener_of(base);
	struct vrb_tp *tp = vrb_tp_of(l->base.tp);

	/* Requests that nobody has read yet go with the id: the kernel refuses them. */
	if (l->id)
		(void)rdma_destroy_id(l->id);
	list_del(&l->node);
	free(l);
	vrb_tp_check_shutdown(tp);
}

void
vrb_listener_close_all(struct vrb_tp *tp)
{
	while (!list_is_empty(&tp->listeners)) {
		struct list *node = tp->listeners.next;

		vrb_listener_close(
			(struct tp_listener *)container_of(node, struct vrb_listener, node));
	}
}
