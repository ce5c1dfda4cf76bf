/* SPDX-License-Identifier: MIT */
/*
 * A reply may describe less than was asked for, so its length and the work for it
 * are bounded whatever the client asks (CVE-2025-47711).
 */
#include "nbd_server/status.h"

#include "nbd_server/conn.h"

#define EXTENTS_MAX 1024u
#define CALLS_MAX 2048u

static void
reply_sent(struct nbds_conn *conn, struct nbds_out *out)
{
	conn->scratch_is_busy = false;
	nbds_conn_unblock(conn);
	nbds_request_part_sent(container_of(out, struct nbds_request, out));
}

/* Fills @out with extents; returns its length in bytes. */
static uint32_t
put_extents(struct backend *be, const struct nbdp_request *rq, uint8_t *out)
{
	uint32_t extents_max = rq->flags & NBDP_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	struct backend_extent extent;
	uint32_t run_bytes = 0;
	bool run_is_hole = false;
	uint32_t done = 0;
	uint32_t extents = 0;
	uint32_t calls;
	size_t n = 0;

	for (calls = 0; calls < CALLS_MAX && done < rq->length_bytes; calls++) {
		extent = backend_extent(be, rq->offset_bytes + done, rq->length_bytes - done);
		if (run_bytes && extent.is_hole_zero != run_is_hole) {
			n += nbdp_put_extent(out + n, run_bytes,
					     run_is_hole ? NBDP_STATE_HOLE | NBDP_STATE_ZERO : 0);
			run_bytes = 0;
			if (++extents == extents_max)
				break;
		}
		run_is_hole = extent.is_hole_zero;
		run_bytes += (uint32_t)extent.length_bytes;
		done += (uint32_t)extent.length_bytes;
	}
	if (run_bytes)
		n += nbdp_put_extent(out + n, run_bytes,
				     run_is_hole ? NBDP_STATE_HOLE | NBDP_STATE_ZERO : 0);
	return (uint32_t)n;
}

enum nbds_step
nbds_status_step(struct nbds_request *req)
{
	struct nbds_conn *conn = req->conn;
	struct nbds_out *out = &req->out;
	size_t n;

	_Static_assert(4 + EXTENTS_MAX * NBDP_EXTENT_BYTES <= NBDS_SCRATCH_BYTES,
		       "a reply fits the scratch");
	if (conn->scratch_is_busy) {
		conn->is_blocked = true;
		return NBDS_STEP_WAIT;
	}
	conn->scratch_is_busy = true;
	conn->current = NULL;
	n = nbdp_put_u32(conn->scratch, NBDS_ALLOCATION_ID);
	n += put_extents(conn->env->be, &req->rq, conn->scratch + n);
	out->header_bytes =
		(uint32_t)nbdp_put_chunk(out->header, NBDP_CHUNK_FLAG_DONE, NBDP_CHUNK_BLOCK_STATUS,
					 req->rq.cookie, (uint32_t)n);
	out->data = conn->scratch;
	out->data_bytes = (uint32_t)n;
	out->done = reply_sent;
	req->is_submitted = true;
	req->is_replied = true;
	nbds_request_push(req, out);
	return NBDS_STEP_MORE;
}
