/* SPDX-License-Identifier: MIT */
/*
 * nbd_replies.h - what an NBD server sends, checked byte by byte as far as the bytes
 * themselves say what they are: magic numbers, types, lengths, errors, and that no
 * request is answered twice.  A stream that only its client could understand
 * (EXPORT_NAME's answer, a simple reply to a READ that nobody announced) ends the check.
 */
#ifndef TESTS_FUZZ_NBD_REPLIES_H
#define TESTS_FUZZ_NBD_REPLIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_REPLIES_EXPECTED_MAX 1024u
#define NBD_REPLIES_HEADER_BYTES 20u

enum nbd_replies_phase {
	NBD_REPLIES_GREETING = 1,
	NBD_REPLIES_OPTIONS,
	NBD_REPLIES_TRANSMISSION,
	NBD_REPLIES_UNKNOWN,
};

struct nbd_expected {
	uint64_t cookie;
	uint32_t length_bytes;
	uint16_t command;
	bool is_answered;
};

struct nbd_replies {
	enum nbd_replies_phase phase;
	bool is_structured;
	bool has_raw_requests; /* cookies mean nothing: some were not announced */
	uint8_t header[NBD_REPLIES_HEADER_BYTES];
	uint32_t header_bytes;
	uint64_t skip_bytes;
	uint64_t size_bytes; /* of the export */
	struct nbd_expected expected[NBD_REPLIES_EXPECTED_MAX];
};

/* At the beginning of a connection. */
void nbd_replies_init(struct nbd_replies *r, uint64_t size_bytes);
/* A request with a cookie of its own, which is not 0, is about to be sent. */
void nbd_replies_expect(struct nbd_replies *r, uint64_t cookie, uint16_t command,
			uint32_t length_bytes);
/* The next bytes from the server.  Aborts when they are wrong. */
void nbd_replies_take(struct nbd_replies *r, const uint8_t *bytes, size_t length_bytes);

#endif /* TESTS_FUZZ_NBD_REPLIES_H */
