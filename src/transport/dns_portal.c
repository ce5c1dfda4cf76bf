/* SPDX-License-Identifier: MIT */
#include "transport/dns_portal.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define PREFIX "dns:"

static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

/* Labels of 1 to 63 bytes, with dots between them and perhaps one at the end. */
static bool
is_name(const char *name)
{
	size_t label = 0;

	if (strlen(name) >= DNS_NAME_BYTES_MAX)
		return false;
	for (; *name; name++) {
		if (*name == '.' && label > 0)
			label = 0;
		else if (!is_name_char(*name) || ++label > DNS_LABEL_BYTES_MAX)
			return false;
	}
	return true;
}

bool
dns_portal_is(const char *item)
{
	return strncmp(item, PREFIX, strlen(PREFIX)) == 0;
}

int
dns_portal_parse(const char *item, const char **ret_name, const char **ret_prefix)
{
	static const struct {
		const char *label, *prefix;
	} kinds[] = {{"._tcp.", "tcp:"}, {"._rdma.", "rdma:"}};
	const char *name = item + strlen(PREFIX), *second;

	if (!dns_portal_is(item) || name[0] != '_' || !is_name(name))
		return -EINVAL;
	second = strchr(name, '.');
	for (size_t i = 0; second && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const size_t length = strlen(kinds[i].label);

		if (strncmp(second, kinds[i].label, length) != 0 || second[length] == '\0')
			continue;
		*ret_name = name;
		*ret_prefix = kinds[i].prefix;
		return 0;
	}
	return -EINVAL;
}
