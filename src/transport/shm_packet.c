/* SPDX-License-Identifier: MIT */
/* Descriptors that nobody asked for are closed before anything else is looked at. */
#include "transport/shm_packet.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "transport/shm_conn.h"
#include "transport/shm_grant.h"
#include "transport/shm_map.h"

#define PACKETS_PER_TURN 64
#define PACKETS_THROWN_AWAY 1024
/* More of them are a violation; the kernel closes those that do not fit. */
#define FDS_MAX 4

/* One packet as it came. */
struct packet {
	uint8_t bytes[SHM_FRAME_BYTES_MAX];
	size_t length_bytes;
	int fds[FDS_MAX];
	uint32_t n_fds;
	bool is_cut;	  /* it was longer */
	bool lost_a_file; /* a descriptor did not fit: the process has none left, or too many came */
};

/* Incoming */

static void
take_fds(struct msghdr *header, struct packet *p)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (bytes > (FDS_MAX - p->n_fds) * sizeof(int))
			bytes = (FDS_MAX - p->n_fds) * sizeof(int);
		memcpy(p->fds + p->n_fds, CMSG_DATA(c), bytes);
		p->n_fds += (uint32_t)(bytes / sizeof(int));
	}
}

/* Returns the packet's length, 0 at the peer's end, or -errno. */
static ssize_t
receive(int fd, struct packet *p)
{
	struct iovec part = {.iov_base = p->bytes, .iov_len = sizeof(p->bytes)};
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct msghdr header = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	p->n_fds = 0;
	if (n < 0)
		return -errno;
	take_fds(&header, p);
	p->length_bytes = (size_t)n;
	p->is_cut = header.msg_flags & MSG_TRUNC;
	p->lost_a_file = header.msg_flags & MSG_CTRUNC;
	return n;
}

static void
close_fds(struct packet *p)
{
	while (p->n_fds > 0)
		(void)close(p->fds[--p->n_fds]);
}

static void
take_frame_up(struct tp_conn *conn, const struct shm_frame *f, struct packet *p)
{
	if (f->kind == SHM_FRAME_MESSAGE) {
		conn->events->message(conn->arg, f->payload, f->payload_bytes);
	} else if (f->kind == SHM_FRAME_GRANT && conn->is_client) {
		p->n_fds = 0; /* it is the map's from here on */
		shm_map_add(conn, f->rkey, f->value, p->fds[0]);
	} else if (f->kind == SHM_FRAME_REVOKE && conn->is_client) {
		shm_map_revoke(conn, f->rkey);
	} else if (f->kind == SHM_FRAME_BYE && conn->is_client) {
		shm_conn_end(conn, 0);
	} else if (f->kind == SHM_FRAME_REVOKED && !conn->is_client) {
		shm_grant_answered(conn, f->rkey);
	} else {
		shm_conn_violation(conn, "a packet that does not fit the connection");
	}
}

static void
take_packet(struct tp_conn *conn, struct packet *p)
{
	struct shm_frame f;

	if (p->is_cut)
		shm_conn_violation(conn, "a packet that is too long");
	else if (p->lost_a_file)
		shm_conn_violation(conn, "a descriptor did not fit (too many open files?)");
	else if (shm_frame_decode(p->bytes, p->length_bytes, p->n_fds, &f) < 0)
		shm_conn_violation(conn, conn->state == SHM_CONN_PREAMBLE ? "no preamble"
									  : "not a packet of ours");
	else if (conn->state == SHM_CONN_PREAMBLE && f.kind == SHM_FRAME_PREAMBLE)
		shm_conn_take_preamble(conn, &f);
	else if (conn->state == SHM_CONN_PREAMBLE)
		shm_conn_violation(conn, "no preamble");
	else
		take_frame_up(conn, &f, p);
	close_fds(p);
}

static void
take_end(struct tp_conn *conn)
{
	/* A daemon that does not want us closes instead of answering. */
	if (conn->state == SHM_CONN_PREAMBLE)
		shm_conn_end(conn, conn->is_client ? -ECONNREFUSED : -ECONNRESET);
	else
		shm_conn_end(conn, conn->was_reset ? -ECONNRESET : 0);
}

void
shm_packet_readable(struct tp_conn *conn)
{
	struct packet p;
	int i;

	for (i = 0; i < PACKETS_PER_TURN && conn->state != SHM_CONN_ENDING; i++) {
		ssize_t n = receive(conn->fd, &p);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n == -ECONNRESET && !conn->was_reset) {
			/* Said once; what it sent before that can still be read. */
			conn->was_reset = true;
		} else if (n < 0) {
			shm_conn_end(conn, (int)n);
		} else if (n == 0) {
			close_fds(&p);
			take_end(conn);
		} else {
			take_packet(conn, &p);
		}
	}
}

/* Outgoing */

int
shm_packet_send(struct tp_conn *conn, const void *msg, size_t length_bytes)
{
	struct shm_tx *tx = &conn->tx;
	struct shm_message *m;

	if (length_bytes < 1 || length_bytes > TP_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (conn->state != SHM_CONN_UP)
		return -ENOTCONN;
	if (tx->count == TP_SEND_QUEUE_MAX) {
		tx->was_full = true;
		return -EAGAIN;
	}
	m = &tx->messages[(tx->head + tx->count++) % TP_SEND_QUEUE_MAX];
	m->length_bytes = (uint32_t)length_bytes;
	memcpy(m->bytes, msg, length_bytes);
	shm_packet_schedule(conn);
	return 0;
}

void
shm_packet_preamble(struct tp_conn *conn)
{
	conn->tx.preamble_waits = true;
	shm_packet_schedule(conn);
}

void
shm_packet_schedule(struct tp_conn *conn)
{
	if (conn->state != SHM_CONN_ENDING && !list_is_linked(&conn->flush_node))
		list_add_tail(&conn->shm->flush_list, &conn->flush_node);
}

static void
attach_fd(struct msghdr *header, void *control, size_t control_bytes, int fd)
{
	struct cmsghdr *c;

	header->msg_control = control;
	header->msg_controllen = control_bytes;
	c = CMSG_FIRSTHDR(header);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
}

/* Returns 0 or -errno.  @fd: -1 for none. */
static int
send_frame(struct tp_conn *conn, const struct shm_frame *frame, int fd)
{
	uint8_t head[SHM_FRAME_HEADER_BYTES];
	struct iovec parts[2] = {
		{.iov_base = head, .iov_len = sizeof(head)},
		{.iov_base = (void *)(uintptr_t)frame->payload, .iov_len = frame->payload_bytes},
	};
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr header = {.msg_iov = parts, .msg_iovlen = frame->payload ? 2 : 1};

	shm_frame_encode(frame, head);
	if (fd >= 0)
		attach_fd(&header, &control, sizeof(control), fd);
	if (sendmsg(conn->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	conn->tx.packets_total++;
	return 0;
}

static int
send_preamble(struct tp_conn *conn)
{
	const struct shm_frame f = {.kind = SHM_FRAME_PREAMBLE, .value = SHM_FRAME_VERSION};
	int r = conn->tx.preamble_waits ? send_frame(conn, &f, -1) : 0;

	if (r == 0)
		conn->tx.preamble_waits = false;
	return r;
}

/* A grant whose descriptor the kernel does not take is an answer to who asked for it. */
static int
send_grants(struct tp_conn *conn)
{
	struct shm_frame f;
	int fd, r = 0;

	while (shm_grant_next(conn, &f, &fd)) {
		r = send_frame(conn, &f, fd);
		if (r == -EAGAIN || r == -EPIPE || r == -ECONNRESET)
			return r;
		shm_grant_sent(conn, r);
	}
	return 0;
}

static int
send_revocations(struct tp_conn *conn)
{
	struct shm_frame f;
	int r;

	while (conn->is_client ? shm_map_next_answer(conn, &f) : shm_grant_next_revoke(conn, &f)) {
		r = send_frame(conn, &f, -1);
		if (r < 0)
			return r;
		if (conn->is_client)
			shm_map_answered(conn);
		else
			shm_grant_revoke_sent(conn);
	}
	return 0;
}

static int
send_messages(struct tp_conn *conn)
{
	struct shm_tx *tx = &conn->tx;

	while (tx->count > 0) {
		const struct shm_message *m = &tx->messages[tx->head];
		const struct shm_frame f = {
			.kind = SHM_FRAME_MESSAGE,
			.payload = m->bytes,
			.payload_bytes = m->length_bytes,
		};
		int r = send_frame(conn, &f, -1);

		if (r < 0)
			return r;
		tx->head = (tx->head + 1) % TP_SEND_QUEUE_MAX;
		tx->count--;
	}
	return 0;
}

void
shm_packet_flush(struct tp_conn *conn)
{
	const uint64_t before = conn->tx.packets_total;
	int r;

	if (conn->tx.is_broken)
		return;
	r = send_preamble(conn);
	if (r == 0)
		r = send_grants(conn);
	if (r == 0)
		r = send_revocations(conn);
	if (r == 0)
		r = send_messages(conn);
	if (r == 0 || conn->tx.packets_total > before)
		shm_conn_set_stuck(conn, false);
	if (conn->tx.was_full && conn->tx.count < TP_SEND_QUEUE_MAX) {
		/* A turn for who waits for room. */
		conn->tx.was_full = false;
		defer_start(&conn->work);
	}
	if (r == -EAGAIN || r == -EINTR)
		shm_conn_set_stuck(conn, true);
	else if (r < 0)
		conn->tx.is_broken = true; /* its last words may still be unread */
}

int
shm_packet_bye(struct tp_conn *conn)
{
	const struct shm_frame f = {.kind = SHM_FRAME_BYE};

	return send_frame(conn, &f, -1);
}

void
shm_packet_farewell(struct tp_conn *conn)
{
	struct packet p;
	int i;

	if (!conn->tx.is_broken && send_preamble(conn) == 0 &&
	    (!conn->is_client || send_revocations(conn) == 0))
		(void)send_messages(conn);
	for (i = 0; i < PACKETS_THROWN_AWAY && receive(conn->fd, &p) > 0; i++)
		close_fds(&p);
}
