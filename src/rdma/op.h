/* SPDX-License-Identifier: MIT */
/*
 * op.h - READ and WRITE of one connection.
 *
 * posted by the core -> waiting -> in the device (a slot) -> done()
 *                              \-> failed (the connection ends first) -> done()
 */
#ifndef RDMA_OP_H
#define RDMA_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "rdma/cq.h"
#include "transport/transport.h"

struct vrb_conn;

struct vrb_op_slot {
	struct vrb_wr wr; /* first */
	struct vrb_conn *conn;
	struct tp_op *op; /* NULL: free */
	struct list node; /* free_slots */
};

struct vrb_ops {
	struct vrb_op_slot *slots;
	uint32_t depth;
	struct list free_slots;
	struct list waiting; /* tp_op.node, in the order posted */
	struct list failed;  /* tp_op.node; done(-ECANCELED) is due */
};

/* The lists, so that ops may be posted before vrb_ops_init(). */
void vrb_ops_prepare(struct vrb_ops *ops);
/* 0 or -ENOMEM; vrb_ops_fini() in any case. */
int vrb_ops_init(struct vrb_conn *conn, uint32_t depth);
void vrb_ops_fini(struct vrb_ops *ops);

/* Gives the device what it has room for.  0 or -errno: the connection has to end. */
int vrb_ops_flush(struct vrb_conn *conn);
/* What waits is to fail. */
void vrb_ops_cancel_waiting(struct vrb_ops *ops);
/* After the queue pair is destroyed: what the device kept is to fail. */
void vrb_ops_cancel_posted(struct vrb_ops *ops);
/* Runs done(-ECANCELED) of the ops that failed before this call. */
void vrb_ops_report_failed(struct vrb_ops *ops);

#endif /* RDMA_OP_H */
