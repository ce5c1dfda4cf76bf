/* SPDX-License-Identifier: MIT */
/* The only user of a cryptographic library: everything else sees 32-byte proofs. */
#include "wire/auth.h"

#include <assert.h>
#include <string.h>

#include <nettle/hmac.h>
#include <nettle/memops.h>

_Static_assert(CTL_PROOF_BYTES == SHA256_DIGEST_SIZE, "a proof is one HMAC-SHA256");

void
auth_proof(const struct auth_psk *psk, enum auth_role role, const void *hello_bytes,
	   size_t hello_length_bytes, const uint8_t daemon_nonce[CTL_NONCE_BYTES],
	   uint8_t ret_proof[CTL_PROOF_BYTES])
{
	const uint8_t who = (uint8_t)role;
	struct hmac_sha256_ctx ctx;

	assert(psk->length_bytes <= AUTH_PSK_BYTES_MAX);
	hmac_sha256_set_key(&ctx, psk->length_bytes, psk->key);
	hmac_sha256_update(&ctx, 1, &who);
	hmac_sha256_update(&ctx, hello_length_bytes, hello_bytes);
	hmac_sha256_update(&ctx, CTL_NONCE_BYTES, daemon_nonce);
	hmac_sha256_digest(&ctx, CTL_PROOF_BYTES, ret_proof);
	explicit_bzero(&ctx, sizeof(ctx));
}

bool
auth_proof_equal(const uint8_t a[CTL_PROOF_BYTES], const uint8_t b[CTL_PROOF_BYTES])
{
	return memeql_sec(a, b, CTL_PROOF_BYTES);
}
