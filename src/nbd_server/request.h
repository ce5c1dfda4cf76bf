/* SPDX-License-Identifier: MIT */
/*
 * request.h - one NBD request, from its header to the end of its reply.
 *
 * A request is over when all its pieces were submitted (or given up), all those
 * came back, the reply is queued and everything queued for it was sent.
 */
#ifndef NBD_SERVER_REQUEST_H
#define NBD_SERVER_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "nbd_server/cut.h"
#include "nbd_server/gate.h"
#include "nbd_server/out.h"
#include "nbd_server/stages.h"
#include "nbd_server/step.h"
#include "wire/nbd_proto.h"

struct nbds_conn;
struct nbds_request;

/* A READ piece: holds its buffer until it was sent. */
struct nbds_piece {
	struct nbds_out out; /* node: free_pieces, request.pieces, or the output queue */
	struct nbds_request *request;
	struct backend_io *io;
	uint32_t held_bytes;
	bool is_submitted;
	bool is_done;
	int status;
};

struct nbds_request {
	struct list node; /* conn.free_requests or conn.active */
	struct nbds_conn *conn;
	struct nbds_out out;	   /* the reply, or its first part */
	struct nbds_waiter waiter; /* TRIM, WRITE_ZEROES and FLUSH run beside the current request */
	struct nbdp_request rq;
	struct nbds_stamps stamps;
	uint64_t next_bytes;	     /* READ, WRITE, CACHE: how much was cut off already */
	struct nbds_cut_range range; /* TRIM, WRITE_ZEROES: what is left to do */
	struct list pieces;	     /* READ: in order, not yet queued for sending */
	uint32_t pending;	     /* pieces in the backend */
	uint32_t unsent;	     /* parts of the reply that are queued */
	int error;		     /* first failure, -errno */
	bool is_started;
	bool is_submitted; /* no more pieces will follow */
	bool is_replied;
	bool has_header; /* streamed READ: the simple header is queued */
};

void nbds_request_init(struct nbds_request *req, struct nbds_conn *conn);
/* Takes the next step in the transmission phase. */
enum nbds_step nbds_request_step(struct nbds_conn *conn);
/* The pieces of the request were all submitted: answers it now or when they come back. */
void nbds_request_submitted(struct nbds_request *req);
/* @io, a piece of the request, has come back, with the status that its done() was given. */
void nbds_request_piece_back(struct nbds_request *req, const struct backend_io *io, int status);
/* Answers the request if nothing of it is left to wait for. */
void nbds_request_maybe_reply(struct nbds_request *req);
/* A reply without data; @status: 0 or -errno. */
void nbds_request_reply(struct nbds_request *req, int status);
/* Queues a part of the reply. */
void nbds_request_push(struct nbds_request *req, struct nbds_out *out);
/* A queued part was sent. */
void nbds_request_part_sent(struct nbds_request *req);
/* Keeps the first failure and logs it. */
void nbds_request_set_error(struct nbds_request *req, int status);
/* The connection is dead: give up what is not in the backend. */
void nbds_request_abort(struct nbds_request *req);
/* Bytes of the current request's payload that are not in yet, its unfinished piece counted. */
uint64_t nbds_request_payload_left(const struct nbds_conn *conn);

#endif /* NBD_SERVER_REQUEST_H */
