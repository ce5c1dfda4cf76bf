/* SPDX-License-Identifier: MIT */
/* The parts of the arena: bounds, order, no overlap, what they cost. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "slab/arena.h"
#include "slab/device.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void
layout__refuses_bad_sizes(void **state)
{
	static const uint64_t bad[][3] = {
		{0, MIB, 4 * MIB},		   /* nothing */
		{3 * MIB / 2, MIB, 4 * MIB},	   /* not a multiple */
		{GIB, 3 * MIB, 4 * MIB},	   /* slab not a power of two */
		{GIB, MIB / 2, 4 * MIB},	   /* slab too small */
		{4 * GIB, 2 * GIB, 4 * MIB},	   /* slab too large */
		{GIB, MIB, 2 * MIB},		   /* too few buffers */
		{GIB, MIB, 4 * MIB + 4096},	   /* buffers not whole blocks */
		{GIB, 0, 4 * MIB},		   /* no slab size */
		{UINT64_C(1) << 60, GIB, 4 * MIB}, /* more blocks than an index holds */
		{GIB, MIB, UINT64_C(1) << 60},	   /* more buffers than an index holds */
	};
	struct arena a;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(arena_layout(&a, NULL, bad[i][0], bad[i][1], bad[i][2]), -EINVAL);
}

static void
layout__parts_follow_each_other(void **state)
{
	static uint8_t base[1]; /* only its address is used */
	struct arena a;

	(void)state;
	assert_int_equal(arena_layout(&a, base, 64 * MIB, MIB, 4 * MIB), 0);
	assert_int_equal(a.n_slabs, 64);
	assert_int_equal(a.n_blocks, 512);
	assert_int_equal(a.slab_blocks, 8);
	assert_int_equal(a.n_buffer_pages, 1024);
	assert_ptr_equal(a.header, base);
	assert_true((uintptr_t)a.slabs >= (uintptr_t)(a.header + 1));
	assert_true((uintptr_t)a.blocks >= (uintptr_t)(a.slabs + a.n_slabs));
	assert_true((uintptr_t)a.writes >= (uintptr_t)(a.blocks + a.n_blocks));
	assert_true((uintptr_t)a.buffers >= (uintptr_t)(a.writes + a.n_buffer_pages));
	assert_int_equal(((uintptr_t)a.buffers - (uintptr_t)base) % PAGE_BYTES, 0);
	assert_int_equal((uintptr_t)a.buffers - (uintptr_t)base + 4 * MIB, a.total_bytes);
	assert_int_equal(arena_slab_of_block(&a, 7), 0);
	assert_int_equal(arena_slab_of_block(&a, 8), 1);
}

static void
layout__metadata_within_64_kib_per_gib(void **state)
{
	void *nowhere = (void *)(uintptr_t)PAGE_BYTES; /* places are computed, not touched */
	struct arena a;

	(void)state;
	assert_int_equal(arena_layout(&a, nowhere, 64 * GIB, 64 * MIB, 64 * MIB), 0);
	/* The page map itself is exactly that; the slab table is a few bytes per slab. */
	assert_true((uintptr_t)a.writes - (uintptr_t)a.blocks <= 64 * 64 * 1024);
	assert_int_equal(sizeof(struct arena_slab), 32);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout__refuses_bad_sizes),
		cmocka_unit_test(layout__parts_follow_each_other),
		cmocka_unit_test(layout__metadata_within_64_kib_per_gib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
