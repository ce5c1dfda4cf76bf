/* SPDX-License-Identifier: MIT */
/*
 * grant.h - memory lent to one connection.
 *
 * With windows:    new -> queued -> binding -> bound -> queued -> invalidating -> freed
 * Without:         new -> reported -> bound -> reported -> freed (registered at once)
 * A connection that ends frees its grants whatever their state; no callback then.
 */
#ifndef RDMA_GRANT_H
#define RDMA_GRANT_H

#include <stdint.h>

#include "common/list.h"
#include "transport/transport.h"

/* Bindings and invalidations of one connection that the device has at a time. */
#define VRB_GRANT_WRS 16u

struct vrb_conn;

struct vrb_grants {
	struct list all;       /* vrb_grant.node */
	struct list waiting;   /* vrb_grant.work_node: wants a work request */
	struct list to_report; /* vrb_grant.work_node: done without one */
	uint32_t n_in_flight;
};

void vrb_grants_init(struct vrb_grants *g);

/* tp_ops; see transport.h. */
int vrb_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
		  struct tp_grant **ret_grant);
void vrb_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void vrb_grant_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);

/* Gives the device what it has room for.  0 or -errno: the connection has to end. */
int vrb_grants_flush(struct vrb_conn *conn);
/* Runs the callbacks that are due; a loop callback of the connection calls it. */
void vrb_grants_report(struct vrb_conn *conn);
/* The queue pair serves no peer any more: takes everything back.  Before it is destroyed,
 * as windows that are still bound to it can delay that. */
void vrb_grants_close_all(struct vrb_conn *conn);
/* The queue pair is destroyed.  A grant that could not be taken back keeps its region busy. */
void vrb_grants_free_all(struct vrb_conn *conn);

#endif /* RDMA_GRANT_H */
