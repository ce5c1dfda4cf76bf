/* SPDX-License-Identifier: MIT */
/* shm_tp.h - one shm transport: what its listeners, connections and memory share. */
#ifndef TRANSPORT_SHM_TP_H
#define TRANSPORT_SHM_TP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "loop/defer.h"
#include "transport/shm.h"
#include "transport/transport.h"

struct shm_tp {
	struct tp tp;
	struct ev_loop *loop;
	struct shm_limits limits;
	struct list conns;     /* tp_conn.node */
	struct list listeners; /* tp_listener.node */
	struct list half_open; /* tp_conn.half_open_node, oldest first */
	uint32_t half_opens;
	uint64_t serial;	/* of the last connection */
	ev_prepare flush;	/* sends what the turn produced */
	struct list flush_list; /* tp_conn.flush_node */
	ev_check copy;		/* runs ops after the turn's other descriptors */
	ev_idle awake;		/* ops are left: the poll does not block */
	struct list ready;	/* tp_conn.ready_node: with ops to run */
	pthread_mutex_t lock;
	struct list memories;	/* shm_memory.node; under the lock */
	struct list holders;	/* shm_holder.node */
	ev_timer holders_check; /* while there are some */
	atomic_ullong held_bytes;
	atomic_uint regions;
	bool is_stopping;
	struct defer stopped;
	void (*stopped_fn)(void *arg);
	void *stopped_arg;
};

static inline struct shm_tp *
shm_tp_of(const void *object)
{
	return container_of(tp_of(object), struct shm_tp, tp);
}

/* A connection was freed: the last one ends a shutdown. */
void shm_tp_conn_gone(struct shm_tp *shm);

#endif /* TRANSPORT_SHM_TP_H */
