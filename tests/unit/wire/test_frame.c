/* SPDX-License-Identifier: MIT */
/* Frame headers are judged before a byte of payload is: each field, each limit, each kind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/bytes.h"
#include "wire/frame.h"

static const struct frame samples[] = {
	{.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION},
	{.kind = FRAME_MESSAGE, .length_bytes = 300},
	{.kind = FRAME_READ, .op_id = 1, .rkey = 2, .addr = UINT64_MAX, .length_bytes = 4096},
	{.kind = FRAME_READ_DONE, .op_id = UINT32_MAX, .length_bytes = 4096},
	{.kind = FRAME_READ_DONE, .op_id = 3, .status = FRAME_STATUS_ACCESS},
	{.kind = FRAME_WRITE, .op_id = 1, .rkey = 2, .addr = 3, .length_bytes = 128 * 1024},
	{.kind = FRAME_WRITE_DONE, .op_id = 9},
	{.kind = FRAME_WRITE_DONE, .op_id = 9, .status = 77},
};
#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

/* From a heap block of the exact size, so that ASan sees an over-read. */
static int
decode(const uint8_t *bytes, struct frame *ret)
{
	uint8_t *copy = malloc(FRAME_HEADER_BYTES);
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, FRAME_HEADER_BYTES);
	r = frame_decode(copy, ret);
	free(copy);
	return r;
}

static void
assert_refused(const uint8_t *bytes)
{
	struct frame before, after;

	memset(&before, 0x5a, sizeof(before));
	memcpy(&after, &before, sizeof(after));
	assert_int_equal(decode(bytes, &after), -EPROTO);
	assert_memory_equal(&before, &after, sizeof(after));
}

static void
assert_frame_equal(const struct frame *a, const struct frame *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->status, b->status);
	assert_int_equal(a->op_id, b->op_id);
	assert_int_equal(a->rkey, b->rkey);
	assert_true(a->addr == b->addr);
	assert_int_equal(a->length_bytes, b->length_bytes);
}

static void
round_trip__every_kind(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < SAMPLES; i++) {
		uint8_t buf[FRAME_HEADER_BYTES];
		struct frame out;

		frame_encode(&samples[i], buf);
		assert_int_equal(decode(buf, &out), 0);
		assert_frame_equal(&samples[i], &out);
	}
}

static void
encode__bytes_are_as_documented(void **state)
{
	static const char expected[FRAME_HEADER_BYTES] =
		"SSWT\3\0\0\0\4\3\2\1\10\7\6\5\20\17\16\15\14\13\12\11\0\20\0\0\0\0\0";
	const struct frame frame = {.kind = FRAME_READ,
				    .op_id = 0x01020304,
				    .rkey = 0x05060708,
				    .addr = UINT64_C(0x090a0b0c0d0e0f10),
				    .length_bytes = 4096};
	uint8_t buf[FRAME_HEADER_BYTES];

	(void)state;
	frame_encode(&frame, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
}

/* Whether the kind of @f gives a meaning to header byte @at, magic and kind aside. */
static bool
is_used(const struct frame *f, size_t at)
{
	bool is_request = f->kind == FRAME_READ || f->kind == FRAME_WRITE;
	bool is_answer = f->kind == FRAME_READ_DONE || f->kind == FRAME_WRITE_DONE;

	if (at < 6)
		return false;
	if (at < 8)
		return is_answer;
	if (at < 12)
		return f->kind != FRAME_MESSAGE;
	if (at < 24)
		return is_request;
	if (at < 28)
		return f->kind == FRAME_MESSAGE || is_request ||
		       (f->kind == FRAME_READ_DONE && !f->status);
	return false;
}

static void
decode__every_flipped_byte(void **state)
{
	size_t i, at;
	unsigned flip;

	(void)state;
	for (i = 0; i < SAMPLES; i++) {
		for (at = 0; at < FRAME_HEADER_BYTES; at++) {
			for (flip = 1; flip < 256; flip++) {
				uint8_t buf[FRAME_HEADER_BYTES], again[FRAME_HEADER_BYTES];
				struct frame out;

				frame_encode(&samples[i], buf);
				buf[at] ^= (uint8_t)flip;
				/* Another kind, or a status where a length is: judged below. */
				if (!is_used(&samples[i], at) && at != 4) {
					assert_refused(buf);
				} else if (decode(buf, &out) == 0) {
					frame_encode(&out, again);
					assert_memory_equal(buf, again, sizeof(buf));
				} else {
					assert_refused(buf);
				}
			}
		}
	}
}

static void
check_length(const struct frame *f, uint32_t length, bool is_valid)
{
	struct frame frame = *f, out;
	uint8_t buf[FRAME_HEADER_BYTES];

	frame.length_bytes = length;
	frame_encode(&frame, buf);
	if (is_valid)
		assert_int_equal(decode(buf, &out), 0);
	else
		assert_refused(buf);
}

static void
decode__length_limits(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < SAMPLES; i++) {
		const struct frame *f = &samples[i];
		uint32_t max = f->length_bytes == 0	  ? 0
			       : f->kind == FRAME_MESSAGE ? FRAME_MESSAGE_BYTES_MAX
							  : FRAME_OP_BYTES_MAX;

		check_length(f, 0, max == 0);
		check_length(f, 1, max >= 1);
		check_length(f, max, true);
		check_length(f, max + 1, false);
		check_length(f, UINT32_MAX, false);
	}
}

static void
decode__unknown_kinds(void **state)
{
	uint32_t kind;

	(void)state;
	for (kind = 0; kind <= UINT16_MAX; kind++) {
		uint8_t buf[FRAME_HEADER_BYTES];

		if (kind >= FRAME_PREAMBLE && kind <= FRAME_WRITE_DONE)
			continue;
		frame_encode(&samples[1], buf);
		put_le16(buf + 4, (uint16_t)kind);
		assert_refused(buf);
	}
}

static void
decode__preamble_of_any_version(void **state)
{
	struct frame frame = samples[0], out;
	uint8_t buf[FRAME_HEADER_BYTES];

	(void)state;
	frame.op_id = 0xfffffffe;
	frame_encode(&frame, buf);
	assert_int_equal(decode(buf, &out), 0);
	assert_int_equal(out.op_id, 0xfffffffe);
}

static void
names(void **state)
{
	(void)state;
	assert_string_equal(frame_kind_name(FRAME_READ_DONE), "READ_DONE");
	assert_string_equal(frame_kind_name(FRAME_PREAMBLE), "PREAMBLE");
	assert_string_equal(frame_kind_name((enum frame_kind)0), "?");
	assert_string_equal(frame_kind_name((enum frame_kind)7), "?");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip__every_kind),
		cmocka_unit_test(encode__bytes_are_as_documented),
		cmocka_unit_test(decode__every_flipped_byte),
		cmocka_unit_test(decode__length_limits),
		cmocka_unit_test(decode__unknown_kinds),
		cmocka_unit_test(decode__preamble_of_any_version),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
