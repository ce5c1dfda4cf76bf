/* SPDX-License-Identifier: MIT */
/*
 * json_out.h - writes one JSON document into a buffer of fixed size.
 *
 * Commas come by themselves.  When the buffer is full the rest is dropped and
 * json_out_end() tells.  No allocation.
 */
#ifndef COMMON_JSON_OUT_H
#define COMMON_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_out {
	char *buf;
	size_t size;
	size_t used;
	bool needs_comma;
	bool is_cut;
};

/* Begins the outermost object. */
void json_out_begin(struct json_out *j, char *buf, size_t size);
/* Ends it with a newline.  Returns the length without NUL, 0 when the document was cut. */
size_t json_out_end(struct json_out *j);
/* Bytes that are left. */
size_t json_out_room(const struct json_out *j);

/* @key NULL: an element of an array. */
void json_out_string(struct json_out *j, const char *key, const char *value);
void json_out_u64(struct json_out *j, const char *key, uint64_t value);
void json_out_bool(struct json_out *j, const char *key, bool value);
void json_out_open(struct json_out *j, const char *key, char bracket); /* '{' or '[' */
void json_out_close(struct json_out *j, char bracket);		       /* '}' or ']' */

#endif /* COMMON_JSON_OUT_H */
