/* SPDX-License-Identifier: MIT */
/*
 * auth.h - proofs of the pre-shared key (HMAC-SHA256), both directions.
 *
 * proof(who) = HMAC-SHA256(psk, who || HELLO bytes as sent, header included || daemon nonce)
 * with who the single byte 'D' or 'C'.  Pure.
 */
#ifndef WIRE_AUTH_H
#define WIRE_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/ctl.h"

#define AUTH_PSK_BYTES_MIN 16u
#define AUTH_PSK_BYTES_MAX 256u

struct auth_psk {
	uint8_t key[AUTH_PSK_BYTES_MAX];
	size_t length_bytes; /* 0: no psk is configured */
};

enum auth_role {
	AUTH_DAEMON = 'D',
	AUTH_CLIENT = 'C',
};

void auth_proof(const struct auth_psk *psk, enum auth_role role, const void *hello_bytes,
		size_t hello_length_bytes, const uint8_t daemon_nonce[CTL_NONCE_BYTES],
		uint8_t ret_proof[CTL_PROOF_BYTES]);

/* Constant time. */
bool auth_proof_equal(const uint8_t a[CTL_PROOF_BYTES], const uint8_t b[CTL_PROOF_BYTES]);

#endif /* WIRE_AUTH_H */
