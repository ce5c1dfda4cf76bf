/* SPDX-License-Identifier: MIT */
/* sum.h - a fast checksum: whether a buffer changed while somebody else had it. */
#ifndef TESTS_SIM_SUM_H
#define TESTS_SIM_SUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* @length_bytes: a multiple of 64. */
static inline uint64_t
sim_sum(const void *bytes, size_t length_bytes)
{
	const uint8_t *p = bytes;
	uint64_t sums[8] = {0};

	for (size_t at = 0; at < length_bytes; at += sizeof(sums)) {
		uint64_t words[8];

		memcpy(words, p + at, sizeof(words));
		for (unsigned i = 0; i < 8; i++)
			sums[i] = (sums[i] << 1) + (sums[i] >> 63) + words[i];
	}
	for (unsigned i = 1; i < 8; i++)
		sums[0] = sums[0] * 31 + sums[i];
	return sums[0];
}

#endif /* TESTS_SIM_SUM_H */
