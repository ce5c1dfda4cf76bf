/* SPDX-License-Identifier: MIT */
/*
 * stages.h - how long requests take, and where: by kind and by stage.
 *
 *   received -> queued -> posted -> completed -> answered
 *
 * received: the read() that brought its header has ended.  queued: all of it is in the backend;
 * before that a WRITE waits for its payload, everything for buffers.  posted: a daemon or the
 * disk was asked for the last of it; before that it waits for earlier requests of the same
 * pages.  completed: the backend is done.  answered: the socket has its reply.  A request for which
 * nobody had to be asked is posted when it is queued.
 *
 * All requests that went to the backend and were answered count, with errors too.
 */
#ifndef NBD_SERVER_STAGES_H
#define NBD_SERVER_STAGES_H

#include <stdint.h>

#include "common/histogram.h"

struct backend_io;
struct nbds_request;

enum nbds_stage_kind {
	NBDS_STAGE_READ = 0,
	NBDS_STAGE_WRITE,
	NBDS_STAGE_FLUSH,
	NBDS_STAGE_TRIM, /* and WRITE_ZEROES */
	NBDS_STAGE_KINDS,
};

/* Named by the end of each. */
enum nbds_stage {
	NBDS_STAGE_QUEUED = 0,
	NBDS_STAGE_POSTED,
	NBDS_STAGE_COMPLETED,
	NBDS_STAGE_ANSWERED,
	NBDS_STAGE_TOTAL, /* received to answered */
	NBDS_STAGES,
};

struct nbds_stages {
	struct histogram times[NBDS_STAGE_KINDS][NBDS_STAGES];
};

/* Of one request; 0: not yet. */
struct nbds_stamps {
	uint64_t received_ns;
	uint64_t queued_ns;
	uint64_t posted_ns;
	uint64_t completed_ns;
};

/* Its header was taken off the input. */
void nbds_stages_received(struct nbds_request *req);
/* It is in the backend; the first call counts. */
void nbds_stages_queued(struct nbds_request *req);
/* A piece of it is done; the last one counts. */
void nbds_stages_completed(struct nbds_request *req, const struct backend_io *io);
/* Its reply was sent. */
void nbds_stages_answered(struct nbds_request *req);

#endif /* NBD_SERVER_STAGES_H */
