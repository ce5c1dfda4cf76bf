/* SPDX-License-Identifier: MIT */
/* Bytes as doc/proto.md has them, and lengths that lie (CVE-2022-26495, CVE-2022-26496). */
#include "wire/nbd_proto.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A heap copy without slack, so that a sanitizer sees any byte read behind it. */
static int
info_of(const void *bytes, size_t length, struct nbdp_info_request *ret)
{
	uint8_t *copy = malloc(length ? length : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	r = nbdp_get_info_request(copy, length, ret);
	free(copy);
	return r;
}

static int
meta_of(const void *bytes, size_t length, struct nbdp_meta_request *ret)
{
	uint8_t *copy = malloc(length ? length : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	r = nbdp_get_meta_request(copy, length, ret);
	free(copy);
	return r;
}

static void
greeting__bytes(void **state)
{
	uint8_t out[NBDP_GREETING_BYTES];

	(void)state;
	assert_int_equal(nbdp_put_greeting(out), sizeof(out));
	assert_memory_equal(out, "NBDMAGICIHAVEOPT\0\3", sizeof(out));
}

static void
option__magic(void **state)
{
	struct nbdp_option option = {0};

	(void)state;
	assert_int_equal(
		nbdp_get_option((const uint8_t *)"IHAVEOPT\0\0\0\7\377\377\377\377", &option), 0);
	assert_int_equal(option.option, NBDP_OPT_GO);
	assert_true(option.length_bytes == UINT32_MAX);
	assert_int_equal(nbdp_get_option((const uint8_t *)"IHAVEOPS\0\0\0\7\0\0\0\0", &option),
			 -EPROTO);
}

static void
option_reply__bytes(void **state)
{
	uint8_t out[NBDP_OPTION_REPLY_BYTES];

	(void)state;
	assert_int_equal(nbdp_put_option_reply(out, NBDP_OPT_GO, NBDP_REP_ERR_UNSUP, 5),
			 sizeof(out));
	assert_memory_equal(out, "\0\3\350\211\4\125\145\251\0\0\0\7\200\0\0\1\0\0\0\5",
			    sizeof(out));
}

static void
info_request__good(void **state)
{
	static const uint8_t bytes[] = "\0\0\0\3abc\0\2\0\1\0\3";
	struct nbdp_info_request request;

	(void)state;
	assert_int_equal(nbdp_get_info_request(bytes, sizeof(bytes) - 1, &request), 0);
	assert_int_equal(request.name_bytes, 3);
	assert_memory_equal(request.name, "abc", 3);
	assert_int_equal(request.infos, 2);
	assert_int_equal(nbdp_info_at(&request, 0), NBDP_INFO_NAME);
	assert_int_equal(nbdp_info_at(&request, 1), NBDP_INFO_BLOCK_SIZE);
}

static void
info_request__every_truncation(void **state)
{
	static const uint8_t bytes[] = "\0\0\0\3abc\0\2\0\1\0\3";
	struct nbdp_info_request request;
	size_t length;

	(void)state;
	for (length = 0; length < sizeof(bytes) - 1; length++)
		assert_int_equal(info_of(bytes, length, &request), -EINVAL);
	assert_int_equal(info_of(bytes, sizeof(bytes), &request), -EINVAL);
}

static void
info_request__lengths_that_lie(void **state)
{
	uint8_t longest[4 + NBDP_STRING_BYTES_MAX + 1 + 2] = {0, 0, 16, 1};
	struct nbdp_info_request request;

	(void)state;
	assert_int_equal(info_of("\377\377\377\377\0\0", 6, &request), -EINVAL);
	assert_int_equal(info_of("\377\377\377\376\0\0", 6, &request), -EINVAL);
	assert_int_equal(info_of("\0\0\0\0\377\377", 6, &request), -EINVAL);
	assert_int_equal(info_of("\0\0\0\2ab", 6, &request), -EINVAL);
	assert_int_equal(info_of(longest, sizeof(longest), &request), -E2BIG);
	longest[3] = 0;
	assert_int_equal(info_of(longest, sizeof(longest) - 1, &request), 0);
}

static void
meta_request__good(void **state)
{
	static const uint8_t bytes[] = "\0\0\0\1x\0\0\0\2\0\0\0\0\0\0\0\5base:";
	struct nbdp_meta_request request;
	const char *query;
	uint32_t query_bytes;
	size_t length;

	(void)state;
	assert_int_equal(nbdp_get_meta_request(bytes, sizeof(bytes) - 1, &request), 0);
	assert_int_equal(request.queries, 2);
	assert_true(nbdp_meta_next(&request, &query, &query_bytes));
	assert_int_equal(query_bytes, 0);
	assert_true(nbdp_meta_next(&request, &query, &query_bytes));
	assert_int_equal(query_bytes, 5);
	assert_memory_equal(query, "base:", 5);
	assert_false(nbdp_meta_next(&request, &query, &query_bytes));
	for (length = 0; length < sizeof(bytes) - 1; length++)
		assert_int_equal(meta_of(bytes, length, &request), -EINVAL);
	assert_int_equal(meta_of(bytes, sizeof(bytes), &request), -EINVAL);
}

static void
meta_request__lengths_that_lie(void **state)
{
	struct nbdp_meta_request request;

	(void)state;
	assert_int_equal(meta_of("\0\0\0\0\377\377\377\377", 8, &request), -EINVAL);
	assert_int_equal(meta_of("\0\0\0\0\0\0\0\1\377\377\377\377", 12, &request), -EINVAL);
	assert_int_equal(meta_of("\0\0\0\0\0\0\0\1\377\377\377\374", 12, &request), -EINVAL);
	assert_int_equal(meta_of("\0\0\0\0\100\0\0\0\0\0\0\0", 12, &request), -EINVAL);
	assert_int_equal(meta_of("\0\0\0\0\0\0\0\0x", 9, &request), -EINVAL);
}

static void
export_reply__with_and_without_zeroes(void **state)
{
	uint8_t out[NBDP_EXPORT_REPLY_BYTES_MAX];
	static const uint8_t zeroes[124];

	(void)state;
	memset(out, 0xff, sizeof(out));
	assert_int_equal(nbdp_put_export_reply(out, 0x1000, 0x0d6d, true), 10);
	assert_memory_equal(out, "\0\0\0\0\0\0\20\0\15\155\377", 11);
	assert_int_equal(nbdp_put_export_reply(out, 0x1000, 0x0d6d, false), 134);
	assert_memory_equal(out + 10, zeroes, sizeof(zeroes));
}

static void
infos__bytes(void **state)
{
	uint8_t out[NBDP_INFO_BYTES_MAX];

	(void)state;
	assert_int_equal(nbdp_put_info_export(out, 1, 2), 12);
	assert_memory_equal(out, "\0\0\0\0\0\0\0\0\0\1\0\2", 12);
	assert_int_equal(nbdp_put_info_block_size(out, 1, 2, 3), 14);
	assert_memory_equal(out, "\0\3\0\0\0\1\0\0\0\2\0\0\0\3", 14);
	assert_int_equal(nbdp_put_info_text(out, NBDP_INFO_DESCRIPTION), 2);
	assert_memory_equal(out, "\0\2", 2);
}

static void
request__fields(void **state)
{
	static const uint8_t bytes[] =
		"\45\140\225\23\0\1\0\6cookie!!\1\2\3\4\5\6\7\10\11\12\13\14";
	uint8_t wrong[NBDP_REQUEST_BYTES];
	struct nbdp_request request;

	(void)state;
	assert_int_equal(sizeof(bytes) - 1, NBDP_REQUEST_BYTES);
	assert_int_equal(nbdp_get_request(bytes, &request), 0);
	assert_int_equal(request.flags, NBDP_CMD_FLAG_FUA);
	assert_int_equal(request.command, NBDP_CMD_WRITE_ZEROES);
	assert_true(request.cookie == UINT64_C(0x636f6f6b69652121));
	assert_true(request.offset_bytes == UINT64_C(0x0102030405060708));
	assert_int_equal(request.length_bytes, 0x090a0b0c);
	memcpy(wrong, bytes, sizeof(wrong));
	wrong[3] ^= 1;
	assert_int_equal(nbdp_get_request(wrong, &request), -EPROTO);
}

static void
replies__bytes(void **state)
{
	uint8_t out[64];

	(void)state;
	assert_int_equal(nbdp_put_simple_reply(out, NBDP_ENOSPC, 7), NBDP_SIMPLE_REPLY_BYTES);
	assert_memory_equal(out, "\147\104\146\230\0\0\0\34\0\0\0\0\0\0\0\7", 16);
	assert_int_equal(nbdp_put_data_chunk(out, NBDP_CHUNK_FLAG_DONE, 7, 9, 4096), 28);
	assert_memory_equal(
		out, "\146\216\63\357\0\1\0\1\0\0\0\0\0\0\0\7\0\0\20\10\0\0\0\0\0\0\0\11", 28);
	assert_int_equal(nbdp_put_error_chunk(out, 7, NBDP_EIO), 26);
	assert_memory_equal(out, "\146\216\63\357\0\1\200\1\0\0\0\0\0\0\0\7\0\0\0\6\0\0\0\5\0\0",
			    26);
	assert_int_equal(nbdp_put_extent(out, 4096, NBDP_STATE_HOLE | NBDP_STATE_ZERO), 8);
	assert_memory_equal(out, "\0\0\20\0\0\0\0\3", 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting__bytes),
		cmocka_unit_test(option__magic),
		cmocka_unit_test(option_reply__bytes),
		cmocka_unit_test(info_request__good),
		cmocka_unit_test(info_request__every_truncation),
		cmocka_unit_test(info_request__lengths_that_lie),
		cmocka_unit_test(meta_request__good),
		cmocka_unit_test(meta_request__lengths_that_lie),
		cmocka_unit_test(export_reply__with_and_without_zeroes),
		cmocka_unit_test(infos__bytes),
		cmocka_unit_test(request__fields),
		cmocka_unit_test(replies__bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
