/* SPDX-License-Identifier: MIT */
/*
 * conn.h - one client's connection: its life, its input, and what it holds.
 *
 * nbds_conn_run() is the only place that makes progress on input.  It is called
 * when bytes came in, when the gate says that it is this connection's turn, and
 * from the env's runnable list; it does a bounded amount of work.  Nothing but
 * it closes a connection: others call nbds_conn_fail(), so no function finds its
 * connection gone when a call returns.
 */
#ifndef NBD_SERVER_CONN_H
#define NBD_SERVER_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "nbd_server/env.h"
#include "nbd_server/gate.h"
#include "nbd_server/out.h"
#include "nbd_server/request.h"

#define NBDS_REQUESTS_MAX 256u
#define NBDS_INPUT_BYTES (128u * 1024u)
/* Replies of one option, or one BLOCK_STATUS. */
#define NBDS_SCRATCH_BYTES (20u * 1024u)
#define NBDS_LABEL_BYTES 96u

enum nbds_conn_state {
	NBDS_CONN_FREE = 0,
	NBDS_CONN_HANDSHAKE,
	NBDS_CONN_TRANSMISSION,
	NBDS_CONN_DEAD, /* socket closed; waits for its I/O in the backend */
};

struct nbds_handshake {
	bool has_client_flags;
	bool no_zeroes;
	bool has_structured;
	bool has_allocation; /* base:allocation was selected */
	uint32_t options;
};

struct nbds_conn {
	struct nbds_env *env;
	struct list node; /* the server's */
	struct list runnable_node;
	struct list dirty_node;
	struct nbds_waiter waiter; /* of nbds_conn_run() */
	enum nbds_conn_state state;
	char label[NBDS_LABEL_BYTES];
	char fail_text[NBDS_LABEL_BYTES];
	bool has_failed;
	bool is_closing;     /* nbds_conn_run() is taking it apart */
	bool is_misbehaving; /* the failure is the client's: a warning */
	bool is_draining;    /* no new request; close when all was answered */
	const char *drain_text;
	bool is_at_eof;
	bool is_blocked; /* waits for a request, a piece or the scratch to come back */
	int budget;	 /* what this run may still do, requests and pieces */

	int fd;
	ev_io readable;
	ev_io writable;
	ev_timer deadline; /* handshake; later the draining */
	uint64_t progress_bytes;
	uint64_t progress_seen_bytes; /* at the last deadline */

	uint8_t *input;
	uint32_t input_start;
	uint32_t input_end;
	uint64_t input_ns; /* when the newest of it was read */
	struct nbds_handshake handshake;
	uint8_t *scratch;
	bool scratch_is_busy;
	struct nbds_out scratch_out;
	uint32_t scratch_bytes;

	struct list out;	 /* nbds_out.node, in the order of sending */
	struct list out_later;	 /* behind a streamed reply that nothing may interrupt */
	uint32_t out_skip_bytes; /* of the first one, sent already */

	struct nbds_request *requests; /* memory of all */
	struct nbds_piece *pieces;
	struct list free_requests;
	struct list free_pieces;
	uint32_t free_piece_count;
	struct list active; /* nbds_request.node */
	uint64_t held_bytes;
	uint64_t request_count;

	struct nbds_request *current; /* the one whose pieces are being submitted */
	struct nbds_request *stream;  /* READ over hold_bytes_max, until its last piece is queued */
	bool stream_is_exclusive;     /* its simple header is out */
	struct backend_io *write_io;  /* of current, being filled */
	uint32_t write_filled_bytes;
	uint64_t skip_bytes; /* payload of a refused WRITE, to be thrown away */
};

/* All memory of a connection; -ENOMEM. */
int nbds_conn_new(struct nbds_env *env, struct nbds_conn **ret_conn);
/* Only in state FREE.  NULL is a no-op. */
void nbds_conn_free(struct nbds_conn *conn);

/* Takes over @fd, a connected non-blocking socket.  @label: for the log, copied. */
void nbds_conn_start(struct nbds_conn *conn, int fd, const char *label);
void nbds_conn_run(struct nbds_conn *conn);
/* Runs soon, from the loop. */
void nbds_conn_wake(struct nbds_conn *conn);
/* Something that the connection may be blocked on came back. */
void nbds_conn_unblock(struct nbds_conn *conn);
/* Closes soon; the first text stays.  nbds_conn_misbehaved(): and warns. */
void nbds_conn_fail(struct nbds_conn *conn, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void nbds_conn_misbehaved(struct nbds_conn *conn, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Answer what was accepted, then close.  @why: static string. */
void nbds_conn_drain(struct nbds_conn *conn, const char *why);
/* After a request or output ended: closes when that was the last thing to wait for. */
void nbds_conn_maybe_end(struct nbds_conn *conn);
/* The handshake succeeded. */
void nbds_conn_enter_transmission(struct nbds_conn *conn);

static inline uint32_t
nbds_conn_input_bytes(const struct nbds_conn *conn)
{
	return conn->input_end - conn->input_start;
}

#endif /* NBD_SERVER_CONN_H */
