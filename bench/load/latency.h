/* SPDX-License-Identifier: MIT */
/*
 * latency.h - how long operations took: 64 buckets for each power of two, so a quantile is
 * at most 1.6 % too high.
 */
#ifndef BENCH_LOAD_LATENCY_H
#define BENCH_LOAD_LATENCY_H

#include <stdint.h>

#define LATENCY_SUB_BITS 6
/* Up to 2^40 ns, 18 minutes. */
#define LATENCY_BUCKETS ((40 - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS)

struct latency {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *l, uint64_t ns);
/* @share: 0 to 1.  0 when there are none. */
uint64_t latency_quantile_ns(const struct latency *l, double share);
uint64_t latency_mean_ns(const struct latency *l);

#endif /* BENCH_LOAD_LATENCY_H */
