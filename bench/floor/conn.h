/* SPDX-License-Identifier: MIT */
/* conn.h - a client of the floor: bytes in, as many answers as there are requests out. */
#ifndef BENCH_FLOOR_CONN_H
#define BENCH_FLOOR_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define CONN_INPUT_BYTES (256u * 1024u)
#define CONN_REPLIES_MAX 256u
/* The longest READ. */
#define CONN_CONTENT_BYTES (1024u * 1024u)

struct conn {
	int fd;
	bool is_watched;   /* the caller's */
	size_t skip_bytes; /* of a WRITE's payload, still to come; then it is answered */
	uint64_t write_cookie;
	uint32_t write_error;
	size_t input_bytes;
	size_t n_iovs;
	size_t n_replies;
	uint64_t size_bytes;
	const uint8_t *content; /* what every READ gets, of CONN_CONTENT_BYTES */
	struct iovec iovs[CONN_REPLIES_MAX * 2];
	uint8_t replies[CONN_REPLIES_MAX][16];
	uint8_t input[CONN_INPUT_BYTES];
};

/* Takes @fd over.  NULL: no memory. */
struct conn *conn_new(int fd, uint64_t size_bytes, const uint8_t *content);
void conn_free(struct conn *c);
/*
 * One read, and one write with the answers to all requests in it.  @flags: of recv().
 * Returns false when the connection has ended.  *@ret_got: something came.
 */
bool conn_turn(struct conn *c, int flags, bool *ret_got);

#endif /* BENCH_FLOOR_CONN_H */
