/* SPDX-License-Identifier: MIT */
/* tcp_tp.h - one tcp transport: what its listeners and connections share. */
#ifndef TRANSPORT_TCP_TP_H
#define TRANSPORT_TCP_TP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "loop/defer.h"
#include "transport/tcp.h"
#include "transport/transport.h"

struct tcp_tp {
	struct tp tp;
	struct ev_loop *loop;
	struct tcp_limits limits;
	struct list conns;     /* tcp_conn.node */
	struct list listeners; /* tcp_listener.node */
	struct list half_open; /* tcp_conn.half_open_node, oldest first */
	uint32_t half_opens;
	uint64_t serial;	/* of the last connection */
	ev_prepare flush;	/* writes what the turn produced */
	struct list flush_list; /* tcp_conn.flush_node */
	atomic_uint regions;
	bool is_stopping;
	struct defer stopped;
	void (*stopped_fn)(void *arg);
	void *stopped_arg;
};

struct tp_region {
	struct tp_base base;
	uint8_t *mem; /* the caller's */
	size_t length_bytes;
	enum tp_lend lend;
	atomic_uint grants; /* the helper thread asks for it in tp_region_release() */
};

static inline struct tcp_tp *
tcp_tp_of(const void *object)
{
	return container_of(tp_of(object), struct tcp_tp, tp);
}

/* A connection was freed: the last one ends a shutdown. */
void tcp_tp_conn_gone(struct tcp_tp *tcp);

#endif /* TRANSPORT_TCP_TP_H */
