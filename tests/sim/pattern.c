/* SPDX-License-Identifier: MIT */
#include "sim/pattern.h"

#include <string.h>

#define STEP UINT64_C(0x9e3779b97f4a7c15)

#define LANES 32u

static uint64_t
word_at(uint64_t version, uint64_t index)
{
	uint64_t x = version * UINT64_C(0xd1b54a32d192ed03) + index * STEP;

	x ^= x >> 29;
	return version != 0 ? x | 1 : 0;
}

/* The same for LANES words, without a multiplication for each. */
static void
words_at(uint64_t words[LANES], uint64_t version, uint64_t index)
{
	const uint64_t first = version * UINT64_C(0xd1b54a32d192ed03) + index * STEP;

	if (version == 0) {
		memset(words, 0, LANES * sizeof(*words));
		return;
	}
	for (uint64_t i = 0; i < LANES; i++)
		words[i] = first + i * STEP;
	for (uint64_t i = 0; i < LANES; i++)
		words[i] = (words[i] ^ words[i] >> 29) | 1;
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
	uint64_t words[LANES];

	for (; length_bytes > 0 && offset_bytes % 8 != 0; length_bytes--)
		*p++ = pattern_byte(version, offset_bytes++);
	for (; length_bytes >= sizeof(words); length_bytes -= sizeof(words)) {
		words_at(words, version, offset_bytes / 8);
		memcpy(p, words, sizeof(words));
		p += sizeof(words);
		offset_bytes += sizeof(words);
	}
	for (; length_bytes > 0; length_bytes--)
		*p++ = pattern_byte(version, offset_bytes++);
}

bool
pattern_equal(const void *buf, uint64_t version, uint64_t offset_bytes, size_t length_bytes)
{
	const uint8_t *p = buf;
	uint64_t words[LANES];

	for (; length_bytes > 0 && offset_bytes % 8 != 0; length_bytes--)
		if (*p++ != pattern_byte(version, offset_bytes++))
			return false;
	for (; length_bytes >= sizeof(words); length_bytes -= sizeof(words)) {
		words_at(words, version, offset_bytes / 8);
		if (memcmp(p, words, sizeof(words)) != 0)
			return false;
		p += sizeof(words);
		offset_bytes += sizeof(words);
	}
	for (; length_bytes > 0; length_bytes--)
		if (*p++ != pattern_byte(version, offset_bytes++))
			return false;
	return true;
}

bool
pattern_equal_page(const void *buf, uint64_t version, uint64_t offset_bytes)
{
	const uint8_t *p = buf;

	for (uint32_t at = 0; at < 4096; at += 512) {
		uint64_t words[8], diff = 0;

		memcpy(words, p + at, sizeof(words));
		for (uint64_t i = 0; i < 8; i++)
			diff |= words[i] ^ word_at(version, (offset_bytes + at) / 8 + i);
		if (diff != 0)
			return false;
	}
	return true;
}
