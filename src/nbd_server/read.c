/* SPDX-License-Identifier: MIT */
/*
 * Happy path: a READ up to hold_bytes_max takes all its buffers, then submits all,
 * then sends header and data from where they lie.  A longer one is streamed: in
 * order, through a window of hold_bytes_max.
 * Failure modes: a held READ answers any failure with an error; a streamed one
 * does so until its first data left, later with an error chunk (structured) or, since
 * a simple reply has no way to say it, by closing the connection.
 * Deadlock: only the first in the gate's FIFO of READs holds buffers while it waits for more.
 * A simple stream keeps other replies back, so it starts when none holds a buffer.
 */
#include "nbd_server/read.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nbd_server/conn.h"

static uint64_t
held_bytes_of(uint64_t offset_bytes, uint32_t length_bytes)
{
	uint64_t end = offset_bytes + length_bytes;

	return (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES -
	       offset_bytes / PAGE_BYTES * PAGE_BYTES;
}

static bool
is_streamed(const struct nbds_conn *conn, const struct nbdp_request *rq)
{
	return held_bytes_of(rq->offset_bytes, rq->length_bytes) > conn->env->hold_bytes_max;
}

int
nbds_read_check(const struct nbds_conn *conn, const struct nbdp_request *rq)
{
	if ((rq->flags & NBDP_CMD_FLAG_DF) && is_streamed(conn, rq))
		return -EOVERFLOW;
	return 0;
}

/* The piece is on no list any more. */
static void
piece_release(struct nbds_piece *piece)
{
	struct nbds_conn *conn = piece->request->conn;

	backend_put(conn->env->be, piece->io);
	conn->held_bytes -= piece->held_bytes;
	list_add_head(&conn->free_pieces, &piece->out.node);
	conn->free_piece_count++;
	nbds_conn_unblock(conn);
}

static void
piece_sent(struct nbds_conn *conn, struct nbds_out *out)
{
	struct nbds_piece *piece = container_of(out, struct nbds_piece, out);
	struct nbds_request *req = piece->request;

	if (conn->state != NBDS_CONN_DEAD)
		conn->env->stats.read_bytes += out->data_bytes;
	piece_release(piece);
	nbds_request_part_sent(req);
}

void
nbds_read_drop(struct nbds_request *req)
{
	struct list *node;
	struct list *tmp;

	list_foreach_safe (node, tmp, &req->pieces) {
		struct nbds_piece *piece = container_of(node, struct nbds_piece, out.node);

		if (piece->is_submitted && !piece->is_done)
			continue;
		list_del(node);
		piece_release(piece);
	}
}

static void
end_stream(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	conn->stream = NULL;
	conn->stream_is_exclusive = false;
	nbds_out_release_later(conn);
	nbds_conn_unblock(conn);
}

static void
header_sent(struct nbds_conn *conn, struct nbds_out *out)
{
	(void)conn;
	nbds_request_part_sent(container_of(out, struct nbds_request, out));
}

static void
push_header(struct nbds_request *req)
{
	const struct nbdp_request *rq = &req->rq;
	struct nbds_out *out = &req->out;

	if (req->conn->handshake.has_structured)
		out->header_bytes =
			(uint32_t)nbdp_put_data_chunk(out->header, NBDP_CHUNK_FLAG_DONE, rq->cookie,
						      rq->offset_bytes, rq->length_bytes);
	else
		out->header_bytes = (uint32_t)nbdp_put_simple_reply(out->header, 0, rq->cookie);
	out->data_bytes = 0;
	out->done = header_sent;
	nbds_request_push(req, out);
}

static void
push_piece(struct nbds_piece *piece)
{
	struct nbds_out *out = &piece->out;

	list_del(&out->node);
	out->data = piece->io->data;
	out->data_bytes = piece->io->length_bytes;
	out->done = piece_sent;
	nbds_request_push(piece->request, out);
}

/* Queues what came back, in order. */
static void
advance_stream(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;
	const struct nbdp_request *rq = &req->rq;
	struct nbds_piece *piece;
	uint64_t end;

	while (!req->error && !list_is_empty(&req->pieces)) {
		piece = container_of(req->pieces.next, struct nbds_piece, out.node);
		if (!piece->is_done)
			return;
		end = piece->io->offset_bytes + piece->io->length_bytes;
		if (conn->handshake.has_structured) {
			piece->out.header_bytes = (uint32_t)nbdp_put_data_chunk(
				piece->out.header,
				end == rq->offset_bytes + rq->length_bytes ? NBDP_CHUNK_FLAG_DONE
									   : 0,
				rq->cookie, piece->io->offset_bytes, piece->io->length_bytes);
		} else if (!req->has_header) {
			push_header(req);
			req->has_header = true;
			conn->stream_is_exclusive = true;
		}
		push_piece(piece);
		if (end == rq->offset_bytes + rq->length_bytes) {
			req->is_replied = true;
			end_stream(req);
		}
	}
}

static void
read_done(struct backend_io *io, int status)
{
	struct nbds_piece *piece = io->arg;
	struct nbds_request *req = piece->request;
	struct nbds_conn *conn = req->conn;

	piece->is_done = true;
	nbds_request_piece_back(req, io, status);
	/* A stream that waits for its window need not go on. */
	if (status < 0)
		nbds_conn_unblock(conn);
	if (conn->state == NBDS_CONN_DEAD) {
		list_del(&piece->out.node);
		piece_release(piece);
	} else if (req == conn->stream) {
		advance_stream(req);
	}
	nbds_request_maybe_reply(req);
}

static void
cache_done(struct backend_io *io, int status)
{
	struct nbds_piece *piece = io->arg;
	struct nbds_request *req = piece->request;

	nbds_request_piece_back(req, io, status);
	list_del(&piece->out.node);
	piece_release(piece);
	nbds_request_maybe_reply(req);
}

/* Gets the next piece of @req, without submitting it; false: the gate has it waiting. */
static bool
reserve(struct nbds_request *req, uint32_t bytes, backend_done_fn *done)
{
	struct nbds_conn *conn = req->conn;
	uint64_t offset_bytes = req->rq.offset_bytes + req->next_bytes;
	struct nbds_piece *piece;
	struct backend_io *io;

	io = nbds_gate_get(&conn->env->gate, &conn->waiter, BACKEND_READ, offset_bytes, bytes);
	if (!io)
		return false;
	assert(!list_is_empty(&conn->free_pieces));
	piece = container_of(conn->free_pieces.next, struct nbds_piece, out.node);
	list_del(&piece->out.node);
	conn->free_piece_count--;
	piece->request = req;
	piece->io = io;
	piece->held_bytes = (uint32_t)held_bytes_of(offset_bytes, bytes);
	piece->is_submitted = false;
	piece->is_done = false;
	piece->out.header_bytes = 0;
	io->flags = 0;
	io->done = done;
	io->arg = piece;
	conn->held_bytes += piece->held_bytes;
	list_add_tail(&req->pieces, &piece->out.node);
	req->next_bytes += bytes;
	conn->budget--;
	return true;
}

static void
submit(struct nbds_piece *piece)
{
	piece->is_submitted = true;
	piece->request->pending++;
	backend_submit(piece->request->conn->env->be, piece->io);
}

static bool
has_room(struct nbds_conn *conn, uint64_t bytes, uint32_t pieces)
{
	if (conn->held_bytes + bytes <= conn->env->hold_bytes_max &&
	    conn->free_piece_count >= pieces)
		return true;
	conn->is_blocked = true;
	return false;
}

static enum nbds_step
held_step(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;
	const struct nbdp_request *rq = &req->rq;
	struct list *node;

	if (!req->is_started && !has_room(conn, held_bytes_of(rq->offset_bytes, rq->length_bytes),
					  nbds_cut_data_count(rq->offset_bytes, rq->length_bytes)))
		return NBDS_STEP_WAIT;
	req->is_started = true;
	while (req->next_bytes < rq->length_bytes)
		if (!reserve(req,
			     nbds_cut_data(rq->offset_bytes + req->next_bytes,
					   rq->length_bytes - req->next_bytes),
			     read_done))
			return NBDS_STEP_WAIT;
	list_foreach (node, &req->pieces)
		submit(container_of(node, struct nbds_piece, out.node));
	conn->current = NULL;
	nbds_request_submitted(req);
	return NBDS_STEP_MORE;
}

/* One piece through the window; shared by streamed READs and CACHE. */
static enum nbds_step
window_step(struct nbds_request *req, backend_done_fn *done)
{
	struct nbds_conn *conn = req->conn;
	const struct nbdp_request *rq = &req->rq;
	uint64_t offset_bytes = rq->offset_bytes + req->next_bytes;
	uint32_t bytes;

	if (!req->error && req->next_bytes < rq->length_bytes) {
		bytes = nbds_cut_data(offset_bytes, rq->length_bytes - req->next_bytes);
		if (!has_room(conn, held_bytes_of(offset_bytes, bytes), 1) ||
		    !reserve(req, bytes, done))
			return NBDS_STEP_WAIT;
		submit(container_of(req->pieces.prev, struct nbds_piece, out.node));
	}
	if (!req->error && req->next_bytes < rq->length_bytes)
		return NBDS_STEP_MORE;
	conn->current = NULL;
	nbds_request_submitted(req);
	return NBDS_STEP_MORE;
}

enum nbds_step
nbds_read_step(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	if (!is_streamed(conn, &req->rq))
		return held_step(req);
	if (!req->is_started) {
		if (conn->stream || conn->held_bytes) {
			conn->is_blocked = true;
			return NBDS_STEP_WAIT;
		}
		conn->stream = req;
		req->is_started = true;
	}
	return window_step(req, read_done);
}

enum nbds_step
nbds_cache_step(struct nbds_request *req)
{
	return window_step(req, cache_done);
}

void
nbds_read_reply(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	if (req->error) {
		nbds_read_drop(req);
		if (req->has_header && conn->state != NBDS_CONN_DEAD) {
			nbds_conn_fail(conn,
				       "a READ of %" PRIu32
				       " bytes failed after its reply began: %s",
				       req->rq.length_bytes, strerror(-req->error));
			return;
		}
		if (conn->stream == req)
			end_stream(req);
		nbds_request_reply(req, req->error);
		return;
	}
	if (!req->rq.length_bytes) {
		nbds_request_reply(req, 0);
		return;
	}
	push_header(req);
	while (!list_is_empty(&req->pieces))
		push_piece(container_of(req->pieces.next, struct nbds_piece, out.node));
	req->is_replied = true;
}
