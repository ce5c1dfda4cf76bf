/* SPDX-License-Identifier: MIT */
/*
 * One sendmsg() a turn: build() lines up frames of the queues, sent() takes off
 * what the socket took.  When it did not take all, or more waits than one call
 * carries, the write watcher asks for the next turn.
 */
#include "transport/tcp_tx.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/tcp_conn.h"
#include "transport/tcp_grant.h"
#include "transport/tcp_rx.h"

#define FRAMES_PER_TURN 128u
#define BYTES_PER_TURN (1024u * 1024u)

struct batch {
	struct iovec iov[2 * FRAMES_PER_TURN];
	uint8_t headers[FRAMES_PER_TURN][FRAME_HEADER_BYTES];
	struct {
		enum tcp_tx_queue queue;
		uint32_t bytes; /* of the frame that are in iov */
	} frames[FRAMES_PER_TURN];
	size_t iovs;
	uint32_t frame_count;
	size_t bytes;
};

void
tcp_tx_schedule(struct tp_conn *conn)
{
	if (!list_is_linked(&conn->flush_node))
		list_add_tail(&conn->tcp->flush_list, &conn->flush_node);
}

static struct tcp_message *
message_push(struct tcp_tx *tx)
{
	uint32_t at = (tx->message_ring.head + tx->message_ring.count) % TCP_MESSAGES;

	assert(tx->message_ring.count < TCP_MESSAGES);
	tx->message_ring.count++;
	return &tx->messages[at];
}

int
tcp_tx_send(struct tp_conn *conn, const void *msg, size_t length_bytes)
{
	struct frame frame = {.kind = FRAME_MESSAGE, .length_bytes = (uint32_t)length_bytes};
	struct tcp_message *message;

	if (length_bytes == 0 || length_bytes > TP_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (conn->state != TCP_CONN_UP)
		return -ENOTCONN;
	if (conn->tx.message_ring.count >= TP_SEND_QUEUE_MAX) {
		conn->tx.was_full = true;
		return -EAGAIN;
	}
	message = message_push(&conn->tx);
	frame_encode(&frame, message->bytes);
	memcpy(message->bytes + FRAME_HEADER_BYTES, msg, length_bytes);
	message->length_bytes = FRAME_HEADER_BYTES + (uint32_t)length_bytes;
	tcp_tx_schedule(conn);
	return 0;
}

void
tcp_tx_preamble(struct tp_conn *conn)
{
	const struct frame frame = {.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION};
	struct tcp_message *message = message_push(&conn->tx);

	frame_encode(&frame, message->bytes);
	message->length_bytes = FRAME_HEADER_BYTES;
	tcp_tx_schedule(conn);
}

void
tcp_tx_slot(struct tp_conn *conn, uint32_t slot)
{
	struct tcp_ring *ring = &conn->tx.work_ring;

	assert(ring->count < TCP_SLOTS);
	conn->tx.slots_to_send[(ring->head + ring->count++) % TCP_SLOTS] = (uint16_t)slot;
	tcp_tx_schedule(conn);
}

bool
tcp_tx_has_room(const struct tp_conn *conn)
{
	return conn->tx.work_ring.count < TCP_ANSWERS;
}

void
tcp_tx_answer(struct tp_conn *conn, const struct tcp_answer *answer)
{
	struct tcp_ring *ring = &conn->tx.work_ring;

	assert(tcp_tx_has_room(conn));
	conn->tx.answers[(ring->head + ring->count++) % TCP_ANSWERS] = *answer;
	if (answer->grant)
		answer->grant->answers++;
	tcp_tx_schedule(conn);
}

bool
tcp_tx_is_empty(const struct tp_conn *conn)
{
	return conn->tx.message_ring.count == 0 && conn->tx.work_ring.count == 0;
}

/* Adds a frame but for its first @skip bytes; @header is copied. */
static void
batch_add(struct batch *b, enum tcp_tx_queue queue, uint32_t skip, const void *header,
	  uint32_t header_bytes, const void *payload, uint32_t payload_bytes)
{
	uint32_t payload_skip = skip > header_bytes ? skip - header_bytes : 0;
	uint32_t bytes = header_bytes + payload_bytes - skip;

	if (skip < header_bytes)
		b->iov[b->iovs++] =
			(struct iovec){(uint8_t *)(uintptr_t)header + skip, header_bytes - skip};
	if (payload_skip < payload_bytes)
		b->iov[b->iovs++] = (struct iovec){(uint8_t *)(uintptr_t)payload + payload_skip,
						   payload_bytes - payload_skip};
	b->frames[b->frame_count].queue = queue;
	b->frames[b->frame_count++].bytes = bytes;
	b->bytes += bytes;
}

static void
add_slot(struct tp_conn *conn, struct batch *b, uint32_t index, uint32_t skip)
{
	const struct tcp_slot *slot = &conn->slots[index];
	const struct tp_op *op = slot->op;
	const bool is_write = op->kind == TP_OP_WRITE;
	const struct frame frame = {
		.kind = is_write ? FRAME_WRITE : FRAME_READ,
		.op_id = index | (uint32_t)slot->generation << 16,
		.rkey = op->rkey,
		.addr = op->remote_addr,
		.length_bytes = op->length_bytes,
	};

	frame_encode(&frame, b->headers[b->frame_count]);
	batch_add(b, TCP_TX_WORK, skip, b->headers[b->frame_count], FRAME_HEADER_BYTES, op->buf,
		  is_write ? op->length_bytes : 0);
}

static void
add_answer(const struct tcp_answer *answer, struct batch *b, uint32_t skip)
{
	const struct frame frame = {
		.kind = answer->kind,
		.status = answer->status,
		.op_id = answer->op_id,
		.length_bytes = answer->length_bytes,
	};

	frame_encode(&frame, b->headers[b->frame_count]);
	batch_add(b, TCP_TX_WORK, skip, b->headers[b->frame_count], FRAME_HEADER_BYTES,
		  answer->payload, answer->length_bytes);
}

static bool
batch_has_room(const struct batch *b)
{
	return b->frame_count < FRAMES_PER_TURN && b->bytes < BYTES_PER_TURN;
}

static void
add_work(struct tp_conn *conn, struct batch *b, uint32_t from, uint32_t to, uint32_t skip)
{
	const struct tcp_ring *ring = &conn->tx.work_ring;
	uint32_t i;

	for (i = from; i < to && batch_has_room(b); i++, skip = 0) {
		if (conn->is_client)
			add_slot(conn, b, conn->tx.slots_to_send[(ring->head + i) % TCP_SLOTS],
				 skip);
		else
			add_answer(&conn->tx.answers[(ring->head + i) % TCP_ANSWERS], b, skip);
	}
}

static void
add_messages(struct tp_conn *conn, struct batch *b)
{
	struct tcp_tx *tx = &conn->tx;
	uint32_t skip = tx->front == TCP_TX_MESSAGES ? tx->sent : 0;
	uint32_t i;

	for (i = 0; i < tx->message_ring.count && batch_has_room(b); i++, skip = 0) {
		const struct tcp_message *m =
			&tx->messages[(tx->message_ring.head + i) % TCP_MESSAGES];

		batch_add(b, TCP_TX_MESSAGES, skip, m->bytes, m->length_bytes, NULL, 0);
	}
}

/* A half-sent frame first, then messages, then the rest. */
static void
build(struct tp_conn *conn, struct batch *b)
{
	const struct tcp_tx *tx = &conn->tx;
	uint32_t half = tx->sent > 0 && tx->front == TCP_TX_WORK ? 1 : 0;

	b->iovs = 0;
	b->frame_count = 0;
	b->bytes = 0;
	add_work(conn, b, 0, half, tx->sent);
	add_messages(conn, b);
	add_work(conn, b, half, tx->work_ring.count, 0);
}

static void
work_sent(struct tp_conn *conn)
{
	struct tcp_ring *ring = &conn->tx.work_ring;

	if (conn->is_client) {
		conn->slots[conn->tx.slots_to_send[ring->head]].state = TCP_SLOT_SENT;
		ring->head = (ring->head + 1) % TCP_SLOTS;
	} else {
		struct tcp_answer *answer = &conn->tx.answers[ring->head];

		if (answer->grant)
			answer->grant->answers--;
		ring->head = (ring->head + 1) % TCP_ANSWERS;
	}
	ring->count--;
}

/* The socket took @bytes of @b. */
static void
sent(struct tp_conn *conn, const struct batch *b, size_t bytes)
{
	struct tcp_tx *tx = &conn->tx;
	uint32_t i;

	tx->bytes_total += bytes;
	for (i = 0; i < b->frame_count; i++) {
		if (bytes < b->frames[i].bytes) {
			/* A frame after the first starts at its first byte. */
			tx->sent = (i == 0 ? tx->sent : 0) + (uint32_t)bytes;
			tx->front = b->frames[i].queue;
			return;
		}
		bytes -= b->frames[i].bytes;
		if (b->frames[i].queue == TCP_TX_WORK) {
			work_sent(conn);
		} else {
			tx->message_ring.head = (tx->message_ring.head + 1) % TCP_MESSAGES;
			tx->message_ring.count--;
		}
	}
	tx->sent = 0;
}

/* Returns bytes taken, 0 when the socket takes none now, or -errno. */
static ssize_t
send_batch(struct tp_conn *conn, struct batch *b)
{
	const struct msghdr msg = {.msg_iov = b->iov, .msg_iovlen = b->iovs};
	ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
}

static void
want_write(struct tp_conn *conn, bool want)
{
	if (want == (bool)ev_is_active(&conn->write_watcher))
		return;
	if (want)
		ev_io_start(conn->tcp->loop, &conn->write_watcher);
	else
		ev_io_stop(conn->tcp->loop, &conn->write_watcher);
}

/* What the peer said before it went, REFUSED above all, may still be unread:
 * the reading side ends the connection when it has had it. */
static void
tx_failed(struct tp_conn *conn, int error)
{
	conn->tx.error = error;
	want_write(conn, false);
	if (!ev_is_active(&conn->read_watcher))
		tcp_conn_end(conn, error);
}

void
tcp_tx_flush(struct tp_conn *conn)
{
	struct batch b;
	ssize_t n;

	if (conn->tx.error < 0)
		return;
	build(conn, &b);
	if (b.frame_count > 0) {
		n = send_batch(conn, &b);
		if (n < 0) {
			tx_failed(conn, (int)n);
			return;
		}
		sent(conn, &b, (size_t)n);
	}
	want_write(conn, !tcp_tx_is_empty(conn));
	/* Who was told -EAGAIN tries again in some turn of the loop: there must be one. */
	if ((conn->rx.is_paused && tcp_tx_has_room(conn)) ||
	    (conn->tx.was_full && conn->tx.message_ring.count < TP_SEND_QUEUE_MAX)) {
		conn->tx.was_full = false;
		defer_start(&conn->work);
	}
	if (conn->state == TCP_CONN_LINGER && tcp_tx_is_empty(conn))
		(void)shutdown(conn->fd, SHUT_WR);
}

void
tcp_tx_farewell(struct tp_conn *conn)
{
	struct batch b = {.iovs = 0};

	if (conn->tx.sent > 0 && conn->tx.front == TCP_TX_WORK)
		return; /* a message here would land inside that frame */
	add_messages(conn, &b);
	if (b.frame_count > 0)
		(void)send_batch(conn, &b);
}

bool
tcp_tx_forget_grant(struct tp_conn *conn, struct tp_grant *grant)
{
	struct tcp_tx *tx = &conn->tx;
	bool is_half_sent = tx->sent > 0 && tx->front == TCP_TX_WORK;
	bool has_failed = false;
	uint32_t i;

	for (i = 0; i < tx->work_ring.count && grant->answers > 0; i++) {
		struct tcp_answer *answer = &tx->answers[(tx->work_ring.head + i) % TCP_ANSWERS];

		if (answer->grant != grant)
			continue;
		answer->grant = NULL;
		grant->answers--;
		if (i == 0 && is_half_sent) {
			memcpy(tx->bounce, answer->payload, answer->length_bytes);
			answer->payload = tx->bounce;
			continue;
		}
		answer->status = FRAME_STATUS_ACCESS;
		answer->length_bytes = 0;
		has_failed = true;
	}
	return has_failed;
}
