/* SPDX-License-Identifier: MIT */
/*
 * Happy path: bytes are copied from the input buffer, or read by conn.c straight
 * into the piece; the reply follows the last piece.
 * Failure modes: a client that stalls holds one piece; after a failed piece the
 * rest of the payload is thrown away and the reply is an error.
 */
#include "nbd_server/write.h"

#include <assert.h>
#include <string.h>

#include "nbd_server/conn.h"

/* A piece from this size on takes its buffer before its bytes are here, so that
 * they need no copy; shorter ones do not let a stalled client hold a buffer. */
#define DIRECT_BYTES_MIN (32u * 1024u)

static void
piece_done(struct backend_io *io, int status)
{
	struct nbds_request *req = io->arg;

	nbds_request_piece_back(req, io, status);
	backend_put(req->conn->env->be, io);
	nbds_request_maybe_reply(req);
}

static void
submit(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;
	struct backend_io *io = conn->write_io;

	conn->write_io = NULL;
	conn->write_filled_bytes = 0;
	req->next_bytes += io->length_bytes;
	io->flags = req->rq.flags & NBDP_CMD_FLAG_FUA ? BACKEND_FUA : 0;
	io->done = piece_done;
	io->arg = req;
	req->pending++;
	conn->budget--;
	conn->env->stats.written_bytes += io->length_bytes;
	backend_submit(conn->env->be, io);
}

/* One piece, as far as the input goes. */
static enum nbds_step
fill(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;
	uint64_t offset_bytes = req->rq.offset_bytes + req->next_bytes;
	uint32_t input_bytes = nbds_conn_input_bytes(conn);
	uint32_t bytes;

	if (!conn->write_io) {
		bytes = nbds_cut_data(offset_bytes, req->rq.length_bytes - req->next_bytes);
		if (!input_bytes && bytes < DIRECT_BYTES_MIN)
			return NBDS_STEP_INPUT;
		conn->write_io = nbds_gate_get(&conn->env->gate, &conn->waiter, BACKEND_WRITE,
					       offset_bytes, bytes);
		if (!conn->write_io)
			return NBDS_STEP_WAIT;
	}
	bytes = conn->write_io->length_bytes - conn->write_filled_bytes;
	if (bytes > input_bytes)
		bytes = input_bytes;
	memcpy((uint8_t *)conn->write_io->data + conn->write_filled_bytes,
	       conn->input + conn->input_start, bytes);
	conn->input_start += bytes;
	conn->write_filled_bytes += bytes;
	if (conn->write_filled_bytes < conn->write_io->length_bytes)
		return NBDS_STEP_INPUT;
	submit(req);
	return NBDS_STEP_MORE;
}

enum nbds_step
nbds_write_step(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	if (req->error && req->next_bytes < req->rq.length_bytes) {
		conn->skip_bytes = nbds_request_payload_left(conn);
		nbds_write_drop(conn);
		req->next_bytes = req->rq.length_bytes;
	}
	if (req->next_bytes < req->rq.length_bytes)
		return fill(req);
	conn->current = NULL;
	nbds_request_submitted(req);
	return NBDS_STEP_MORE;
}

void
nbds_write_drop(struct nbds_conn *conn)
{
	if (conn->write_io)
		backend_put(conn->env->be, conn->write_io);
	conn->write_io = NULL;
	conn->write_filled_bytes = 0;
}
