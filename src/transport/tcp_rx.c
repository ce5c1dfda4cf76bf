/* SPDX-License-Identifier: MIT */
/*
 * A read takes the rest of the payload that is under way straight to its place,
 * and what follows it into the input buffer; frames are then taken from there.
 */
#include "transport/tcp_rx.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "common/log.h"
#include "transport/tcp_conn.h"
#include "transport/tcp_grant.h"
#include "transport/tcp_tx.h"

/* Of one connection in one turn. */
#define MESSAGES_PER_TURN 64u

static uint32_t
min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void
pause_reading(struct tp_conn *conn)
{
	conn->rx.is_paused = true;
	ev_io_stop(conn->tcp->loop, &conn->read_watcher);
}

/* A payload follows the header that was just taken. */
static void
start_payload(struct tcp_rx *rx, const struct frame *frame, uint8_t *dest, struct tp_grant *grant)
{
	rx->frame = *frame;
	rx->left = frame->length_bytes;
	rx->dest = dest;
	rx->grant = grant;
}

static void
refuse_access(struct tp_conn *conn, const struct frame *frame)
{
	const struct tcp_answer answer = {
		.kind = frame->kind == FRAME_READ ? FRAME_READ_DONE : FRAME_WRITE_DONE,
		.status = FRAME_STATUS_ACCESS,
		.op_id = frame->op_id,
	};

	log_warn("%s: %s of %u bytes with rkey 0x%08x refused: not in a grant; closing", conn->name,
		 frame_kind_name(frame->kind), frame->length_bytes, frame->rkey);
	tcp_tx_answer(conn, &answer);
	tcp_conn_linger(conn);
}

static void
take_request(struct tp_conn *conn, const struct frame *frame)
{
	struct tp_grant *grant;
	uint8_t *mem;

	if (tcp_grant_find(conn, frame, &grant, &mem) < 0) {
		refuse_access(conn, frame);
		return;
	}
	if (frame->kind == FRAME_WRITE) {
		start_payload(&conn->rx, frame, mem, grant);
		return;
	}
	tcp_tx_answer(conn, &(struct tcp_answer){
				    .kind = FRAME_READ_DONE,
				    .op_id = frame->op_id,
				    .length_bytes = frame->length_bytes,
				    .payload = mem,
				    .grant = grant,
			    });
}

static void
take_answer(struct tp_conn *conn, const struct frame *frame)
{
	uint32_t index = frame->op_id & 0xffff;
	struct tcp_slot *slot;
	bool is_read = frame->kind == FRAME_READ_DONE;

	if (index >= TCP_SLOTS) {
		tcp_conn_violation(conn, "answer to an unknown op");
		return;
	}
	slot = &conn->slots[index];
	if (slot->state == TCP_SLOT_FREE || slot->generation != frame->op_id >> 16) {
		tcp_conn_violation(conn, "answer to an unknown op");
		return;
	}
	if (is_read != (slot->op->kind == TP_OP_READ)) {
		tcp_conn_violation(conn, "answer of the wrong kind");
		return;
	}
	if (frame->status != FRAME_STATUS_OK) {
		conn->failed_op = slot->op;
		conn->failed_status = frame->status == FRAME_STATUS_ACCESS ? -EACCES : -EIO;
		tcp_conn_end(conn, conn->failed_status);
		return;
	}
	/* A refusal may come while the op is still being sent; success may not. */
	if (slot->state != TCP_SLOT_SENT) {
		tcp_conn_violation(conn, "answer to an op before its end");
		return;
	}
	if (!is_read) {
		tcp_conn_complete(conn, index);
	} else if (frame->length_bytes != slot->op->length_bytes) {
		tcp_conn_violation(conn, "answer of the wrong length");
	} else {
		start_payload(&conn->rx, frame, slot->op->buf, NULL);
	}
}

static void
payload_done(struct tp_conn *conn)
{
	const struct frame *frame = &conn->rx.frame;

	conn->rx.dest = NULL;
	if (frame->kind == FRAME_READ_DONE) {
		tcp_conn_complete(conn, frame->op_id & 0xffff);
	} else if (conn->rx.grant) {
		conn->rx.grant = NULL;
		tcp_tx_answer(conn, &(struct tcp_answer){
					    .kind = FRAME_WRITE_DONE,
					    .op_id = frame->op_id,
				    });
	} else {
		refuse_access(conn, frame); /* revoked on the way */
	}
}

/* Payload that is in the input buffer already. */
static void
take_payload(struct tp_conn *conn)
{
	struct tcp_rx *rx = &conn->rx;
	uint32_t n = min_u32(rx->left, rx->tail - rx->head);

	if (rx->dest) {
		memcpy(rx->dest, rx->buf + rx->head, n);
		rx->dest += n;
	}
	rx->head += n;
	rx->left -= n;
	if (rx->left == 0)
		payload_done(conn);
}

/* Returns false when more bytes are needed first, or room for an answer. */
static bool
take_frame(struct tp_conn *conn, uint32_t *messages)
{
	struct tcp_rx *rx = &conn->rx;
	const uint8_t *p = rx->buf + rx->head;
	uint32_t available = rx->tail - rx->head;
	struct frame frame;

	if (available < FRAME_HEADER_BYTES)
		return false;
	if (frame_decode(p, &frame) < 0) {
		tcp_conn_violation(conn, "malformed frame");
		return false;
	}
	switch (frame.kind) {
	case FRAME_MESSAGE:
		if (available < FRAME_HEADER_BYTES + frame.length_bytes)
			return false;
		if (++*messages > MESSAGES_PER_TURN) {
			pause_reading(conn);
			defer_start(&conn->work);
			return false;
		}
		rx->head += FRAME_HEADER_BYTES + frame.length_bytes;
		conn->events->message(conn->arg, p + FRAME_HEADER_BYTES, frame.length_bytes);
		return true;
	case FRAME_READ:
	case FRAME_WRITE:
		if (conn->is_client)
			break;
		if (!tcp_tx_has_room(conn)) {
			pause_reading(conn);
			return false;
		}
		rx->head += FRAME_HEADER_BYTES;
		take_request(conn, &frame);
		return true;
	case FRAME_READ_DONE:
	case FRAME_WRITE_DONE:
		if (!conn->is_client)
			break;
		rx->head += FRAME_HEADER_BYTES;
		take_answer(conn, &frame);
		return true;
	case FRAME_PREAMBLE:
		break;
	}
	tcp_conn_violation(conn, "frame that does not fit its direction");
	return false;
}

/* Every step may end the connection or make it linger. */
static void
take_frames(struct tp_conn *conn)
{
	struct tcp_rx *rx = &conn->rx;
	uint32_t messages = 0;

	while (conn->state == TCP_CONN_UP) {
		if (rx->left > 0) {
			if (rx->head == rx->tail)
				break;
			take_payload(conn);
		} else if (!take_frame(conn, &messages)) {
			break;
		}
	}
}

bool
tcp_rx_is_mid_frame(const struct tp_conn *conn)
{
	return !conn->rx.is_paused && (conn->rx.left > 0 || conn->rx.head != conn->rx.tail);
}

static void
peer_closed(struct tp_conn *conn)
{
	if (conn->state == TCP_CONN_LINGER)
		tcp_conn_end(conn, -EACCES);
	else if (conn->tx.error < 0)
		tcp_conn_end(conn, conn->tx.error);
	else
		tcp_conn_end(conn, tcp_rx_is_mid_frame(conn) ? -ECONNRESET : 0);
}

void
tcp_rx_readable(struct tp_conn *conn)
{
	struct tcp_rx *rx = &conn->rx;
	struct iovec iov[2];
	int iovs = 0;
	uint32_t direct = rx->dest ? rx->left : 0;
	ssize_t n;

	/* What is left is less than one message: frames are taken until one is not whole. */
	if (conn->state == TCP_CONN_LINGER)
		rx->head = rx->tail;
	memmove(rx->buf, rx->buf + rx->head, rx->tail - rx->head);
	rx->tail -= rx->head;
	rx->head = 0;

	if (direct > 0)
		iov[iovs++] = (struct iovec){rx->dest, direct};
	iov[iovs++] = (struct iovec){rx->buf + rx->tail, TCP_RX_BYTES - rx->tail};
	n = readv(conn->fd, iov, iovs);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			tcp_conn_end(conn, -errno);
		return;
	}
	if (n == 0) {
		peer_closed(conn);
		return;
	}
	rx->bytes_total += (uint64_t)n;
	direct = min_u32(direct, (uint32_t)n);
	rx->tail += (uint32_t)n - direct;
	if (direct > 0) {
		rx->dest += direct;
		rx->left -= direct;
		if (rx->left == 0)
			payload_done(conn);
	}
	take_frames(conn);
}

void
tcp_rx_resume(struct tp_conn *conn)
{
	if (!conn->rx.is_paused || conn->state != TCP_CONN_UP)
		return;
	conn->rx.is_paused = false;
	take_frames(conn);
	if (conn->state == TCP_CONN_UP && !conn->rx.is_paused)
		ev_io_start(conn->tcp->loop, &conn->read_watcher);
}

void
tcp_rx_forget_grant(struct tp_conn *conn, struct tp_grant *grant)
{
	if (conn->rx.grant != grant)
		return;
	conn->rx.grant = NULL;
	conn->rx.dest = NULL;
}
