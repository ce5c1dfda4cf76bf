/* SPDX-License-Identifier: MIT */
#include "latency.h"

#define SUB (UINT64_C(1) << LATENCY_SUB_BITS)

/* Values below SUB have a bucket each; above, the leading bits behind the first one choose it. */
static uint32_t
bucket_of(uint64_t ns)
{
	uint32_t shift;

	if (ns < SUB)
		return (uint32_t)ns;
	shift = 63u - (uint32_t)__builtin_clzll(ns) - LATENCY_SUB_BITS;
	return (uint32_t)((uint64_t)shift * SUB + (ns >> shift));
}

/* The largest value in it. */
static uint64_t
bucket_end_ns(uint32_t bucket)
{
	uint32_t shift;

	if (bucket < 2 * SUB)
		return bucket;
	shift = bucket / (uint32_t)SUB - 1;
	return ((bucket % SUB + SUB + 1) << shift) - 1;
}

void
latency_add(struct latency *l, uint64_t ns)
{
	const uint32_t bucket = bucket_of(ns);

	l->count++;
	l->sum_ns += ns;
	if (ns > l->max_ns)
		l->max_ns = ns;
	l->buckets[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1]++;
}

uint64_t
latency_quantile_ns(const struct latency *l, double share)
{
	const double wanted = share * (double)l->count;
	uint64_t seen = 0;

	for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->buckets[i];
		if (seen > 0 && (double)seen >= wanted) {
			const uint64_t end_ns = bucket_end_ns(i);

			return end_ns < l->max_ns ? end_ns : l->max_ns;
		}
	}
	return l->max_ns;
}

uint64_t
latency_mean_ns(const struct latency *l)
{
	return l->count > 0 ? l->sum_ns / l->count : 0;
}
