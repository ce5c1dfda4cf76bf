/* SPDX-License-Identifier: MIT */
/* What a histogram says beside what was put in: exact where it is small, close everywhere else. */
#include "common/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/page.h"
#include "common/rng.h"

static int
set_up(void **state)
{
	*state = calloc(1, sizeof(struct histogram));
	return *state ? 0 : -1;
}

static int
tear_down(void **state)
{
	free(*state);
	return 0;
}

static void
assert_close(uint64_t got, uint64_t want)
{
	const uint64_t room = want / 25 + 16;

	assert_in_range(got, want > room ? want - room : 0, want + room);
}

static void
summary__empty(void **state)
{
	const struct histogram_summary s = histogram_summarize(*state);

	assert_int_equal(s.count, 0);
	assert_int_equal(s.mean_ns, 0);
	assert_int_equal(s.p50_ns, 0);
	assert_int_equal(s.p999_ns, 0);
	assert_int_equal(s.max_ns, 0);
}

/* Every quantile of one value is that value, whatever its size. */
static void
quantile__one_value(void **state)
{
	struct histogram *h = *state;

	for (uint64_t ns = 0; ns < 60 * NSEC_PER_SEC; ns = ns * 5 / 4 + 1) {
		histogram_clear(h);
		histogram_add(h, ns);
		assert_close(histogram_quantile_ns(h, 1), ns);
		assert_close(histogram_quantile_ns(h, 500), ns);
		assert_close(histogram_quantile_ns(h, 1000), ns);
		assert_true(histogram_quantile_ns(h, 1000) <= ns);
		assert_int_equal(h->max_ns, ns);
		assert_int_equal(h->sum_ns, ns);
	}
}

static void
quantile__longer_than_the_last_bucket(void **state)
{
	struct histogram *h = *state;

	histogram_add(h, 100 * NSEC_PER_SEC);
	histogram_add(h, UINT64_MAX / 2);
	assert_int_equal(histogram_quantile_ns(h, 500), UINT64_MAX / 2);
	assert_int_equal(h->max_ns, UINT64_MAX / 2);
	assert_int_equal(h->count, 2);
}

static void
quantile__ranks(void **state)
{
	struct histogram *h = *state;
	struct histogram_summary s;

	for (uint32_t us = 1; us <= 1000; us++)
		histogram_add(h, us * 1000);
	s = histogram_summarize(h);
	assert_int_equal(s.count, 1000);
	assert_int_equal(s.mean_ns, 500500);
	assert_close(s.p50_ns, 500000);
	assert_close(s.p90_ns, 900000);
	assert_close(s.p99_ns, 990000);
	assert_close(s.p999_ns, 999000);
	assert_int_equal(s.max_ns, 1000000);
}

/* One slow one in a thousand is the maximum and not the p99.9; two are both. */
static void
quantile__outliers(void **state)
{
	struct histogram *h = *state;

	for (uint32_t i = 0; i < 999; i++)
		histogram_add(h, 10000);
	histogram_add(h, 50000000);
	assert_close(histogram_quantile_ns(h, 999), 10000);
	assert_close(histogram_quantile_ns(h, 1000), 50000000);
	histogram_add(h, 50000000);
	assert_close(histogram_quantile_ns(h, 999), 50000000);
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Against the sorted values themselves, spread over all powers of two. */
static void
quantile__random(void **state)
{
	static uint64_t values[5000];
	const uint32_t n = sizeof(values) / sizeof(values[0]);
	struct histogram *h = *state;
	struct rng rng = rng_of(7, 0);

	for (uint32_t i = 0; i < n; i++) {
		values[i] = rng_next(&rng) >> (30 + rng_next(&rng) % 30);
		histogram_add(h, values[i]);
	}
	qsort(values, n, sizeof(values[0]), by_size);
	for (uint32_t permille = 1; permille <= 1000; permille++)
		assert_close(histogram_quantile_ns(h, permille),
			     values[(n * permille + 999) / 1000 - 1]);
}

/* They are values like others. */
static void
quantile__zeros(void **state)
{
	struct histogram *h = *state;

	for (uint32_t i = 0; i < 1000; i++)
		histogram_add(h, i < 900 ? 0 : 7000);
	assert_int_equal(h->count, 1000);
	assert_int_equal(histogram_quantile_ns(h, 500), 0);
	assert_int_equal(histogram_quantile_ns(h, 900), 0);
	assert_close(histogram_quantile_ns(h, 901), 7000);
	assert_int_equal(histogram_summarize(h).mean_ns, 700);
}

/* After four billion values of one size: the shape is kept, the number too. */
static void
add__full_bucket(void **state)
{
	struct histogram *h = *state;
	uint32_t i;

	for (i = 0; i < 4; i++)
		histogram_add(h, 1000);
	for (i = 0; i < 4; i++)
		histogram_add(h, 1000000);
	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (h->buckets[i] == 4)
			h->buckets[i] = UINT32_MAX;
	h->zeros = UINT32_MAX;
	h->count = 3 * (uint64_t)UINT32_MAX;
	histogram_add(h, 1000);
	assert_int_equal(h->count, 3 * (uint64_t)UINT32_MAX + 1);
	assert_int_equal(histogram_quantile_ns(h, 332), 0);
	assert_close(histogram_quantile_ns(h, 335), 1000);
	assert_close(histogram_quantile_ns(h, 665), 1000);
	assert_close(histogram_quantile_ns(h, 668), 1000000);
	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		assert_true(h->buckets[i] <= UINT32_MAX / 2 + 1);
}

static void
clear__starts_again(void **state)
{
	struct histogram *h = *state;

	histogram_add(h, 5000);
	histogram_clear(h);
	assert_int_equal(h->count, 0);
	assert_int_equal(h->max_ns, 0);
	histogram_add(h, 100);
	assert_close(histogram_quantile_ns(h, 1000), 100);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(summary__empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quantile__one_value, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quantile__longer_than_the_last_bucket, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(quantile__ranks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quantile__outliers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quantile__random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quantile__zeros, set_up, tear_down),
		cmocka_unit_test_setup_teardown(add__full_bucket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(clear__starts_again, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
