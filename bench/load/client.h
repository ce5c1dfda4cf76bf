/* SPDX-License-Identifier: MIT */
/* client.h - the client's side of the NBD handshake and of its requests. */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include <stdint.h>

#include "wire/nbd_proto.h"

/*
 * Connects to a Unix socket and chooses an export.  No structured replies: every request has
 * one answer of a known length.  Returns the socket, or -1 with a line on stderr.
 */
int client_connect(const char *path, const char *export_name, uint64_t *ret_size_bytes);

/* Writes NBDP_REQUEST_BYTES. */
void client_put_request(uint8_t *out, enum nbdp_cmd command, uint64_t cookie, uint64_t offset_bytes,
			uint32_t length_bytes);

struct client_reply {
	uint32_t magic; /* unchecked */
	uint32_t error;
	uint64_t cookie;
};

/* @in: NBDP_SIMPLE_REPLY_BYTES. */
struct client_reply client_get_reply(const uint8_t *in);

#endif /* BENCH_LOAD_CLIENT_H */
