/* SPDX-License-Identifier: MIT */
/*
 * tcp_grant.h - regions lent to the peer of one connection.
 *
 * An rkey is the index of an entry and a random part that changes with each
 * use of the entry, so a stale one is refused.  Entries belong to their
 * connection: another connection's rkey means nothing here.
 */
#ifndef TRANSPORT_TCP_GRANT_H
#define TRANSPORT_TCP_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "transport/transport.h"
#include "wire/frame.h"

struct tp_grant {
	struct tp_base base;
	struct tp_conn *conn;
	struct tp_region *region; /* NULL once revoked */
	uint64_t addr;		  /* random: the peer learns nothing of our address space */
	uint32_t rkey;
	uint32_t answers; /* queued answers that point into the region */
	struct list event_node;
	tp_grant_fn *event; /* granted() or revoked(), due in the next turn */
	void *event_arg;
};

int tcp_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
		  struct tp_grant **ret_grant);
void tcp_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void tcp_grant_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);

/* The memory that @frame (READ, WRITE) asks for.  Returns 0 or -EACCES. */
int tcp_grant_find(struct tp_conn *conn, const struct frame *frame, struct tp_grant **ret_grant,
		   uint8_t **ret_mem);

/* Runs due events, a bounded number of them.  Returns whether some are left. */
bool tcp_grant_run_events(struct tp_conn *conn);

/* The connection is ending and its socket closed: every grant is freed, nobody is called. */
void tcp_grant_free_all(struct tp_conn *conn);

#endif /* TRANSPORT_TCP_GRANT_H */
