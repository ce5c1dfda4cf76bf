/* SPDX-License-Identifier: MIT */
/* The buddy allocator against a bitmap. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slab/buffer_pool.h"

#define PAGES 256u

static void
init__refuses_bad_sizes(void **state)
{
	struct buffer_pool p;

	(void)state;
	assert_int_equal(buffer_pool_init(&p, 0), -EINVAL);
	assert_int_equal(buffer_pool_init(&p, 33), -EINVAL);
	assert_int_equal(buffer_pool_init(&p, 32), 0);
	assert_int_equal(p.n_free, 32);
	buffer_pool_fini(&p);
}

static void
order__smallest_that_holds(void **state)
{
	static const uint32_t want[][2] = {{1, 0}, {2, 1},  {3, 2},  {4, 2},
					   {5, 3}, {16, 4}, {17, 5}, {32, 5}};

	(void)state;
	for (uint32_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_int_equal(buffer_order(want[i][0]), want[i][1]);
}

static bool
model_has_run(const bool *used, uint32_t order)
{
	const uint32_t n = 1u << order;

	for (uint32_t page = 0; page < PAGES; page += n) {
		uint32_t k = 0;

		while (k < n && !used[page + k])
			k++;
		if (k == n)
			return true;
	}
	return false;
}

static void
random__as_a_bitmap(void **state)
{
	struct buffer_pool p;
	bool used[PAGES] = {false};
	uint32_t order_at[PAGES]; /* order + 1 where a run was given out */
	uint32_t n_free = PAGES;

	(void)state;
	memset(order_at, 0, sizeof(order_at));
	assert_int_equal(buffer_pool_init(&p, PAGES), 0);
	srand(99);
	for (uint32_t step = 0; step < 200000; step++) {
		const uint32_t at = (uint32_t)rand() % PAGES;

		if (order_at[at] != 0) {
			const uint32_t order = order_at[at] - 1;

			buffer_put(&p, at, order);
			order_at[at] = 0;
			memset(used + at, 0, 1u << order);
			n_free += 1u << order;
		} else {
			const uint32_t order = (uint32_t)rand() % BUFFER_ORDERS;
			const bool has_run = model_has_run(used, order);
			const uint32_t page = buffer_get(&p, order);

			assert_int_equal(page != BUFFER_NONE, has_run);
			if (page == BUFFER_NONE)
				continue;
			assert_true(page + (1u << order) <= PAGES && page % (1u << order) == 0);
			for (uint32_t k = 0; k < 1u << order; k++) {
				assert_false(used[page + k]);
				used[page + k] = true;
			}
			order_at[page] = order + 1;
			n_free -= 1u << order;
		}
		assert_int_equal(p.n_free, n_free);
	}
	for (uint32_t page = 0; page < PAGES; page++)
		if (order_at[page] != 0)
			buffer_put(&p, page, order_at[page] - 1);
	for (uint32_t i = 0; i < PAGES / 32; i++) /* all grown together again */
		assert_int_not_equal(buffer_get(&p, BUFFER_ORDERS - 1), BUFFER_NONE);
	assert_int_equal(buffer_get(&p, 0), BUFFER_NONE);
	buffer_pool_fini(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init__refuses_bad_sizes),
		cmocka_unit_test(order__smallest_that_holds),
		cmocka_unit_test(random__as_a_bitmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
