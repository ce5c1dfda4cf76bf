/* SPDX-License-Identifier: MIT */
/* Ops of one turn of the loop share a doorbell: they are chained when the turn ends. */
#include "rdma/op.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "rdma/conn.h"
#include "rdma/device.h"
#include "rdma/region.h"
#include "rdma/status.h"

#define CHAIN_MAX 32u

static void
op_done(struct vrb_wr *wr, const struct ibv_wc *wc)
{
	struct vrb_op_slot *slot = (struct vrb_op_slot *)wr;
	struct vrb_conn *conn = slot->conn;
	struct tp_op *op = slot->op;

	assert(op);
	slot->op = NULL;
	list_add_tail(&conn->ops.free_slots, &slot->node);
	if (wc->status != IBV_WC_SUCCESS)
		vrb_conn_wc_failed(conn, wc, op->kind == TP_OP_READ ? "read" : "write");
	op->done(op, vrb_status_of_wc(wc->status));
}

void
vrb_ops_prepare(struct vrb_ops *ops)
{
	list_init(&ops->free_slots);
	list_init(&ops->waiting);
	list_init(&ops->failed);
}

int
vrb_ops_init(struct vrb_conn *conn, uint32_t depth)
{
	struct vrb_ops *ops = &conn->ops;
	uint32_t i;

	ops->slots = calloc(depth, sizeof(*ops->slots));
	if (!ops->slots)
		return -ENOMEM;
	ops->depth = depth;
	for (i = 0; i < depth; i++) {
		ops->slots[i].wr.done = op_done;
		ops->slots[i].conn = conn;
		list_add_tail(&ops->free_slots, &ops->slots[i].node);
	}
	return 0;
}

void
vrb_ops_fini(struct vrb_ops *ops)
{
	free(ops->slots);
	ops->slots = NULL;
}

/* Moves one op into a slot and its work request; false: not registered here. */
static bool
prepare_wr(struct vrb_conn *conn, struct tp_op *op, struct ibv_send_wr *wr, struct ibv_sge *sge)
{
	const struct vrb_region *rg = vrb_region_of(op->region);
	const struct ibv_mr *mr = vrb_conn_can_post(conn) ? rg->mrs[conn->dev->index] : NULL;
	struct vrb_op_slot *slot;

	if (!mr)
		return false;
	assert((uint8_t *)op->buf >= (uint8_t *)rg->addr &&
	       (uint8_t *)op->buf + op->length_bytes <= (uint8_t *)rg->addr + rg->length_bytes);
	slot = container_of(list_pop_head(&conn->ops.free_slots), struct vrb_op_slot, node);
	slot->op = op;
	*sge = (struct ibv_sge){
		.addr = (uintptr_t)op->buf, .length = op->length_bytes, .lkey = mr->lkey};
	*wr = (struct ibv_send_wr){
		.wr_id = (uintptr_t)&slot->wr,
		.sg_list = sge,
		.num_sge = 1,
		.opcode = op->kind == TP_OP_READ ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {.remote_addr = op->remote_addr, .rkey = op->rkey},
	};
	return true;
}

/* The requests from @wr on were not taken: their ops go back, to fail.  Returns how many. */
static unsigned
take_back(struct vrb_conn *conn, struct ibv_send_wr *wr)
{
	unsigned n;

	for (n = 0; wr; n++, wr = wr->next) {
		struct vrb_op_slot *slot = (struct vrb_op_slot *)(uintptr_t)wr->wr_id;

		list_add_tail(&conn->ops.failed, &slot->op->node);
		slot->op = NULL;
		list_add_tail(&conn->ops.free_slots, &slot->node);
	}
	return n;
}

static int
post_chain(struct vrb_conn *conn)
{
	struct ibv_send_wr wrs[CHAIN_MAX], *bad = NULL;
	struct ibv_sge sges[CHAIN_MAX];
	struct vrb_ops *ops = &conn->ops;
	int r, prepared = 0;
	unsigned n = 0;

	while (n < CHAIN_MAX && prepared == 0 && !list_is_empty(&ops->waiting) &&
	       !list_is_empty(&ops->free_slots)) {
		struct tp_op *op = container_of(list_pop_head(&ops->waiting), struct tp_op, node);

		if (!prepare_wr(conn, op, &wrs[n], &sges[n])) {
			list_add_tail(&ops->failed, &op->node);
			prepared = -ENODEV;
			break;
		}
		if (n > 0)
			wrs[n - 1].next = &wrs[n];
		n++;
	}
	if (n == 0)
		return prepared;
	r = ibv_post_send(conn->id->qp, wrs, &bad);
	if (r != 0)
		n -= take_back(conn, bad);
	vrb_cq_posted(&conn->send_cq, n);
	return r != 0 ? -r : prepared;
}

int
vrb_ops_flush(struct vrb_conn *conn)
{
	struct vrb_ops *ops = &conn->ops;
	int r = 0;

	while (r == 0 && !list_is_empty(&ops->waiting) && !list_is_empty(&ops->free_slots))
		r = post_chain(conn);
	return r;
}

void
vrb_ops_cancel_waiting(struct vrb_ops *ops)
{
	list_splice_tail(&ops->failed, &ops->waiting);
}

void
vrb_ops_cancel_posted(struct vrb_ops *ops)
{
	uint32_t i;

	for (i = 0; ops->slots && i < ops->depth; i++) {
		if (!ops->slots[i].op)
			continue;
		list_add_tail(&ops->failed, &ops->slots[i].op->node);
		ops->slots[i].op = NULL;
	}
}

void
vrb_ops_report_failed(struct vrb_ops *ops)
{
	struct list due;

	list_init(&due);
	list_splice_tail(&due, &ops->failed);
	while (!list_is_empty(&due)) {
		struct tp_op *op = container_of(list_pop_head(&due), struct tp_op, node);

		op->done(op, -ECANCELED);
	}
}
