/* SPDX-License-Identifier: MIT */
/* The instance: the table of operations, regions, the flush of each turn, shutdown. */
#include "transport/tcp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "transport/tcp_conn.h"
#include "transport/tcp_grant.h"
#include "transport/tcp_listener.h"
#include "transport/tcp_tp.h"
#include "transport/tcp_tx.h"

_Static_assert(FRAME_MESSAGE_BYTES_MAX == TP_MESSAGE_BYTES_MAX, "any message fits a frame");
_Static_assert(FRAME_OP_BYTES_MAX == TP_OP_BYTES_MAX, "any op fits a frame");

static int
region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		struct tp_region **ret_region)
{
	struct tp_region *region;

	if (!base || length_bytes == 0)
		return -EINVAL;
	region = calloc(1, sizeof(*region));
	if (!region)
		return -ENOMEM;
	region->base.tp = tp;
	region->mem = base;
	region->length_bytes = length_bytes;
	region->lend = lend;
	atomic_init(&region->grants, 0);
	atomic_fetch_add(&tcp_tp_of(region)->regions, 1);
	*ret_region = region;
	return 0;
}

static int
region_release(struct tp_region *region)
{
	if (atomic_load(&region->grants) > 0)
		return -EBUSY;
	atomic_fetch_sub(&tcp_tp_of(region)->regions, 1);
	free(region);
	return 0;
}

/* Connections that want to write again later put themselves back by their write watcher. */
static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct tcp_tp *tcp = container_of(w, struct tcp_tp, flush);
	struct list *node;

	(void)loop;
	(void)revents;
	while ((node = list_pop_head(&tcp->flush_list)))
		tcp_tx_flush(container_of(node, struct tp_conn, flush_node));
}

static void
stopped_cb(void *arg)
{
	struct tcp_tp *tcp = arg;

	tcp->stopped_fn(tcp->stopped_arg);
}

void
tcp_tp_conn_gone(struct tcp_tp *tcp)
{
	if (tcp->is_stopping && list_is_empty(&tcp->conns))
		defer_start(&tcp->stopped);
}

static void
tcp_shutdown(struct tp *tp, void (*done)(void *arg), void *arg)
{
	struct tcp_tp *tcp = container_of(tp, struct tcp_tp, tp);
	struct list *node, *next;

	assert(!tcp->is_stopping);
	tcp->is_stopping = true;
	tcp->stopped_fn = done;
	tcp->stopped_arg = arg;
	while (!list_is_empty(&tcp->listeners))
		tcp_listener_close(container_of(tcp->listeners.next, struct tp_listener, node));
	list_foreach_safe (node, next, &tcp->conns)
		tcp_conn_close(container_of(node, struct tp_conn, node));
	tcp_tp_conn_gone(tcp);
}

static void
tcp_free(struct tp *tp)
{
	struct tcp_tp *tcp = container_of(tp, struct tcp_tp, tp);

	assert(list_is_empty(&tcp->conns) && list_is_empty(&tcp->listeners));
	assert(atomic_load(&tcp->regions) == 0);
	defer_stop(&tcp->stopped);
	ev_ref(tcp->loop);
	ev_prepare_stop(tcp->loop, &tcp->flush);
	free(tcp);
}

static const struct tp_ops tcp_ops = {
	.name = "tcp",
	.connect = tcp_conn_connect,
	.listen = tcp_listener_new,
	.listener_address = tcp_listener_address,
	.listener_close = tcp_listener_close,
	.accept = tcp_conn_accept,
	.close = tcp_conn_close,
	.conn_name = tcp_conn_name,
	.send = tcp_tx_send,
	.post = tcp_conn_post,
	.region_register = region_register,
	.region_release = region_release,
	.grant = tcp_grant_new,
	.grant_remote = tcp_grant_remote,
	.revoke = tcp_grant_revoke,
	.shutdown = tcp_shutdown,
	.free = tcp_free,
};

int
tcp_tp_new_with_limits(struct ev_loop *loop, const struct tcp_limits *limits, struct tp **ret_tp)
{
	struct tcp_tp *tcp;

	assert(limits->handshake_ms && limits->stall_ms && limits->linger_ms &&
	       limits->half_open_max);
	tcp = calloc(1, sizeof(*tcp));
	if (!tcp)
		return -ENOMEM;
	tcp->tp.ops = &tcp_ops;
	tcp->loop = loop;
	tcp->limits = *limits;
	list_init(&tcp->conns);
	list_init(&tcp->listeners);
	list_init(&tcp->half_open);
	list_init(&tcp->flush_list);
	atomic_init(&tcp->regions, 0);
	defer_init(&tcp->stopped, loop, stopped_cb, tcp);
	/* Always active: started from another prepare watcher it would miss that turn.
	 * Unreferenced: it alone is no reason for the loop to go on. */
	ev_prepare_init(&tcp->flush, flush_cb);
	ev_set_priority(&tcp->flush, LOOP_PRI_FLUSH);
	ev_prepare_start(loop, &tcp->flush);
	ev_unref(loop);
	*ret_tp = &tcp->tp;
	return 0;
}

int
tcp_tp_new(struct ev_loop *loop, struct tp **ret_tp)
{
	const struct tcp_limits limits = TCP_LIMITS_DEFAULT;

	return tcp_tp_new_with_limits(loop, &limits, ret_tp);
}
