/* SPDX-License-Identifier: MIT */
/* What a SIGHUP does not bring into effect has to be said. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "nbd_server/server_config_file.h"

static bool
is_same_list(const struct ini_list *a, const struct ini_list *b)
{
	if (a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++)
		if (strcmp(a->item[i], b->item[i]) != 0)
			return false;
	return true;
}

static bool
is_same_field(const struct ini_key *key, const void *a, const void *b)
{
	const char *x = (const char *)a + key->offset, *y = (const char *)b + key->offset;

	switch (key->type) {
	case INI_STRING:
		return strcmp(x, y) == 0;
	case INI_NUMBER:
	case INI_MILLI:
	case INI_WORD:
		return memcmp(x, y, sizeof(uint32_t)) == 0;
	case INI_SIZE:
		return memcmp(x, y, sizeof(uint64_t)) == 0;
	case INI_LIST:
		return is_same_list((const void *)x, (const void *)y);
	}
	return true;
}

static bool
is_same_psk(const struct auth_psk *a, const struct auth_psk *b)
{
	return a->length_bytes == b->length_bytes && memcmp(a->key, b->key, a->length_bytes) == 0;
}

void
server_file_config_diff(const struct server_file_config *a, const struct server_file_config *b,
			char *buf, size_t size)
{
	size_t count, length = 0;
	const struct ini_key *keys = server_file_config_keys(&count);

	buf[0] = '\0';
	for (size_t i = 0; i < count && length < size; i++) {
		bool is_same = is_same_field(&keys[i], a, b);

		if (strcmp(keys[i].name, "portals") == 0)
			continue;
		if (strcmp(keys[i].name, "psk_file") == 0 && !is_same_psk(&a->psk, &b->psk))
			is_same = false;
		if (!is_same)
			length += (size_t)snprintf(buf + length, size - length, "%s[%s] %s",
						   length > 0 ? ", " : "", keys[i].section,
						   keys[i].name);
	}
}
