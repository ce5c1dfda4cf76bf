/* SPDX-License-Identifier: MIT */
#include "common/histogram.h"

#include <assert.h>
#include <string.h>

/* A value counts in units of 32 ns: what is measured here does not take less. */
#define UNIT_SHIFT 5u
#define STEP_SHIFT 4u

_Static_assert(1u << STEP_SHIFT == HISTOGRAM_STEPS, "as many steps");

static uint32_t
bucket_of(uint64_t ns)
{
	const uint64_t units = ns >> UNIT_SHIFT;
	uint32_t shift, bucket;

	if (units < HISTOGRAM_STEPS)
		return (uint32_t)units;
	/* The leading bit is the power of two, the STEP_SHIFT bits behind it the step. */
	shift = 63u - (uint32_t)__builtin_clzll(units) - STEP_SHIFT;
	if (shift >= HISTOGRAM_OCTAVES)
		return HISTOGRAM_BUCKETS - 1;
	bucket = (shift << STEP_SHIFT) + (uint32_t)(units >> shift);
	return bucket;
}

/* The smallest value of @bucket. */
static uint64_t
least_ns(uint32_t bucket)
{
	const uint32_t shift = bucket < HISTOGRAM_STEPS ? 0 : (bucket >> STEP_SHIFT) - 1;
	const uint64_t units = bucket - ((uint64_t)shift << STEP_SHIFT);

	return units << (shift + UNIT_SHIFT);
}

static void
halve(struct histogram *h)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] /= 2;
	h->zeros /= 2;
}

void
histogram_add_time(struct histogram *h, uint64_t ns)
{
	uint32_t *bucket = &h->buckets[bucket_of(ns)];

	if (*bucket == UINT32_MAX)
		halve(h);
	(*bucket)++;
	h->sum_ns += ns;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

uint64_t
histogram_quantile_ns(const struct histogram *h, uint32_t permille)
{
	uint64_t total = h->zeros, rank, seen = h->zeros, middle_ns;
	uint32_t i;

	assert(permille >= 1 && permille <= 1000);
	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		total += h->buckets[i];
	if (total == 0)
		return 0;
	rank = (total * permille + 999) / 1000;
	if (rank <= h->zeros)
		return 0;
	for (i = 0; seen + h->buckets[i] < rank; i++)
		seen += h->buckets[i];
	if (i == HISTOGRAM_BUCKETS - 1)
		return h->max_ns;
	middle_ns = (least_ns(i) + least_ns(i + 1)) / 2;
	return middle_ns < h->max_ns ? middle_ns : h->max_ns;
}

struct histogram_summary
histogram_summarize(const struct histogram *h)
{
	return (struct histogram_summary){
		.count = h->count,
		.mean_ns = h->count > 0 ? h->sum_ns / h->count : 0,
		.p50_ns = histogram_quantile_ns(h, 500),
		.p90_ns = histogram_quantile_ns(h, 900),
		.p99_ns = histogram_quantile_ns(h, 990),
		.p999_ns = histogram_quantile_ns(h, 999),
		.max_ns = h->max_ns,
	};
}

void
histogram_clear(struct histogram *h)
{
	if (h->count > 0)
		memset(h, 0, sizeof(*h));
}
