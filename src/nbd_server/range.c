/* SPDX-License-Identifier: MIT */
/*
 * Happy path: whole pages in pieces of BACKEND_RANGE_BYTES_MAX, then the ends; the
 * next piece is submitted when the last one is done, so that one TRIM of the whole
 * device takes its turns with everybody else's requests.
 * Failure modes: a failed piece ends the request with its error.  FAST_ZERO fails
 * before anything was changed, since the whole pages come first.
 */
#include "nbd_server/range.h"

#include <string.h>

#include "nbd_server/conn.h"

static void advance(struct nbds_request *req);

static void
piece_done(struct backend_io *io, int status)
{
	struct nbds_request *req = io->arg;

	nbds_request_piece_back(req, io, status);
	backend_put(req->conn->env->be, io);
	/* Aborted: its connection is dead. */
	if (req->is_submitted)
		nbds_request_maybe_reply(req);
	else
		advance(req);
}

static uint32_t
piece_flags(const struct nbds_request *req)
{
	uint32_t flags = 0;

	if (req->rq.flags & NBDP_CMD_FLAG_FUA)
		flags |= BACKEND_FUA;
	if (req->rq.flags & NBDP_CMD_FLAG_NO_HOLE)
		flags |= BACKEND_NO_HOLE;
	if (req->rq.flags & NBDP_CMD_FLAG_FAST_ZERO)
		flags |= BACKEND_FAST_ZERO;
	return flags;
}

/* False: it waits for the backend, the gate runs it again. */
static bool
submit(struct nbds_request *req, enum backend_kind kind, uint64_t offset_bytes,
       uint32_t length_bytes)
{
	struct nbds_env *env = req->conn->env;
	struct backend_io *io;

	io = nbds_gate_get(&env->gate, &req->waiter, kind, offset_bytes, length_bytes);
	if (!io)
		return false;
	io->flags = kind == BACKEND_FLUSH ? 0 : piece_flags(req);
	if (kind == BACKEND_WRITE) {
		io->flags &= BACKEND_FUA;
		memset(io->data, 0, length_bytes);
	}
	io->done = piece_done;
	io->arg = req;
	req->pending++;
	nbds_stages_queued(req);
	backend_submit(env->be, io);
	return true;
}

static void
advance(struct nbds_request *req)
{
	struct nbds_cut_range *range = &req->range;
	enum backend_kind kind = req->rq.command == NBDP_CMD_TRIM ? BACKEND_TRIM : BACKEND_ZERO;
	uint32_t bytes;

	if (req->error) {
		nbds_request_submitted(req);
	} else if (req->rq.command == NBDP_CMD_FLUSH && !req->is_started) {
		req->is_started = submit(req, BACKEND_FLUSH, 0, 0);
	} else if (range->middle_bytes) {
		bytes = range->middle_bytes < BACKEND_RANGE_BYTES_MAX
				? (uint32_t)range->middle_bytes
				: BACKEND_RANGE_BYTES_MAX;
		if (!submit(req, kind, range->middle_offset_bytes, bytes))
			return;
		range->middle_offset_bytes += bytes;
		range->middle_bytes -= bytes;
	} else if (range->head_bytes) {
		if (submit(req, BACKEND_WRITE, range->head_offset_bytes, range->head_bytes))
			range->head_bytes = 0;
	} else if (range->tail_bytes) {
		if (submit(req, BACKEND_WRITE, range->tail_offset_bytes, range->tail_bytes))
			range->tail_bytes = 0;
	} else {
		nbds_request_submitted(req);
	}
}

static void
waiter_cb(struct nbds_waiter *w)
{
	advance(container_of(w, struct nbds_request, waiter));
}

void
nbds_range_start(struct nbds_request *req)
{
	req->waiter.run = waiter_cb;
	if (req->rq.command != NBDP_CMD_FLUSH)
		req->range = nbds_cut_range(req->rq.offset_bytes, req->rq.length_bytes);
	/* The ends need not be discarded, and only writing zeros could clear them. */
	if (req->rq.command == NBDP_CMD_TRIM) {
		req->range.head_bytes = 0;
		req->range.tail_bytes = 0;
	}
	advance(req);
}
