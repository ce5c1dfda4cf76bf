/* SPDX-License-Identifier: MIT */
/* sum.h - a fast checksum: whether a buffer changed while somebody else had it. */
#ifndef TESTS_SIM_SUM_H
#define TESTS_SIM_SUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Of 64 bytes in every 512, which is enough to see another version or another
 * page there, and costs an eighth.  @length_bytes: a multiple of 512.
 */
static inline uint64_t
sim_sum(const void *bytes, size_t length_bytes)
{
	const uint8_t *p = bytes;
	uint64_t sum = 0;

	for (size_t at = 0; at < length_bytes; at += 512) {
		uint64_t words[8];

		memcpy(words, p + at, sizeof(words));
		sum = sum * 31 + (words[0] ^ words[1] * 3) + (words[2] ^ words[3] * 5) +
		      (words[4] ^ words[5] * 7) + (words[6] ^ words[7] * 9);
	}
	return sum;
}

#endif /* TESTS_SIM_SUM_H */
