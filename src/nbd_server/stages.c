/* SPDX-License-Identifier: MIT */
#include "nbd_server/stages.h"

#include "common/probe.h"
#include "nbd_server/conn.h"

static uint64_t
now_ns(const struct nbds_request *req)
{
	return turn_clock_now(req->conn->env->clock);
}

/* NBDS_STAGE_KINDS: not measured. */
static enum nbds_stage_kind
kind_of(const struct nbds_request *req)
{
	switch (req->rq.command) {
	case NBDP_CMD_READ:
		return NBDS_STAGE_READ;
	case NBDP_CMD_WRITE:
		return NBDS_STAGE_WRITE;
	case NBDP_CMD_FLUSH:
		return NBDS_STAGE_FLUSH;
	case NBDP_CMD_TRIM:
	case NBDP_CMD_WRITE_ZEROES:
		return NBDS_STAGE_TRIM;
	default:
		return NBDS_STAGE_KINDS;
	}
}

void
nbds_stages_received(struct nbds_request *req)
{
	const struct nbdp_request *rq = &req->rq;

	req->stamps.received_ns = req->conn->input_ns;
	PROBE5(nbd_received, req, rq->command, rq->offset_bytes, rq->length_bytes, rq->cookie);
}

void
nbds_stages_queued(struct nbds_request *req)
{
	if (req->stamps.queued_ns != 0)
		return;
	req->stamps.queued_ns = now_ns(req);
	PROBE2(nbd_queued, req, req->rq.command);
}

void
nbds_stages_completed(struct nbds_request *req, const struct backend_io *io)
{
	struct nbds_stamps *s = &req->stamps;

	s->completed_ns = now_ns(req);
	if (io->posted_ns > s->posted_ns)
		s->posted_ns = io->posted_ns;
	PROBE4(nbd_completed, req, req->rq.command, io->offset_bytes, io->length_bytes);
}

void
nbds_stages_answered(struct nbds_request *req)
{
	const enum nbds_stage_kind kind = kind_of(req);
	struct nbds_stamps *s = &req->stamps;
	const uint64_t answered_ns = now_ns(req);
	struct histogram *times;

	PROBE4(nbd_answered, req, req->rq.command, req->error, answered_ns - s->received_ns);
	if (kind == NBDS_STAGE_KINDS || s->completed_ns == 0)
		return;
	/* The last piece of a long one may be submitted when others are posted already, and all of
	 * a failed one that was not submitted as a whole. */
	if (s->queued_ns == 0 || s->queued_ns > s->completed_ns)
		s->queued_ns = s->completed_ns;
	if (s->posted_ns < s->queued_ns)
		s->posted_ns = s->queued_ns;
	times = req->conn->env->stages.times[kind];
	histogram_add(&times[NBDS_STAGE_QUEUED], s->queued_ns - s->received_ns);
	histogram_add(&times[NBDS_STAGE_POSTED], s->posted_ns - s->queued_ns);
	histogram_add(&times[NBDS_STAGE_COMPLETED], s->completed_ns - s->posted_ns);
	histogram_add(&times[NBDS_STAGE_ANSWERED], answered_ns - s->completed_ns);
	histogram_add(&times[NBDS_STAGE_TOTAL], answered_ns - s->received_ns);
}
