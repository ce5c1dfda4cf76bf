/* SPDX-License-Identifier: MIT */
/* Pieces cover a request exactly, in order, and have the shapes of backend.h. */
#include "nbd_server/cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void
check_data(uint64_t offset, uint32_t length)
{
	uint64_t at = offset;
	uint64_t end = offset + length;
	uint32_t count = 0;
	uint32_t bytes;

	while (at < end) {
		bytes = nbds_cut_data(at, end - at);
		assert_true(bytes > 0 && bytes <= end - at);
		if (at % PAGE_BYTES || bytes % PAGE_BYTES)
			assert_true(at / PAGE_BYTES == (at + bytes - 1) / PAGE_BYTES);
		else
			assert_true(at / BLOCK_BYTES == (at + bytes - 1) / BLOCK_BYTES);
		at += bytes;
		count++;
	}
	assert_int_equal(nbds_cut_data_count(offset, length), count);
	/* No more than the borders and two broken pages explain. */
	assert_true(count <= length / BLOCK_BYTES + 4);
}

static void
data__edges_of_pages_and_blocks(void **state)
{
	static const uint32_t edges[] = {0, PAGE_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES};
	uint32_t i;
	uint32_t j;
	int d;
	int e;

	(void)state;
	for (i = 0; i < 4; i++)
		for (j = 0; j < 4; j++)
			for (d = -2; d <= 2; d++)
				for (e = -2; e <= 2; e++)
					if ((int64_t)edges[i] + d >= 0 && (int64_t)edges[j] + e > 0)
						check_data((uint64_t)((int64_t)edges[i] + d),
							   (uint32_t)((int64_t)edges[j] + e));
}

/*
 * A defect of the published code: requests of several parts were walked by a count that was not
 * theirs, and ended once for each part.  Here every byte is in one piece, at any alignment.
 */
static void
d9_every_byte_of_a_long_request_is_in_one_piece(void **state)
{
	const uint64_t slab_bytes = 16 * BLOCK_BYTES;
	uint32_t lengths[] = {3 * BLOCK_BYTES, 17 * BLOCK_BYTES + PAGE_BYTES,
			      2 * BLOCK_BYTES + 511};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		for (uint64_t back = 0; back <= 2 * BLOCK_BYTES; back += 512)
			check_data(slab_bytes - back, lengths[i]);
}

static void
data__one_piece_when_it_fits(void **state)
{
	(void)state;
	assert_int_equal(nbds_cut_data(0, PAGE_BYTES), PAGE_BYTES);
	assert_int_equal(nbds_cut_data(BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES);
	assert_int_equal(nbds_cut_data(0, BLOCK_BYTES + 1), BLOCK_BYTES);
	assert_int_equal(nbds_cut_data(5, 10), 10);
	assert_int_equal(nbds_cut_data(0, UINT64_C(1) << 40), BLOCK_BYTES);
}

static void
range__covers_exactly(void **state)
{
	uint64_t offset;
	uint64_t length;

	(void)state;
	for (offset = 0; offset < 3 * PAGE_BYTES; offset += 511)
		for (length = 0; length < 4 * PAGE_BYTES; length += 513) {
			struct nbds_cut_range cut = nbds_cut_range(offset, length);

			assert_true(cut.head_bytes + cut.middle_bytes + cut.tail_bytes == length);
			assert_true(cut.middle_bytes % PAGE_BYTES == 0);
			if (cut.middle_bytes)
				assert_true(cut.middle_offset_bytes % PAGE_BYTES == 0);
			if (cut.head_bytes) {
				assert_true(cut.head_offset_bytes == offset);
				check_data(cut.head_offset_bytes, cut.head_bytes);
				assert_int_equal(nbds_cut_data_count(offset, cut.head_bytes), 1);
			}
			if (cut.tail_bytes) {
				assert_true(cut.tail_offset_bytes + cut.tail_bytes ==
					    offset + length);
				assert_int_equal(
					nbds_cut_data_count(cut.tail_offset_bytes, cut.tail_bytes),
					1);
			}
		}
}

static void
range__whole_device(void **state)
{
	struct nbds_cut_range cut = nbds_cut_range(0, UINT64_C(1) << 44);

	(void)state;
	assert_true(cut.middle_bytes == UINT64_C(1) << 44);
	assert_int_equal(cut.head_bytes, 0);
	assert_int_equal(cut.tail_bytes, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data__edges_of_pages_and_blocks),
		cmocka_unit_test(d9_every_byte_of_a_long_request_is_in_one_piece),
		cmocka_unit_test(data__one_piece_when_it_fits),
		cmocka_unit_test(range__covers_exactly),
		cmocka_unit_test(range__whole_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
