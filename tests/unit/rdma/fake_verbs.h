/* SPDX-License-Identifier: MIT */
/*
 * fake_verbs.h - a device made of memory: completion queues with the real rule of
 * arming, and queue pairs whose SENDs meet the receive buffers of another one.
 *
 * The inline calls of verbs.h go through ibv_context.ops, which fake_context has;
 * the rest are definitions that win over the libraries' when the test is linked.
 */
#ifndef FAKE_VERBS_H
#define FAKE_VERBS_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "rdma/conn.h"
#include "rdma/device.h"
#include "rdma/region.h"
#include "rdma/tp.h"

#define FAKE_QUEUE 4096u

struct fake_cq {
	struct ibv_cq cq; /* first */
	struct ibv_comp_channel channel;
	struct ibv_wc wcs[FAKE_QUEUE];
	unsigned head, tail;
	unsigned n_cqe; /* it has room for; more is an error, of the test or the tested */
	bool is_armed;
	unsigned n_armed;
	unsigned n_polls;
	unsigned max_drained; /* most that one turn took */
	unsigned drained;     /* since the last reset */
	int poll_error;	      /* what poll_cq returns, when not 0 */
	int arm_error;
	unsigned n_unacked;
};

struct fake_qp {
	struct ibv_qp qp; /* first */
	struct rdma_cm_id id;
	struct fake_qp *peer; /* NULL: sends are only recorded */
	struct fake_cq *send_cq;
	struct fake_cq *receive_cq;
	struct {
		uint64_t wr_id;
		void *addr;
		uint32_t length;
	} receives[FAKE_QUEUE];
	unsigned receive_head, receive_tail;
	struct {
		struct ibv_send_wr wr;
		struct ibv_sge sge;
	} sends[FAKE_QUEUE];
	unsigned n_sends;
	unsigned n_doorbells;
	int fail_after;	      /* so many requests are taken, then ENOMEM; negative: never */
	unsigned n_no_buffer; /* SENDs that met no receive buffer */
	bool is_in_error;
};

/* The completion, as the device would: wakes the channel when armed. */
void fake_complete(struct fake_cq *cq, uint64_t wr_id, enum ibv_wc_status status, uint32_t bytes);
/* For CQs made by vrb_cq_init(). */
struct ibv_context *fake_context(void);

/* An end of a connection that is up, without any handshake. */
struct fake_end {
	struct vrb_tp tp;
	struct vrb_device device;
	struct vrb_conn conn;
	struct fake_qp qp;
	struct vrb_region region;
	struct ibv_mr mr;
	uint8_t memory[8192];
	unsigned n_messages;
	uint8_t last[TP_MESSAGE_BYTES_MAX];
	size_t last_bytes;
};

/* Returns 0 or what vrb_msgs_init() and the others say. */
int fake_end_init(struct fake_end *end, struct ev_loop *loop, uint32_t message_depth,
		  uint32_t op_depth);
void fake_join(struct fake_end *a, struct fake_end *b);
void fake_end_fini(struct fake_end *end);
/* Turns of the loop, without waiting. */
void fake_turns(struct ev_loop *loop, unsigned n);

#endif /* FAKE_VERBS_H */
