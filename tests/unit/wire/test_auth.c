/* SPDX-License-Identifier: MIT */
/* Expected proofs were computed with Python's hmac module. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/auth.h"

#define HELLO_BYTES 128

static struct auth_psk psk;
static uint8_t hello[HELLO_BYTES];
static uint8_t nonce[CTL_NONCE_BYTES];

static int
setup(void **state)
{
	size_t i;

	(void)state;
	psk.length_bytes = 32;
	for (i = 0; i < 32; i++)
		psk.key[i] = (uint8_t)(i + 1);
	for (i = 0; i < sizeof(hello); i++)
		hello[i] = (uint8_t)(i * 7);
	for (i = 0; i < sizeof(nonce); i++)
		nonce[i] = (uint8_t)(0xf0 + i);
	return 0;
}

static void
proof__is_hmac_of_role_hello_nonce(void **state)
{
	static const uint8_t want_d[CTL_PROOF_BYTES] =
		"\xf7\xbc\x38\x31\x5f\xa2\x9d\x77\xa5\xc0\x23\xcd\x0c\x2c\x7e\x77"
		"\xab\xe1\x11\x7d\x7f\xce\x90\x6e\x0d\x58\x83\x2d\x72\xc5\x9b\x55";
	static const uint8_t want_c[CTL_PROOF_BYTES] =
		"\xd9\xd7\xd0\x51\xca\x2b\xed\x14\x47\xbc\x8e\xf4\x52\x9b\x4e\x66"
		"\x34\xf3\x13\xa3\xb8\x9f\x07\x82\xd3\xb6\x95\x7a\x04\x43\xa2\x71";
	uint8_t proof[CTL_PROOF_BYTES];

	(void)state;
	auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
	assert_memory_equal(proof, want_d, sizeof(proof));
	auth_proof(&psk, AUTH_CLIENT, hello, sizeof(hello), nonce, proof);
	assert_memory_equal(proof, want_c, sizeof(proof));
}

static void
proof__changes_with_every_input_byte(void **state)
{
	uint8_t first[CTL_PROOF_BYTES], proof[CTL_PROOF_BYTES];
	size_t i;

	(void)state;
	auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, first);
	for (i = 0; i < sizeof(hello); i++) {
		hello[i] ^= 1;
		auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
		assert_false(auth_proof_equal(first, proof));
		hello[i] ^= 1;
	}
	for (i = 0; i < sizeof(nonce); i++) {
		nonce[i] ^= 0x80;
		auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
		assert_false(auth_proof_equal(first, proof));
		nonce[i] ^= 0x80;
	}
	for (i = 0; i < psk.length_bytes; i++) {
		psk.key[i] ^= 4;
		auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
		assert_false(auth_proof_equal(first, proof));
		psk.key[i] ^= 4;
	}
	psk.length_bytes--;
	auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
	assert_false(auth_proof_equal(first, proof));
	psk.length_bytes++;
	auth_proof(&psk, AUTH_DAEMON, hello, sizeof(hello), nonce, proof);
	assert_true(auth_proof_equal(first, proof));
}

static void
proof__key_of_maximum_length(void **state)
{
	uint8_t a[CTL_PROOF_BYTES], b[CTL_PROOF_BYTES];

	(void)state;
	memset(psk.key, 0x77, sizeof(psk.key));
	psk.length_bytes = AUTH_PSK_BYTES_MAX;
	auth_proof(&psk, AUTH_CLIENT, hello, sizeof(hello), nonce, a);
	psk.key[AUTH_PSK_BYTES_MAX - 1] ^= 1;
	auth_proof(&psk, AUTH_CLIENT, hello, sizeof(hello), nonce, b);
	assert_false(auth_proof_equal(a, b));
}

static void
proof_equal__each_bit_counts(void **state)
{
	uint8_t a[CTL_PROOF_BYTES] = {0}, b[CTL_PROOF_BYTES] = {0};
	unsigned bit;

	(void)state;
	assert_true(auth_proof_equal(a, b));
	for (bit = 0; bit < CTL_PROOF_BYTES * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(auth_proof_equal(a, b));
		b[bit / 8] = 0;
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(proof__is_hmac_of_role_hello_nonce, setup),
		cmocka_unit_test_setup(proof__changes_with_every_input_byte, setup),
		cmocka_unit_test_setup(proof__key_of_maximum_length, setup),
		cmocka_unit_test_setup(proof_equal__each_bit_counts, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
