/* SPDX-License-Identifier: MIT */
#include "common/json_out.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static void add(struct json_out *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
add(struct json_out *j, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (j->is_cut)
		return;
	va_start(ap, fmt);
	n = vsnprintf(j->buf + j->used, j->size - j->used, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= j->size - j->used)
		j->is_cut = true;
	else
		j->used += (size_t)n;
}

static void
add_text(struct json_out *j, const char *text)
{
	add(j, "\"");
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '"' || *p == '\\')
			add(j, "\\%c", *p);
		else if (*p < ' ')
			add(j, "\\u%04x", *p);
		else
			add(j, "%c", *p);
	}
	add(j, "\"");
}

static void
add_key(struct json_out *j, const char *key)
{
	if (j->needs_comma)
		add(j, ",");
	j->needs_comma = true;
	if (key) {
		add_text(j, key);
		add(j, ":");
	}
}

void
json_out_begin(struct json_out *j, char *buf, size_t size)
{
	*j = (struct json_out){.buf = buf, .size = size};
	add(j, "{");
}

size_t
json_out_end(struct json_out *j)
{
	add(j, "}\n");
	return j->is_cut ? 0 : j->used;
}

size_t
json_out_room(const struct json_out *j)
{
	return j->is_cut ? 0 : j->size - j->used;
}

void
json_out_string(struct json_out *j, const char *key, const char *value)
{
	add_key(j, key);
	add_text(j, value);
}

void
json_out_u64(struct json_out *j, const char *key, uint64_t value)
{
	add_key(j, key);
	add(j, "%" PRIu64, value);
}

void
json_out_bool(struct json_out *j, const char *key, bool value)
{
	add_key(j, key);
	add(j, value ? "true" : "false");
}

void
json_out_open(struct json_out *j, const char *key, char bracket)
{
	add_key(j, key);
	add(j, "%c", bracket);
	j->needs_comma = false;
}

void
json_out_close(struct json_out *j, char bracket)
{
	add(j, "%c", bracket);
	j->needs_comma = true;
}
