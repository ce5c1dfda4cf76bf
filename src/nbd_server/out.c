/* SPDX-License-Identifier: MIT */
/*
 * Happy path: replies of a turn are gathered into one sendmsg().
 * Failure modes: the socket is full (the write watcher goes on later); the client
 * is gone (the connection fails, from its own run).
 */
#include "nbd_server/out.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "nbd_server/conn.h"

#define IOV_MAX_PER_CALL 256
#define BYTES_MAX_PER_CALL (1024u * 1024u)

static void
mark_dirty(struct nbds_conn *conn)
{
	if (conn->state == NBDS_CONN_DEAD || ev_is_active(&conn->writable))
		return;
	if (!list_is_linked(&conn->dirty_node))
		list_add_tail(&conn->env->dirty, &conn->dirty_node);
}

void
nbds_out_push(struct nbds_conn *conn, struct nbds_out *out)
{
	list_add_tail(&conn->out, &out->node);
	mark_dirty(conn);
}

void
nbds_out_push_later(struct nbds_conn *conn, struct nbds_out *out)
{
	list_add_tail(&conn->out_later, &out->node);
}

void
nbds_out_release_later(struct nbds_conn *conn)
{
	list_splice_tail(&conn->out, &conn->out_later);
	mark_dirty(conn);
}

static size_t
add_part(struct iovec *iov, const uint8_t *base, uint32_t bytes, uint32_t *skip)
{
	uint32_t skipped = *skip < bytes ? *skip : bytes;

	*skip -= skipped;
	if (skipped == bytes)
		return 0;
	/* sendmsg() does not write through it. */
	iov->iov_base = (void *)(uintptr_t)(base + skipped);
	iov->iov_len = bytes - skipped;
	return 1;
}

static size_t
gather(struct nbds_conn *conn, struct iovec *iov)
{
	uint32_t skip = conn->out_skip_bytes;
	uint32_t bytes = 0;
	struct nbds_out *out;
	struct list *node;
	size_t n = 0;

	list_foreach (node, &conn->out) {
		if (n + 2 > IOV_MAX_PER_CALL || bytes >= BYTES_MAX_PER_CALL)
			break;
		out = container_of(node, struct nbds_out, node);
		n += add_part(&iov[n], out->header, out->header_bytes, &skip);
		n += add_part(&iov[n], out->data, out->data_bytes, &skip);
		bytes += out->header_bytes + out->data_bytes;
	}
	return n;
}

/* done() may queue more behind; the loop ends since @bytes does not grow. */
static void
account(struct nbds_conn *conn, size_t bytes)
{
	struct nbds_out *out;
	size_t left;

	conn->progress_bytes += bytes;
	while (!list_is_empty(&conn->out)) {
		out = container_of(conn->out.next, struct nbds_out, node);
		left = out->header_bytes + out->data_bytes - conn->out_skip_bytes;
		if (bytes < left)
			break;
		bytes -= left;
		conn->out_skip_bytes = 0;
		list_del(&out->node);
		out->done(conn, out);
	}
	conn->out_skip_bytes += (uint32_t)bytes;
}

void
nbds_out_flush(struct nbds_conn *conn)
{
	struct iovec iov[IOV_MAX_PER_CALL];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t n;

	if (conn->has_failed || conn->state == NBDS_CONN_DEAD)
		return;
	if (list_is_empty(&conn->out)) {
		ev_io_stop(conn->env->loop, &conn->writable);
		return;
	}
	msg.msg_iovlen = gather(conn, iov);
	n = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	turn_clock_update(conn->env->clock);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		nbds_conn_fail(conn, "cannot send: %s", strerror(errno));
		return;
	}
	if (n > 0)
		account(conn, (size_t)n);
	if (!list_is_empty(&conn->out)) {
		ev_io_start(conn->env->loop, &conn->writable);
		return;
	}
	ev_io_stop(conn->env->loop, &conn->writable);
	nbds_conn_maybe_end(conn);
}

void
nbds_out_drop(struct nbds_conn *conn)
{
	struct list *node;

	assert(conn->state == NBDS_CONN_DEAD);
	list_splice_tail(&conn->out, &conn->out_later);
	while ((node = list_pop_head(&conn->out))) {
		struct nbds_out *out = container_of(node, struct nbds_out, node);

		out->done(conn, out);
	}
	conn->out_skip_bytes = 0;
}
