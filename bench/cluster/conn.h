/* SPDX-License-Identifier: MIT */
/* conn.h - a connection of the net: its two ends, and what is under way on it. */
#ifndef BENCH_CLUSTER_CONN_H
#define BENCH_CLUSTER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net.h"

struct net_region {
	struct tp_base base;  /* first */
	const uint8_t *bytes; /* or NET_BYTES_NONE */
	size_t length_bytes;
	enum tp_lend lend;
	uint32_t n_grants;
};

struct net_grant {
	struct tp_base base; /* first */
	struct list node;
	struct sim_event ev;
	struct net_conn *conn;
	struct net_region *region;
	struct tp_remote remote;
	tp_grant_fn *fn;
	void *arg;
	bool is_exposed;
	bool is_revoking;
};

struct net_msg {
	struct list node;
	uint64_t at_ns;
	size_t length_bytes;
	uint8_t bytes[];
};

struct net_op {
	struct sim_event ev;
	struct list node;
	struct net_conn *conn;
	struct tp_op *op;
};

struct net_conn {
	struct tp_base base; /* first */
	struct host *host;
	struct net_conn *peer;
	const struct tp_conn_events *events;
	void *arg;
	uint32_t target; /* client: the daemon's machine */
	uint32_t serial;
	struct list ops;
	struct list grants;
	struct list inbox;
	uint32_t n_inbox;
	struct sim_event inbox_ev;
	struct sim_event step_ev; /* connecting: the way there, then up(); ending: down() */
	struct sim_event gone_ev; /* the news that the other end is gone */
	int gone_reason;
	int reason;
	char name[24];
	bool is_client;
	bool is_new;	 /* inside incoming() */
	bool is_refused; /* closed inside incoming() */
	bool is_ready;
	bool is_closed;
	bool is_ending;
};

/* conn.c */
int conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
void conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void conn_close(struct tp_conn *conn);
const char *conn_name(const struct tp_conn *conn);
int conn_send(struct tp_conn *conn, const void *bytes, size_t length_bytes);
void conn_end(struct net_conn *c, int reason);
void conn_down_if_idle(struct net_conn *c);

/* memory.c: operations, regions, grants */
void memory_post(struct tp_conn *conn, struct tp_op *op);
int memory_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		    struct tp_region **ret_region);
int memory_release(struct tp_region *region);
int memory_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *fn, void *arg,
		 struct tp_grant **ret_grant);
void memory_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void memory_revoke(struct tp_grant *grant, tp_grant_fn *fn, void *arg);
void memory_grants_drop(struct net_conn *c);

static inline struct net_conn *
conn_of(const struct tp_conn *conn)
{
	return (struct net_conn *)(uintptr_t)conn;
}

#endif /* BENCH_CLUSTER_CONN_H */
