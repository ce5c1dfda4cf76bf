/* SPDX-License-Identifier: MIT */
#include "sim/pattern.h"

#include <string.h>

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static uint64_t
word_at(uint64_t version, uint64_t index)
{
	uint64_t x = version * UINT64_C(0xd1b54a32d192ed03) + index * STEP;

	x ^= x >> 29;
	return version != 0 ? x | 1 : 0;
}

uint8_t
pattern_byte(uint64_t version, uint64_t offset_bytes)
{
	return (uint8_t)(word_at(version, offset_bytes / 8) >> offset_bytes % 8 * 8);
}

void
pattern_fill(void *buf, uint64_t version, uint64_t offset_bytes, size_t length_bytes)
{
	uint8_t *p = buf;

	for (; length_bytes > 0 && offset_bytes % 8 != 0; length_bytes--)
		*p++ = pattern_byte(version, offset_bytes++);
	for (; length_bytes >= 8; length_bytes -= 8, offset_bytes += 8, p += 8) {
		const uint64_t word = word_at(version, offset_bytes / 8);

		memcpy(p, &word, 8);
	}
	for (; length_bytes > 0; length_bytes--)
		*p++ = pattern_byte(version, offset_bytes++);
}

bool
pattern_equal(const void *buf, uint64_t version, uint64_t offset_bytes, size_t length_bytes)
{
	const uint8_t *p = buf;
	uint64_t diff = 0;

	for (; length_bytes > 0 && offset_bytes % 8 != 0; length_bytes--)
		diff |= *p++ ^ pattern_byte(version, offset_bytes++);
	for (; length_bytes >= 8; length_bytes -= 8, offset_bytes += 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		diff |= word ^ word_at(version, offset_bytes / 8);
	}
	for (; length_bytes > 0; length_bytes--)
		diff |= *p++ ^ pattern_byte(version, offset_bytes++);
	return diff == 0;
}
