/* SPDX-License-Identifier: MIT */
/*
 * msg.h - control messages of one connection: SEND and RECV with credits.
 *
 * On the wire: an 8-byte header {u8 kind, u8 0, u16 credits little-endian, u32 0},
 * then for DATA the message.  All buffers are one registered allocation made
 * before the connection is.
 */
#ifndef RDMA_MSG_H
#define RDMA_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>

#include "common/list.h"
#include "rdma/cq.h"
#include "rdma/credit.h"
#include "transport/transport.h"

#define VRB_MSG_HEADER_BYTES 8u
#define VRB_MSG_SLOT_BYTES (VRB_MSG_HEADER_BYTES + TP_MESSAGE_BYTES_MAX)

enum vrb_msg_kind {
	VRB_MSG_DATA = 1,
	VRB_MSG_CREDIT, /* carries only credits, and takes none */
	VRB_MSG_BYE,	/* the last one: an orderly close; takes no credit */
};

struct vrb_conn;

struct vrb_msg_slot {
	struct vrb_wr wr; /* first */
	struct vrb_conn *conn;
	struct list node; /* free_slots or waiting */
	uint8_t *buf;	  /* VRB_MSG_SLOT_BYTES */
	uint16_t length_bytes;
};

struct vrb_msgs {
	struct vrb_credit credit;
	void *memory;
	struct ibv_mr *mr;
	struct vrb_msg_slot *slots; /* all of them */
	struct vrb_msg_slot *credit_slot;
	struct vrb_msg_slot *bye_slot;
	bool credit_in_flight;
	struct list free_slots;
	struct list waiting; /* of DATA, for credits or for the handshake */
	uint32_t n_waiting;
	uint32_t n_in_flight; /* DATA */
};

/* Work requests the messages of a connection need, beside everything else's. */
static inline uint32_t
vrb_msgs_send_wrs(uint32_t depth)
{
	return depth + 2;
}
static inline uint32_t
vrb_msgs_recv_wrs(uint32_t depth)
{
	return depth + VRB_CREDIT_SPARE_BUFFERS;
}

/*
 * vrb_msgs_init - allocate and register the buffers.  Returns 0, -ENOMEM or the
 * device's -errno; vrb_msgs_fini() in any case.
 */
int vrb_msgs_init(struct vrb_conn *conn, uint32_t depth);
/* Once the queue pair exists: gives it every receive buffer.  0 or -errno. */
int vrb_msgs_post_receives(struct vrb_conn *conn);
/* After the queue pair is destroyed, or harmless before vrb_msgs_init(). */
void vrb_msgs_fini(struct vrb_msgs *m);

/* Takes a copy.  Returns 0, -EAGAIN, -EMSGSIZE. */
int vrb_msgs_queue(struct vrb_conn *conn, const void *msg, size_t length_bytes);
/* Sends what credits allow, and credits that are due.  0, or -errno of the device. */
int vrb_msgs_flush(struct vrb_conn *conn);
/* Sends the last message; vrb_conn_bye_sent() follows.  0 or -errno of the device. */
int vrb_msgs_send_bye(struct vrb_conn *conn);

#endif /* RDMA_MSG_H */
