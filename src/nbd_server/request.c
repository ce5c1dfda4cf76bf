/* SPDX-License-Identifier: MIT */
/*
 * Happy path: header -> check -> the command's own file submits pieces -> reply.
 * Failure modes: a malformed header ends the connection; a refused request is
 * answered and its payload skipped; a failed piece makes the reply an error; a dead
 * connection waits for its pieces only.
 */
#include "nbd_server/request.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "nbd_server/conn.h"
#include "nbd_server/errno_map.h"
#include "nbd_server/range.h"
#include "nbd_server/read.h"
#include "nbd_server/status.h"
#include "nbd_server/write.h"

/* Payload of a WRITE that is too long is skipped up to here, else the connection ends. */
#define SKIP_BYTES_MAX (2u * NBDP_PAYLOAD_BYTES_MAX)

static const char *
command_name(uint16_t command)
{
	static const char *const names[NBDP_CMD_COUNT] = {
		"READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS",
	};

	return command < NBDP_CMD_COUNT ? names[command] : "unknown command";
}

void
nbds_request_init(struct nbds_request *req, struct nbds_conn *conn)
{
	memset(req, 0, sizeof(*req));
	req->conn = conn;
	list_init(&req->node);
	list_init(&req->out.node);
	list_init(&req->waiter.node);
	list_init(&req->pieces);
}

static void
release(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	assert(req->is_submitted && !req->pending && !req->unsent);
	assert(list_is_empty(&req->pieces) && !list_is_linked(&req->waiter.node));
	if (conn->state != NBDS_CONN_DEAD)
		nbds_stages_answered(req);
	list_del(&req->node);
	/* To the head: its memory is still in the cache. */
	list_add_head(&conn->free_requests, &req->node);
	nbds_conn_unblock(conn);
	nbds_conn_maybe_end(conn);
}

void
nbds_request_push(struct nbds_request *req, struct nbds_out *out)
{
	struct nbds_conn *conn = req->conn;

	req->unsent++;
	if (conn->stream_is_exclusive && conn->stream != req)
		nbds_out_push_later(conn, out);
	else
		nbds_out_push(conn, out);
}

void
nbds_request_part_sent(struct nbds_request *req)
{
	assert(req->unsent);
	req->unsent--;
	if (req->is_replied && !req->unsent)
		release(req);
}

static void
reply_sent(struct nbds_conn *conn, struct nbds_out *out)
{
	(void)conn;
	nbds_request_part_sent(container_of(out, struct nbds_request, out));
}

void
nbds_request_set_error(struct nbds_request *req, int status)
{
	struct nbds_conn *conn = req->conn;
	uint64_t dropped;

	assert(status < 0);
	if (req->error)
		return;
	req->error = status;
	/* The client asked for this answer. */
	if (status == -EOPNOTSUPP && (req->rq.flags & NBDP_CMD_FLAG_FAST_ZERO))
		return;
	if (nbds_rate_allows(&conn->env->io_error_rate, conn->env->loop, &dropped))
		log_warn("%s: %s of %" PRIu32 " bytes at %" PRIu64 " failed: %s (%" PRIu64
			 " more failures not logged before)",
			 conn->label, command_name(req->rq.command), req->rq.length_bytes,
			 req->rq.offset_bytes, strerror(-status), dropped);
}

void
nbds_request_piece_back(struct nbds_request *req, const struct backend_io *io, int status)
{
	assert(req->pending);
	req->pending--;
	nbds_stages_completed(req, io);
	if (status < 0)
		nbds_request_set_error(req, status);
}

void
nbds_request_reply(struct nbds_request *req, int status)
{
	struct nbds_conn *conn = req->conn;
	uint32_t error = nbds_error_of(status);
	bool is_structured =
		conn->handshake.has_structured &&
		(req->rq.command == NBDP_CMD_READ || req->rq.command == NBDP_CMD_BLOCK_STATUS);
	struct nbds_out *out = &req->out;

	assert(!req->is_replied && !req->pending && req->is_submitted);
	req->is_replied = true;
	if (conn->state == NBDS_CONN_DEAD) {
		if (!req->unsent)
			release(req);
		return;
	}
	if (error)
		conn->env->stats.errors++;
	if (!is_structured)
		out->header_bytes =
			(uint32_t)nbdp_put_simple_reply(out->header, error, req->rq.cookie);
	else if (error)
		out->header_bytes =
			(uint32_t)nbdp_put_error_chunk(out->header, req->rq.cookie, error);
	else
		out->header_bytes = (uint32_t)nbdp_put_chunk(out->header, NBDP_CHUNK_FLAG_DONE,
							     NBDP_CHUNK_NONE, req->rq.cookie, 0);
	out->data_bytes = 0;
	out->done = reply_sent;
	nbds_request_push(req, out);
}

void
nbds_request_maybe_reply(struct nbds_request *req)
{
	if (req->is_replied || req->pending || !req->is_submitted)
		return;
	if (req->rq.command == NBDP_CMD_READ)
		nbds_read_reply(req);
	else
		nbds_request_reply(req, req->error);
}

void
nbds_request_submitted(struct nbds_request *req)
{
	assert(!req->is_submitted);
	req->is_submitted = true;
	nbds_stages_queued(req);
	nbds_request_maybe_reply(req);
}

void
nbds_request_abort(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;

	assert(conn->state == NBDS_CONN_DEAD);
	nbds_gate_leave(&conn->env->gate, &req->waiter);
	if (!req->error)
		req->error = -ECANCELED;
	nbds_read_drop(req);
	req->is_submitted = true;
	nbds_request_maybe_reply(req);
}

/* Of the fields that @rq must not have beside each other; 0 or the -errno of the answer. */
static int
check_flags(const struct nbds_conn *conn, const struct nbdp_request *rq)
{
	/* A server that offers FUA takes it on every command. */
	uint32_t allowed = NBDP_CMD_FLAG_FUA;

	switch (rq->command) {
	case NBDP_CMD_READ:
		if (conn->handshake.has_structured)
			allowed |= NBDP_CMD_FLAG_DF;
		break;
	case NBDP_CMD_WRITE_ZEROES:
		allowed |= NBDP_CMD_FLAG_NO_HOLE | NBDP_CMD_FLAG_FAST_ZERO;
		break;
	case NBDP_CMD_BLOCK_STATUS:
		allowed |= NBDP_CMD_FLAG_REQ_ONE;
		break;
	case NBDP_CMD_WRITE:
	case NBDP_CMD_FLUSH:
	case NBDP_CMD_TRIM:
	case NBDP_CMD_CACHE:
		break;
	default:
		return -EINVAL;
	}
	return rq->flags & ~allowed ? -EINVAL : 0;
}

static int
check(const struct nbds_conn *conn, const struct nbdp_request *rq)
{
	uint64_t size_bytes = conn->env->be->size_bytes;
	bool is_write = rq->command == NBDP_CMD_WRITE || rq->command == NBDP_CMD_WRITE_ZEROES;
	int r;

	r = check_flags(conn, rq);
	if (r < 0)
		return r;
	if (rq->command == NBDP_CMD_FLUSH)
		return 0;
	if ((rq->command == NBDP_CMD_READ || rq->command == NBDP_CMD_WRITE) &&
	    rq->length_bytes > NBDP_PAYLOAD_BYTES_MAX)
		return -EINVAL;
	if (rq->offset_bytes > size_bytes || rq->length_bytes > size_bytes - rq->offset_bytes)
		return is_write ? -ENOSPC : -EINVAL;
	if (rq->command == NBDP_CMD_BLOCK_STATUS &&
	    (!conn->handshake.has_allocation || !rq->length_bytes))
		return -EINVAL;
	if (rq->command == NBDP_CMD_READ)
		return nbds_read_check(conn, rq);
	return 0;
}

static void
count(struct nbds_conn *conn, const struct nbdp_request *rq)
{
	struct nbds_stats *stats = &conn->env->stats;

	conn->request_count++;
	if (rq->command < NBDP_CMD_COUNT)
		stats->requests[rq->command]++;
	else
		stats->unknown_requests++;
}

/* Throws away the payload of a WRITE that was refused. */
static enum nbds_step
skip_step(struct nbds_conn *conn)
{
	uint64_t bytes = nbds_conn_input_bytes(conn);

	if (!bytes)
		return NBDS_STEP_INPUT;
	if (bytes > conn->skip_bytes)
		bytes = conn->skip_bytes;
	conn->input_start += (uint32_t)bytes;
	conn->skip_bytes -= bytes;
	conn->budget--;
	return NBDS_STEP_MORE;
}

/* Takes a header off the input and makes it the current request. */
static enum nbds_step
begin_step(struct nbds_conn *conn)
{
	struct nbds_request *req;
	struct nbdp_request rq;
	int r;

	if (nbds_conn_input_bytes(conn) < NBDP_REQUEST_BYTES)
		return NBDS_STEP_INPUT;
	if (list_is_empty(&conn->free_requests)) {
		conn->is_blocked = true;
		return NBDS_STEP_WAIT;
	}
	if (nbdp_get_request(conn->input + conn->input_start, &rq) < 0) {
		nbds_conn_misbehaved(conn, "a request without the magic number");
		return NBDS_STEP_WAIT;
	}
	conn->input_start += NBDP_REQUEST_BYTES;
	conn->budget--;
	count(conn, &rq);
	if (rq.command == NBDP_CMD_DISC) {
		nbds_conn_drain(conn, "client disconnected");
		return NBDS_STEP_WAIT;
	}
	if (rq.command == NBDP_CMD_WRITE && rq.length_bytes > SKIP_BYTES_MAX) {
		nbds_conn_misbehaved(conn, "a WRITE of %" PRIu32 " bytes", rq.length_bytes);
		return NBDS_STEP_WAIT;
	}
	req = container_of(conn->free_requests.next, struct nbds_request, node);
	list_del(&req->node);
	nbds_request_init(req, conn);
	req->rq = rq;
	nbds_stages_received(req);
	list_add_tail(&conn->active, &req->node);
	r = check(conn, &rq);
	if (r < 0) {
		if (rq.command == NBDP_CMD_WRITE)
			conn->skip_bytes = rq.length_bytes;
		req->error = r;
		nbds_request_submitted(req);
		return NBDS_STEP_MORE;
	}
	conn->current = req;
	return NBDS_STEP_MORE;
}

static enum nbds_step
current_step(struct nbds_conn *conn)
{
	struct nbds_request *req = conn->current;

	switch (req->rq.command) {
	case NBDP_CMD_READ:
		return nbds_read_step(req);
	case NBDP_CMD_CACHE:
		return nbds_cache_step(req);
	case NBDP_CMD_WRITE:
		return nbds_write_step(req);
	case NBDP_CMD_BLOCK_STATUS:
		return nbds_status_step(req);
	default:
		/* These go on by themselves; the next request need not wait for them. */
		conn->current = NULL;
		nbds_range_start(req);
		return NBDS_STEP_MORE;
	}
}

enum nbds_step
nbds_request_step(struct nbds_conn *conn)
{
	enum nbds_step step;

	if (conn->skip_bytes)
		return skip_step(conn);
	if (!conn->current) {
		if (conn->is_draining)
			return NBDS_STEP_WAIT;
		return begin_step(conn);
	}
	step = current_step(conn);
	if (!conn->current)
		nbds_gate_yield(&conn->env->gate, &conn->waiter);
	return step;
}

uint64_t
nbds_request_payload_left(const struct nbds_conn *conn)
{
	const struct nbds_request *req = conn->current;

	if (conn->skip_bytes)
		return conn->skip_bytes;
	if (!req || req->rq.command != NBDP_CMD_WRITE)
		return 0;
	return req->rq.length_bytes - req->next_bytes - conn->write_filled_bytes;
}
