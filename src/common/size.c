/* SPDX-License-Identifier: MIT */
/* strtoull() takes signs, spaces and other bases and wraps; configuration may not. */
#include "common/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char units[] = "KMGT";

/* Returns the first byte that is no digit, or NULL: too large. */
static const char *
digits_parse(const char *text, uint64_t *ret)
{
	uint64_t value = 0;

	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return NULL;
	}
	*ret = value;
	return text;
}

/* Text that begins with a digit, is over UINT64_MAX, and is otherwise well formed is -ERANGE;
 * telling it apart from a wrong unit after so many digits helps nobody. */
int
number_parse(const char *text, uint64_t *ret)
{
	uint64_t value;
	const char *end = digits_parse(text, &value);

	if (!end)
		return -ERANGE;
	if (end == text || *end)
		return -EINVAL;
	*ret = value;
	return 0;
}

int
size_parse(const char *text, uint64_t *ret_bytes)
{
	uint64_t value;
	const char *end = digits_parse(text, &value);
	const char *unit;

	if (!end)
		return -ERANGE;
	if (end == text)
		return -EINVAL;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return -EINVAL;
		if (__builtin_mul_overflow(value, UINT64_C(1) << (10 * (unit - units + 1)), &value))
			return -ERANGE;
	}
	*ret_bytes = value;
	return 0;
}

int
milli_parse(const char *text, uint64_t *ret_milli)
{
	uint64_t value, part = 0, scale = 1000;
	const char *end = digits_parse(text, &value);

	if (!end)
		return -ERANGE;
	if (end == text)
		return -EINVAL;
	if (*end == '.') {
		for (end++; *end >= '0' && *end <= '9' && scale > 1; end++) {
			scale /= 10;
			part += (uint64_t)(*end - '0') * scale;
		}
		if (scale == 1000)
			return -EINVAL;
	}
	if (*end)
		return -EINVAL;
	if (__builtin_mul_overflow(value, 1000, &value) ||
	    __builtin_add_overflow(value, part, &value))
		return -ERANGE;
	*ret_milli = value;
	return 0;
}

const char *
milli_format(uint64_t milli, char buf[SIZE_TEXT_BYTES])
{
	uint32_t part = (uint32_t)(milli % 1000);
	int digits = 3;

	for (; part > 0 && part % 10 == 0; digits--)
		part /= 10;
	if (part > 0)
		(void)snprintf(buf, SIZE_TEXT_BYTES, "%" PRIu64 ".%0*u", milli / 1000, digits,
			       part);
	else
		(void)snprintf(buf, SIZE_TEXT_BYTES, "%" PRIu64, milli / 1000);
	return buf;
}

const char *
size_format(uint64_t bytes, char buf[SIZE_TEXT_BYTES])
{
	char unit[2] = "";

	for (const char *u = units; *u && bytes && bytes % 1024 == 0; u++) {
		bytes /= 1024;
		unit[0] = *u;
	}
	(void)snprintf(buf, SIZE_TEXT_BYTES, "%" PRIu64 "%s", bytes, unit);
	return buf;
}
