/* SPDX-License-Identifier: MIT */
/*
 * net.h - transport.h between machines in virtual time, kind and quick: messages and
 * operations take a while and arrive; nothing is cut, lost or overtaken.
 *
 * The simulator's net (tests/sim/net.h) is unkind on purpose, has an oracle behind every
 * call and a table of all pairs of hosts; this one is for ten thousand of them.  Pages
 * are not moved: only regions with bytes (NET_BYTES_NONE is none) are copied from.
 * What transport.h promises holds: an operation on a revoked grant fails and ends its
 * connection, down() comes last.
 */
#ifndef BENCH_CLUSTER_NET_H
#define BENCH_CLUSTER_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "sim/clock.h"
#include "transport/transport.h"

struct world;

#define NET_MESSAGE_TYPES 32u
/* One way of a message, and what a page operation takes beside its bytes: a fast RDMA network. */
#define NET_WAY_MIN_NS 2000u
#define NET_WAY_MAX_NS 6000u
/* As the base of a region: memory that nobody looks at. */
#define NET_BYTES_NONE ((void *)1)

/* One loop: a core's turn runs soon after anything happened there, and when it asked for it. */
struct host {
	struct tp tp; /* first */
	struct world *world;
	uint32_t machine;
	struct sim_event wake_ev;
	/* Returns when the next turn is due at the latest. */
	uint64_t (*turn)(struct host *h);
	/* A message was handed over in @cpu_ns. */
	void (*heard)(struct host *h, uint32_t type, uint64_t cpu_ns);
	struct tp_base listener;
	tp_incoming_fn *incoming;
	void *incoming_arg;
	uint32_t n_sent[NET_MESSAGE_TYPES]; /* by type */
};

struct net {
	uint32_t serial;
	struct list free_ops;
	uint64_t n_ops;
	uint64_t n_failed_ops;
	uint64_t n_conns_lost; /* ended by an error, not by tp_close() */
};

void net_init(struct net *n);
/* Queues @ev. */
void net_after(struct world *w, struct sim_event *ev, uint64_t least_ns, uint64_t most_ns);
void net_after_way(struct world *w, struct sim_event *ev);
void host_init(struct host *h, struct world *w, uint32_t machine, uint64_t (*turn)(struct host *h));
/* Something happened here: a turn follows. */
void host_touch(struct host *h);
/* CPU time now, ns. */
uint64_t cpu_now_ns(void);

#endif /* BENCH_CLUSTER_NET_H */
