/* SPDX-License-Identifier: MIT */
/*
 * A type 2B window admits one queue pair, and closes in microseconds, by a work
 * request, without the kernel.  Devices without windows register the memory once
 * per grant in the protection domain of the connection, where no other queue pair is.
 */
#include "rdma/grant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <infiniband/verbs.h>

#include "common/log.h"
#include "rdma/conn.h"
#include "rdma/device.h"
#include "rdma/region.h"

enum grant_state {
	GRANT_BINDING = 1, /* waiting for a work request, its end, or the report */
	GRANT_BOUND,
	GRANT_REVOKING, /* as BINDING */
};

struct vrb_grant {
	struct tp_base base; /* first */
	struct vrb_wr wr;
	struct list node;
	struct list work_node;
	struct vrb_conn *conn;
	struct vrb_region *region;
	enum grant_state state;
	struct ibv_mw *mw; /* with windows */
	struct ibv_mr *mr; /* without */
	uint32_t rkey;
	tp_grant_fn *done;
	void *done_arg;
};

static struct vrb_grant *
grant_of(const struct tp_grant *grant)
{
	return (struct vrb_grant *)(uintptr_t)grant;
}

void
vrb_grants_init(struct vrb_grants *g)
{
	list_init(&g->all);
	list_init(&g->waiting);
	list_init(&g->to_report);
	g->n_in_flight = 0;
}

/* Takes back what the device knows.  On failure the region stays in use for ever. */
static int
close_access(struct vrb_grant *grant)
{
	int r = 0;

	if (grant->mw)
		r = ibv_dealloc_mw(grant->mw);
	else if (grant->mr)
		r = ibv_dereg_mr(grant->mr);
	if (r != 0)
		return log_err_errno(r, "%s: cannot take back %zu bytes; they stay out of use",
				     tp_conn_name((struct tp_conn *)grant->conn),
				     grant->region->length_bytes);
	if (grant->mw || grant->mr)
		atomic_fetch_sub(&grant->region->n_grants, 1);
	grant->mw = NULL;
	grant->mr = NULL;
	return 0;
}

static void
grant_free(struct vrb_grant *grant)
{
	list_del(&grant->node);
	list_del(&grant->work_node);
	free(grant);
}

/* A bind or an invalidation has ended well, or did not need the device. */
static void
finish(struct vrb_grant *grant)
{
	int r;

	if (grant->state == GRANT_BINDING) {
		grant->state = GRANT_BOUND;
		grant->done(grant->done_arg, (struct tp_grant *)grant, 0);
		return;
	}
	r = close_access(grant);
	if (r < 0) { /* the end of the connection takes it back, as transport.h promises */
		vrb_conn_fail(grant->conn, r, "a grant");
		grant->done(grant->done_arg, (struct tp_grant *)grant, r);
		return;
	}
	grant->done(grant->done_arg, (struct tp_grant *)grant, 0);
	grant_free(grant);
}

static void
work_done(struct vrb_wr *wr, const struct ibv_wc *wc)
{
	struct vrb_grant *grant = container_of(wr, struct vrb_grant, wr);
	struct vrb_conn *conn = grant->conn;

	conn->grants.n_in_flight--;
	if (wc->status != IBV_WC_SUCCESS)
		vrb_conn_wc_failed(conn, wc, grant->state == GRANT_BINDING ? "bind" : "revoke");
	/* A connection that ends takes its grants along, without callbacks. */
	if (!vrb_conn_is_ending(conn))
		finish(grant);
}

static int
access_of(const struct vrb_region *rg)
{
	return IBV_ACCESS_REMOTE_READ | (rg->lend == TP_LEND_READ ? 0 : IBV_ACCESS_REMOTE_WRITE);
}

static int
open_access(struct vrb_grant *grant)
{
	const struct vrb_device *d = grant->conn->dev;
	const struct vrb_region *rg = grant->region;

	if (d->has_windows) {
		grant->mw = ibv_alloc_mw(d->pd, IBV_MW_TYPE_2);
		if (!grant->mw)
			return -errno;
		grant->rkey = ibv_inc_rkey(grant->mw->rkey);
		return 0;
	}
	grant->mr = ibv_reg_mr(vrb_conn_pd(grant->conn), rg->addr, rg->length_bytes,
			       IBV_ACCESS_LOCAL_WRITE | access_of(rg));
	if (!grant->mr)
		return -errno;
	grant->rkey = grant->mr->rkey;
	return 0;
}

/* By a work request where there are windows, else only the callback is to come. */
static void
start_work(struct vrb_grant *grant)
{
	struct vrb_conn *conn = grant->conn;

	if (conn->dev->has_windows) {
		list_add_tail(&conn->grants.waiting, &grant->work_node);
		vrb_conn_want_flush(conn);
	} else {
		list_add_tail(&conn->grants.to_report, &grant->work_node);
		vrb_conn_want_turn(conn);
	}
}

int
vrb_grant_new(struct tp_conn *base, struct tp_region *region, tp_grant_fn *granted, void *arg,
	      struct tp_grant **ret_grant)
{
	struct vrb_conn *conn = vrb_conn_of(base);
	struct vrb_region *rg = vrb_region_of(region);
	struct vrb_grant *grant;
	int r;

	if (!vrb_conn_is_up(conn))
		return -ENOTCONN;
	if (!rg->lend)
		return -EINVAL;
	if (!vrb_conn_can_grant(conn))
		return -EOPNOTSUPP;
	if (conn->dev->has_windows && !rg->mrs[conn->dev->index])
		return -ENOTCONN; /* the device has gone, the connection is about to */
	grant = calloc(1, sizeof(*grant));
	if (!grant)
		return -ENOMEM;
	*grant = (struct vrb_grant){
		.base = conn->base,
		.wr.done = work_done,
		.conn = conn,
		.region = rg,
		.state = GRANT_BINDING,
		.done = granted,
		.done_arg = arg,
	};
	list_init(&grant->work_node);
	r = open_access(grant);
	if (r < 0) {
		free(grant);
		return log_err_errno(-r, "%s: cannot lend %zu bytes", tp_conn_name(base),
				     rg->length_bytes);
	}
	atomic_fetch_add(&rg->n_grants, 1);
	list_add_tail(&conn->grants.all, &grant->node);
	start_work(grant);
	*ret_grant = (struct tp_grant *)grant;
	return 0;
}

void
vrb_grant_remote(const struct tp_grant *base, struct tp_remote *ret_remote)
{
	const struct vrb_grant *grant = grant_of(base);

	assert(grant->state != GRANT_BINDING);
	*ret_remote = (struct tp_remote){
		.addr = (uintptr_t)grant->region->addr,
		.length_bytes = grant->region->length_bytes,
		.rkey = grant->rkey,
	};
}

void
vrb_grant_revoke(struct tp_grant *base, tp_grant_fn *revoked, void *arg)
{
	struct vrb_grant *grant = grant_of(base);

	assert(grant->state == GRANT_BOUND);
	grant->state = GRANT_REVOKING;
	grant->done = revoked;
	grant->done_arg = arg;
	if (!vrb_conn_is_ending(grant->conn))
		start_work(grant);
}

static int
post_work(struct vrb_grant *grant)
{
	struct vrb_conn *conn = grant->conn;
	struct ibv_send_wr wr = {
		.wr_id = (uintptr_t)&grant->wr,
		.send_flags = IBV_SEND_SIGNALED,
	};
	struct ibv_send_wr *bad;
	int r;

	if (grant->state == GRANT_BINDING) {
		wr.opcode = IBV_WR_BIND_MW;
		wr.bind_mw.mw = grant->mw;
		wr.bind_mw.rkey = grant->rkey;
		wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
			.mr = grant->region->mrs[conn->dev->index],
			.addr = (uintptr_t)grant->region->addr,
			.length = grant->region->length_bytes,
			.mw_access_flags = (unsigned)access_of(grant->region),
		};
	} else {
		wr.opcode = IBV_WR_LOCAL_INV;
		wr.invalidate_rkey = grant->rkey;
	}
	r = ibv_post_send(conn->id->qp, &wr, &bad);
	if (r != 0)
		return -r;
	vrb_cq_posted(&conn->send_cq, 1);
	conn->grants.n_in_flight++;
	return 0;
}

int
vrb_grants_flush(struct vrb_conn *conn)
{
	struct vrb_grants *g = &conn->grants;
	int r = 0;

	while (r == 0 && g->n_in_flight < VRB_GRANT_WRS && !list_is_empty(&g->waiting)) {
		struct list *node = list_pop_head(&g->waiting);

		r = post_work(container_of(node, struct vrb_grant, work_node));
	}
	return r;
}

void
vrb_grants_report(struct vrb_conn *conn)
{
	struct list due;

	list_init(&due);
	list_splice_tail(&due, &conn->grants.to_report);
	while (!list_is_empty(&due)) {
		struct list *node = list_pop_head(&due);

		if (!vrb_conn_is_ending(conn))
			finish(container_of(node, struct vrb_grant, work_node));
	}
}

void
vrb_grants_close_all(struct vrb_conn *conn)
{
	struct list *node;

	list_foreach (node, &conn->grants.all)
		(void)close_access(container_of(node, struct vrb_grant, node));
}

void
vrb_grants_free_all(struct vrb_conn *conn)
{
	struct list *node, *next;

	vrb_grants_close_all(conn);
	list_foreach_safe (node, next, &conn->grants.all)
		grant_free(container_of(node, struct vrb_grant, node));
}
