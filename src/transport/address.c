/* SPDX-License-Identifier: MIT */
/* inet_pton() rather than getaddrinfo(): the latter accepts "1.2", reads files and may ask a server. */
#include "transport/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Decimal digits only, up to @max. */
static int
parse_number(const char *text, uint32_t max, uint32_t *ret)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; text[i]; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value > max)
			return -EINVAL;
	}
	if (i == 0)
		return -EINVAL;
	*ret = (uint32_t)value;
	return 0;
}

static int
parse_scope(const char *text, uint32_t *ret)
{
	unsigned index = if_nametoindex(text);

	if (index) {
		*ret = index;
		return 0;
	}
	return parse_number(text, UINT32_MAX, ret) < 0 || *ret == 0 ? -EINVAL : 0;
}

static int
parse_ipv6(char *host, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in6 in6;
	char *scope = strchr(host, '%');

	memset(&in6, 0, sizeof(in6));
	in6.sin6_family = AF_INET6;
	in6.sin6_port = htons(port);
	if (scope) {
		*scope++ = '\0';
		if (parse_scope(scope, &in6.sin6_scope_id) < 0)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, &in6, sizeof(in6));
	*ret_len = sizeof(in6);
	return 0;
}

static int
parse_ipv4(const char *host, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in in;

	memset(&in, 0, sizeof(in));
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, &in, sizeof(in));
	*ret_len = sizeof(in);
	return 0;
}

int
tp_address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	char copy[TP_ADDRESS_BYTES_MAX];
	char *colon;
	uint32_t port;
	size_t length = strlen(text);

	if (length >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, length + 1);
	colon = strrchr(copy, ':');
	if (!colon || parse_number(colon + 1, UINT16_MAX, &port) < 0)
		return -EINVAL;
	*colon = '\0';
	if (copy[0] != '[')
		return parse_ipv4(copy, (uint16_t)port, ret, ret_len);
	if (colon < copy + 2 || colon[-1] != ']')
		return -EINVAL;
	colon[-1] = '\0';
	return parse_ipv6(copy + 1, (uint16_t)port, ret, ret_len);
}

static void
format_ipv6(const struct sockaddr_in6 *in6, char *buf, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	char name[IF_NAMESIZE];
	uint16_t port = ntohs(in6->sin6_port);

	if (!inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)))
		host[0] = '\0';
	if (!in6->sin6_scope_id)
		(void)snprintf(buf, size, "[%s]:%u", host, port);
	else if (if_indextoname(in6->sin6_scope_id, name))
		(void)snprintf(buf, size, "[%s%%%s]:%u", host, name, port);
	else
		(void)snprintf(buf, size, "[%s%%%u]:%u", host, in6->sin6_scope_id, port);
}

void
tp_address_format(const struct sockaddr *address, char *buf, size_t size)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	char host[INET_ADDRSTRLEN];

	switch (address->sa_family) {
	case AF_INET:
		memcpy(&in, address, sizeof(in));
		if (!inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host)))
			host[0] = '\0';
		(void)snprintf(buf, size, "%s:%u", host, ntohs(in.sin_port));
		break;
	case AF_INET6:
		memcpy(&in6, address, sizeof(in6));
		format_ipv6(&in6, buf, size);
		break;
	default:
		(void)snprintf(buf, size, "?");
	}
}
