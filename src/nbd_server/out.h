/* SPDX-License-Identifier: MIT */
/* out.h - what waits to be sent on a connection; data goes out from where it lies. */
#ifndef NBD_SERVER_OUT_H
#define NBD_SERVER_OUT_H

#include <stdint.h>

#include "common/list.h"
#include "wire/nbd_proto.h"

struct nbds_conn;
struct nbds_out;

#define NBDS_OUT_HEADER_BYTES (NBDP_CHUNK_BYTES + NBDP_CHUNK_OFFSET_BYTES)

/* Runs once for each queued one: when it was sent, or when the connection ended. */
typedef void nbds_out_done_fn(struct nbds_conn *conn, struct nbds_out *out);

/* Embedded in what has something to say. */
struct nbds_out {
	struct list node;
	nbds_out_done_fn *done;
	const uint8_t *data; /* sent after the header; must stay until done() */
	uint32_t data_bytes;
	uint32_t header_bytes;
	uint8_t header[NBDS_OUT_HEADER_BYTES];
};

/* To the end of the queue; sent at the end of this turn. */
void nbds_out_push(struct nbds_conn *conn, struct nbds_out *out);
/* To a second queue that nbds_out_release_later() appends to the first. */
void nbds_out_push_later(struct nbds_conn *conn, struct nbds_out *out);
void nbds_out_release_later(struct nbds_conn *conn);
/* Sends what the socket takes, at most once per turn. */
void nbds_out_flush(struct nbds_conn *conn);
/* The connection is dead: done() for all that is queued. */
void nbds_out_drop(struct nbds_conn *conn);

#endif /* NBD_SERVER_OUT_H */
