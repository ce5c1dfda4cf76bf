/* SPDX-License-Identifier: MIT */
/* Messages never wait inside the device: what has no credit waits in our list. */
#include "rdma/msg.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <endian.h>

#include "common/log.h"
#include "rdma/conn.h"
#include "rdma/status.h"

#define MEMORY_ALIGN 4096u

static void
encode_header(uint8_t *buf, enum vrb_msg_kind kind, uint16_t credits)
{
	const uint16_t wire = htole16(credits);

	memset(buf, 0, VRB_MSG_HEADER_BYTES);
	buf[0] = (uint8_t)kind;
	memcpy(buf + 2, &wire, sizeof(wire));
}

/* Returns 0 or -EPROTO. */
static int
decode_header(const uint8_t *buf, uint32_t length_bytes, enum vrb_msg_kind *ret_kind,
	      uint16_t *ret_credits)
{
	static const uint8_t zeros[4];
	uint16_t wire;

	if (length_bytes < VRB_MSG_HEADER_BYTES || length_bytes > VRB_MSG_SLOT_BYTES)
		return -EPROTO;
	if (buf[0] < VRB_MSG_DATA || buf[0] > VRB_MSG_BYE || buf[1] != 0 ||
	    memcmp(buf + 4, zeros, sizeof(zeros)) != 0)
		return -EPROTO;
	if ((buf[0] == VRB_MSG_DATA) != (length_bytes > VRB_MSG_HEADER_BYTES))
		return -EPROTO;
	memcpy(&wire, buf + 2, sizeof(wire));
	*ret_kind = (enum vrb_msg_kind)buf[0];
	*ret_credits = le16toh(wire);
	return 0;
}

static int
post_receive(struct vrb_conn *conn, struct vrb_msg_slot *slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)slot->buf,
		.length = VRB_MSG_SLOT_BYTES,
		.lkey = conn->msgs.mr->lkey,
	};
	struct ibv_recv_wr wr = {.wr_id = (uintptr_t)&slot->wr, .sg_list = &sge, .num_sge = 1};
	struct ibv_recv_wr *bad;
	int r;

	r = ibv_post_recv(conn->id->qp, &wr, &bad);
	if (r != 0)
		return -r;
	vrb_cq_posted(&conn->receive_cq, 1);
	return 0;
}

/* The peer breaks the rules of msg.h, or the device brings something else than it sent: the
 * numbers tell which. */
static int
broken(struct vrb_conn *conn, const char *what, unsigned a, unsigned b)
{
	char text[96];

	(void)snprintf(text, sizeof(text), "a message with %s (%u, %u)", what, a, b);
	vrb_conn_fail(conn, -EPROTO, text);
	return -EPROTO;
}

/* Handles one message that arrived; returns 0 or -errno, which ends the connection. */
static int
take_message(struct vrb_conn *conn, struct vrb_msg_slot *slot, uint32_t length_bytes)
{
	struct vrb_msgs *m = &conn->msgs;
	enum vrb_msg_kind kind;
	uint16_t credits;
	int r;

	r = decode_header(slot->buf, length_bytes, &kind, &credits);
	if (r < 0)
		return broken(conn, "a malformed header: kind, length", slot->buf[0], length_bytes);
	r = vrb_credit_returned(&m->credit, credits);
	if (r < 0)
		return broken(conn, "too many credits: returned, taken", credits,
			      (unsigned)(m->credit.there - m->credit.available));
	if (kind == VRB_MSG_BYE) {
		vrb_conn_end(conn, 0);
		return 0;
	}
	if (kind == VRB_MSG_DATA)
		vrb_conn_deliver(conn, slot->buf + VRB_MSG_HEADER_BYTES,
				 length_bytes - VRB_MSG_HEADER_BYTES);
	if (!vrb_conn_takes_messages(conn))
		return 0;
	r = post_receive(conn, slot);
	if (r < 0)
		return r;
	if (kind == VRB_MSG_DATA && vrb_credit_owe(&m->credit) < 0)
		return broken(conn, "no credit left: owed, given", m->credit.owed, m->credit.here);
	return 0;
}

static void
receive_done(struct vrb_wr *wr, const struct ibv_wc *wc)
{
	struct vrb_msg_slot *slot = (struct vrb_msg_slot *)wr;
	struct vrb_conn *conn = slot->conn;
	int r;

	if (wc->status != IBV_WC_SUCCESS) {
		vrb_conn_wc_failed(conn, wc, "receive");
		return;
	}
	vrb_conn_heard(conn);
	r = take_message(conn, slot, wc->byte_len);
	if (r < 0)
		vrb_conn_fail(conn, r, "a message");
}

static void
send_done(struct vrb_wr *wr, const struct ibv_wc *wc)
{
	struct vrb_msg_slot *slot = (struct vrb_msg_slot *)wr;
	struct vrb_conn *conn = slot->conn;
	struct vrb_msgs *m = &conn->msgs;

	if (slot == m->credit_slot) {
		m->credit_in_flight = false;
	} else if (slot != m->bye_slot) {
		list_add_tail(&m->free_slots, &slot->node);
		m->n_in_flight--;
	}

	if (wc->status != IBV_WC_SUCCESS)
		vrb_conn_wc_failed(conn, wc, "send");
	else if (slot == m->bye_slot)
		vrb_conn_bye_sent(conn);
}

static int
post_send(struct vrb_conn *conn, struct vrb_msg_slot *slot, enum vrb_msg_kind kind)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)slot->buf,
		.length = VRB_MSG_HEADER_BYTES + slot->length_bytes,
		.lkey = conn->msgs.mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = (uintptr_t)&slot->wr,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};
	struct ibv_send_wr *bad;
	int r;

	encode_header(slot->buf, kind, vrb_credit_give(&conn->msgs.credit));
	r = ibv_post_send(conn->id->qp, &wr, &bad);
	if (r != 0)
		return -r;
	vrb_cq_posted(&conn->send_cq, 1);
	return 0;
}

static void
slot_init(struct vrb_conn *conn, struct vrb_msg_slot *slot, uint8_t *buf, vrb_wr_done_fn *done)
{
	*slot = (struct vrb_msg_slot){.wr.done = done, .conn = conn, .buf = buf};
	list_init(&slot->node);
}

/* Slots lie in this order: receive buffers, sends, the credit one, the farewell. */
int
vrb_msgs_init(struct vrb_conn *conn, uint32_t depth)
{
	const uint32_t n_receive = vrb_msgs_recv_wrs(depth);
	const uint32_t n_send = TP_SEND_QUEUE_MAX + depth;
	const uint32_t n = n_receive + n_send + 2;
	struct vrb_msgs *m = &conn->msgs;
	uint32_t i;

	vrb_credit_init(&m->credit, (uint16_t)depth);
	list_init(&m->free_slots);
	list_init(&m->waiting);
	m->slots = calloc(n, sizeof(*m->slots));
	if (!m->slots)
		return -ENOMEM;
	if (posix_memalign(&m->memory, MEMORY_ALIGN, (size_t)n * VRB_MSG_SLOT_BYTES) != 0) {
		m->memory = NULL;
		return -ENOMEM;
	}
	memset(m->memory, 0, (size_t)n * VRB_MSG_SLOT_BYTES);
	m->mr = ibv_reg_mr(vrb_conn_pd(conn), m->memory, (size_t)n * VRB_MSG_SLOT_BYTES,
			   IBV_ACCESS_LOCAL_WRITE);
	if (!m->mr)
		return -errno;
	for (i = 0; i < n; i++)
		slot_init(conn, &m->slots[i], (uint8_t *)m->memory + i * VRB_MSG_SLOT_BYTES,
			  i < n_receive ? receive_done : send_done);
	for (i = n_receive; i < n_receive + n_send; i++)
		list_add_tail(&m->free_slots, &m->slots[i].node);
	m->credit_slot = &m->slots[n - 2];
	m->bye_slot = &m->slots[n - 1];
	return 0;
}

int
vrb_msgs_post_receives(struct vrb_conn *conn)
{
	const uint32_t n = vrb_msgs_recv_wrs(conn->msgs.credit.here);
	uint32_t i;
	int r = 0;

	for (i = 0; i < n && r == 0; i++)
		r = post_receive(conn, &conn->msgs.slots[i]);
	return r;
}

void
vrb_msgs_fini(struct vrb_msgs *m)
{
	int r;

	if (m->mr) {
		r = ibv_dereg_mr(m->mr);
		if (r != 0) {
			/* Leaked: the device may still reach it. */
			(void)log_err_errno(r, "rdma: cannot deregister message buffers");
			m->memory = NULL;
		}
		m->mr = NULL;
	}
	free(m->memory);
	m->memory = NULL;
	free(m->slots);
	m->slots = NULL;
}

int
vrb_msgs_queue(struct vrb_conn *conn, const void *msg, size_t length_bytes)
{
	struct vrb_msgs *m = &conn->msgs;
	struct vrb_msg_slot *slot;

	if (length_bytes == 0 || length_bytes > TP_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (m->n_waiting >= TP_SEND_QUEUE_MAX || list_is_empty(&m->free_slots))
		return -EAGAIN;
	slot = container_of(list_pop_head(&m->free_slots), struct vrb_msg_slot, node);
	memcpy(slot->buf + VRB_MSG_HEADER_BYTES, msg, length_bytes);
	slot->length_bytes = (uint16_t)length_bytes;
	list_add_tail(&m->waiting, &slot->node);
	m->n_waiting++;
	return 0;
}

/* In flight are at most as many as we have buffers ourselves, whatever the peer
 * allows: the send queue was sized for that. */
static bool
may_send(struct vrb_msgs *m)
{
	return m->n_in_flight < m->credit.here && vrb_credit_take(&m->credit);
}

int
vrb_msgs_flush(struct vrb_conn *conn)
{
	struct vrb_msgs *m = &conn->msgs;
	struct vrb_msg_slot *slot;
	int r;

	while (!list_is_empty(&m->waiting) && may_send(m)) {
		slot = container_of(list_pop_head(&m->waiting), struct vrb_msg_slot, node);
		m->n_waiting--;
		r = post_send(conn, slot, VRB_MSG_DATA);
		if (r < 0)
			return r;
		m->n_in_flight++;
	}
	if (vrb_credit_is_due(&m->credit) && !m->credit_in_flight) {
		m->credit_in_flight = true;
		return post_send(conn, m->credit_slot, VRB_MSG_CREDIT);
	}
	return 0;
}

int
vrb_msgs_send_bye(struct vrb_conn *conn)
{
	return post_send(conn, conn->msgs.bye_slot, VRB_MSG_BYE);
}
