/* SPDX-License-Identifier: MIT */
/*
 * conn.h - one NBD connection of the load: many requests a write, many answers a read.
 *
 * Every page that is written begins with a stamp that says where it belongs, so a device
 * that was written in full can be verified by anybody at any time.
 */
#ifndef BENCH_LOAD_CONN_H
#define BENCH_LOAD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wire/nbd_proto.h"

#define CONN_DEPTH_MAX 512u

struct slot {
	enum nbdp_cmd command;
	bool is_busy;
	uint32_t length_bytes;
	uint64_t offset_bytes;
	uint64_t start_ns;
	uint8_t *payload; /* of WRITEs */
	uint8_t header[NBDP_REQUEST_BYTES];
};

/* What all connections of a load share. */
struct conn_common {
	bool verify;
	uint64_t n_mismatches;
	uint8_t *input; /* CONN_INPUT_BYTES */
	/* An operation that was answered with success; its slot is free again. */
	void (*done)(void *arg, const struct slot *slot);
	void *arg;
};

#define CONN_INPUT_BYTES (256u * 1024u)

struct conn {
	struct conn_common *common;
	int fd;
	struct slot *slots;
	uint32_t n_free;
	uint8_t *payloads;    /* of all slots */
	uint32_t *free_slots; /* a stack: the warmest one is the next */
	uint32_t depth;
	/* Not yet sent: iovs[0 .. n_iovs). */
	struct iovec *iovs;
	size_t n_iovs;
	/* The answer whose payload is coming. */
	struct slot *reading;
	uint32_t payload_at;
	/* The begin of what was not whole. */
	uint8_t rest[NBDP_SIMPLE_REPLY_BYTES];
	size_t rest_bytes;
};

/* Takes @fd over.  @payload_bytes: of the longest WRITE.  False: no memory. */
bool conn_init(struct conn *c, struct conn_common *common, int fd, uint32_t depth,
	       uint32_t payload_bytes);
/* Also after conn_init() failed. */
void conn_fini(struct conn *c);
/* There must be a free slot. */
void conn_submit(struct conn *c, enum nbdp_cmd command, uint64_t offset_bytes,
		 uint32_t length_bytes, uint64_t now_ns);
/* Sends what the socket takes.  False: the connection is lost, with a line on stderr. */
bool conn_flush(struct conn *c);
/* One read, in *@ret_now_ns when it returned.  @flags: of recv().  False as above. */
bool conn_receive(struct conn *c, int flags, uint64_t *ret_now_ns);
uint64_t conn_clock_ns(void);

static inline bool
conn_has_output(const struct conn *c)
{
	return c->n_iovs > 0;
}

static inline uint32_t
conn_in_flight(const struct conn *c)
{
	return c->depth - c->n_free;
}

#endif /* BENCH_LOAD_CONN_H */
