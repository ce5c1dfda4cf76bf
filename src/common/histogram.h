/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - how long something took, as counts in buckets.
 *
 * Fixed memory, no allocation, a few instructions per value: always on.  Buckets are
 * HISTOGRAM_STEPS to a power of two, so a quantile is within 4 % of the true one over the
 * whole range from half a microsecond (16 ns below that) to about a minute, and longer times count as that.
 */
#ifndef COMMON_HISTOGRAM_H
#define COMMON_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 16u
#define HISTOGRAM_OCTAVES 27u
/* Those up to the first power of two are all of one width. */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_OCTAVES + 1) * HISTOGRAM_STEPS)

/* Zeroed: empty. */
struct histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t zeros; /* values of 0, which are in no bucket: most of what did not wait */
	/* When one is full all are halved: the shape stays, and the newer counts for more. */
	uint32_t buckets[HISTOGRAM_BUCKETS];
};

struct histogram_summary {
	uint64_t count;
	uint64_t mean_ns;
	uint64_t p50_ns;
	uint64_t p90_ns;
	uint64_t p99_ns;
	uint64_t p999_ns;
	uint64_t max_ns;
};

/* @ns > 0. */
void histogram_add_time(struct histogram *h, uint64_t ns);

static inline void
histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	if (ns == 0)
		h->zeros++;
	else
		histogram_add_time(h, ns);
}

/* The time that @permille of the values do not exceed, 1 to 1000; 0 when empty. */
uint64_t histogram_quantile_ns(const struct histogram *h, uint32_t permille);
struct histogram_summary histogram_summarize(const struct histogram *h);
/* Empties it; one that is empty is not written to. */
void histogram_clear(struct histogram *h);

#endif /* COMMON_HISTOGRAM_H */
