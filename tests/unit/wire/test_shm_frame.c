/* SPDX-License-Identifier: MIT */
/* Packets are judged before anything of them is used: each field, each limit, each kind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/shm_frame.h"

static const struct {
	struct shm_frame frame;
	uint32_t n_fds;
} samples[] = {
	{{.kind = SHM_FRAME_PREAMBLE, .value = SHM_FRAME_VERSION}, 0},
	{{.kind = SHM_FRAME_MESSAGE, .payload_bytes = 1}, 0},
	{{.kind = SHM_FRAME_MESSAGE, .payload_bytes = SHM_FRAME_MESSAGE_BYTES_MAX}, 0},
	{{.kind = SHM_FRAME_GRANT, .rkey = 0, .value = 4096}, 1},
	{{.kind = SHM_FRAME_GRANT, .rkey = UINT32_MAX, .value = UINT64_MAX}, 1},
	{{.kind = SHM_FRAME_REVOKE, .rkey = 65537}, 0},
	{{.kind = SHM_FRAME_REVOKED, .rkey = 65537}, 0},
	{{.kind = SHM_FRAME_BYE}, 0},
};
#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

/* From a heap block of the exact size, so that ASan sees an over-read. */
static int
decode(const uint8_t *bytes, size_t length, uint32_t n_fds, struct shm_frame *ret)
{
	uint8_t *copy = malloc(length ? length : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	r = shm_frame_decode(copy, length, n_fds, ret);
	if (r == 0)
		assert_ptr_equal(ret->payload, copy + SHM_FRAME_HEADER_BYTES);
	free(copy);
	return r;
}

static size_t
encode(size_t sample, uint8_t *bytes)
{
	memset(bytes, 0x5a, SHM_FRAME_BYTES_MAX + 1);
	shm_frame_encode(&samples[sample].frame, bytes);
	return SHM_FRAME_HEADER_BYTES + samples[sample].frame.payload_bytes;
}

static void
decode__what_was_encoded(void **state)
{
	uint8_t bytes[SHM_FRAME_BYTES_MAX + 1];

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const struct shm_frame *f = &samples[i].frame;
		const size_t length = encode(i, bytes);
		struct shm_frame got;

		assert_int_equal(decode(bytes, length, samples[i].n_fds, &got), 0);
		assert_int_equal(got.kind, f->kind);
		assert_int_equal(got.rkey, f->rkey);
		assert_true(got.value == f->value);
		assert_int_equal(got.payload_bytes, f->payload_bytes);
	}
}

static void
decode__lengths(void **state)
{
	uint8_t bytes[SHM_FRAME_BYTES_MAX + 1];

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const bool is_message = samples[i].frame.kind == SHM_FRAME_MESSAGE;

		(void)encode(i, bytes);
		for (size_t length = 0; length <= SHM_FRAME_BYTES_MAX + 1; length++) {
			struct shm_frame got;
			const bool is_good = is_message ? length > SHM_FRAME_HEADER_BYTES &&
								  length <= SHM_FRAME_BYTES_MAX
							: length == SHM_FRAME_HEADER_BYTES;

			assert_int_equal(decode(bytes, length, samples[i].n_fds, &got),
					 is_good ? 0 : -EPROTO);
		}
	}
}

static void
decode__descriptors(void **state)
{
	uint8_t bytes[SHM_FRAME_BYTES_MAX + 1];
	struct shm_frame got;

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const size_t length = encode(i, bytes);

		for (uint32_t n = 0; n < 5; n++)
			assert_int_equal(decode(bytes, length, n, &got),
					 n == samples[i].n_fds ? 0 : -EPROTO);
	}
}

/* Each bit of each header: a field that the kind uses may change, no other. */
static void
decode__each_bit(void **state)
{
	uint8_t bytes[SHM_FRAME_BYTES_MAX + 1];

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
		const enum shm_frame_kind kind = samples[i].frame.kind;
		const size_t length = encode(i, bytes);

		for (unsigned bit = 0; bit < SHM_FRAME_HEADER_BYTES * 8; bit++) {
			const unsigned at = bit / 8;
			struct shm_frame got;
			bool may_be_good = at == 4; /* another kind that fits */

			if (at >= 8 && at < 12)
				may_be_good = kind >= SHM_FRAME_GRANT && kind != SHM_FRAME_BYE;
			if (at >= 16)
				may_be_good = kind == SHM_FRAME_PREAMBLE || kind == SHM_FRAME_GRANT;
			bytes[at] ^= (uint8_t)(1u << bit % 8);
			if (!may_be_good)
				assert_int_equal(decode(bytes, length, samples[i].n_fds, &got),
						 -EPROTO);
			else
				(void)decode(bytes, length, samples[i].n_fds, &got);
			bytes[at] ^= (uint8_t)(1u << bit % 8);
		}
	}
}

static void
decode__zero_lengths_and_versions(void **state)
{
	const struct shm_frame grant = {.kind = SHM_FRAME_GRANT, .rkey = 1};
	const struct shm_frame preamble = {.kind = SHM_FRAME_PREAMBLE};
	uint8_t bytes[SHM_FRAME_HEADER_BYTES];
	struct shm_frame got;

	(void)state;
	shm_frame_encode(&grant, bytes);
	assert_int_equal(decode(bytes, sizeof(bytes), 1, &got), -EPROTO);
	shm_frame_encode(&preamble, bytes);
	assert_int_equal(decode(bytes, sizeof(bytes), 0, &got), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decode__what_was_encoded),
		cmocka_unit_test(decode__lengths),
		cmocka_unit_test(decode__descriptors),
		cmocka_unit_test(decode__each_bit),
		cmocka_unit_test(decode__zero_lengths_and_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
