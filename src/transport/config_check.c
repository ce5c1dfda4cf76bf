/* SPDX-License-Identifier: MIT */
/* Both programs must mean the same by a slab size, an address and a key. */
#include "transport/config_check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "common/secret_file.h"
#include "common/size.h"
#include "transport/address.h"
#include "transport/dns_portal.h"

int
config_check_slab_size(const struct ini *ini, const char *section, uint64_t slab_bytes,
		       char problem[INI_PROBLEM_BYTES])
{
	if (slab_bytes & (slab_bytes - 1))
		return ini_problem(ini, section, "slab_size", problem, "1M, 2M, 4M, ... 1G",
				   "not a power of two");
	return 0;
}

int
config_check_multiple(const struct ini *ini, const char *section, const char *name, uint64_t bytes,
		      uint64_t slab_bytes, char problem[INI_PROBLEM_BYTES])
{
	char slab[SIZE_TEXT_BYTES];
	char allowed[SIZE_TEXT_BYTES + 32];

	if (bytes && bytes % slab_bytes == 0)
		return 0;
	(void)snprintf(allowed, sizeof(allowed), "a multiple of %s", size_format(slab_bytes, slab));
	return ini_problem(ini, section, name, problem, allowed, "not a multiple of slab_size (%s)",
			   slab);
}

static bool
is_socket_path(const char *path)
{
	const struct sockaddr_un *address;

	return path[0] == '/' && strlen(path) < sizeof(address->sun_path);
}

int
config_check_socket_path(const struct ini *ini, const char *section, const char *name,
			 const char *path, char problem[INI_PROBLEM_BYTES])
{
	if (!is_socket_path(path))
		return ini_problem(ini, section, name, problem, CONFIG_SOCKET_ALLOWED,
				   path[0] == '/' ? "path too long" : "not an absolute path");
	return 0;
}

static in_port_t
port_of(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return ((const struct sockaddr_in6 *)address)->sin6_port;
	return ((const struct sockaddr_in *)address)->sin_port;
}

static bool
is_address(const char *text, unsigned int kinds)
{
	struct sockaddr_storage address;
	socklen_t length;

	if (dns_portal_is(text)) {
		const char *name, *prefix;

		return (kinds & CONFIG_DNS) && dns_portal_parse(text, &name, &prefix) == 0;
	}
	if ((kinds & CONFIG_UNIX) && strncmp(text, "unix:", 5) == 0)
		return is_socket_path(text + 5);
	if ((kinds & CONFIG_SHM) && strncmp(text, "shm:", 4) == 0)
		return is_socket_path(text + 4);
	if ((kinds & CONFIG_TCP) && strncmp(text, "tcp:", 4) == 0)
		text += 4;
	else if ((kinds & CONFIG_RDMA) && strncmp(text, "rdma:", 5) == 0)
		text += 5;
	else if (!(kinds & CONFIG_PLAIN))
		return false;
	if (tp_address_parse(text, &address, &length) < 0)
		return false;
	return !(kinds & CONFIG_PORT_NEEDED) || port_of(&address) != 0;
}

int
config_check_addresses(const struct ini *ini, const char *section, const char *name,
		       const struct ini_list *list, unsigned int kinds, const char *allowed,
		       char problem[INI_PROBLEM_BYTES])
{
	for (uint32_t i = 0; i < list->count; i++)
		if (!is_address(list->item[i], kinds))
			return ini_problem(ini, section, name, problem, allowed,
					   "%s is not such an address", list->item[i]);
	return 0;
}

uint32_t
config_count_dns(const struct ini_list *list)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < list->count; i++)
		n += dns_portal_is(list->item[i]);
	return n;
}

int
config_load_psk(const struct ini *ini, const char *section, const char *path,
		struct auth_psk *ret_psk, char problem[INI_PROBLEM_BYTES])
{
	char what[128];
	int r;

	ret_psk->length_bytes = 0;
	if (!*path)
		return 0;
	if (*path != '/')
		return ini_problem(ini, section, "psk_file", problem, CONFIG_PSK_ALLOWED,
				   "not an absolute path");
	r = secret_file_read(path, ret_psk->key, AUTH_PSK_BYTES_MIN, AUTH_PSK_BYTES_MAX,
			     &ret_psk->length_bytes, what, sizeof(what));
	if (r < 0)
		(void)ini_problem(ini, section, "psk_file", problem, CONFIG_PSK_ALLOWED, "%s",
				  what);
	return r;
}
