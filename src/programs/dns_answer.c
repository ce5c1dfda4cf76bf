/* SPDX-License-Identifier: MIT */
#include "programs/dns_answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define HEADER_BYTES 12u
#define QUESTION_BYTES 4u /* behind its name */
#define RECORD_BYTES 10u  /* behind its name: type, class, ttl, length */
#define SRV_BYTES 6u	  /* before the target */

/* Where the next byte is read. */
struct cursor {
	const uint8_t *message;
	size_t length_bytes;
	size_t at;
};

struct record {
	uint16_t type;
	uint16_t class;
	uint32_t ttl_s;
	size_t data_at;
	uint16_t data_bytes;
};

static uint16_t
u16_at(const struct cursor *c, size_t at)
{
	return (uint16_t)(c->message[at] << 8 | c->message[at + 1]);
}

static bool
has_bytes(const struct cursor *c, size_t count)
{
	return c->length_bytes - c->at >= count;
}

static int
skip(struct cursor *c, size_t count)
{
	if (!has_bytes(c, count))
		return -EBADMSG;
	c->at += count;
	return 0;
}

/* A name ends with a label of length 0, or points to where it goes on. */
static int
skip_name(struct cursor *c)
{
	while (has_bytes(c, 1)) {
		const uint8_t length = c->message[c->at];

		if (length >= 0xc0)
			return skip(c, 2);
		if (length > DNS_LABEL_BYTES_MAX)
			return -EBADMSG;
		c->at += 1;
		if (length == 0)
			return 0;
		if (skip(c, length) < 0)
			return -EBADMSG;
	}
	return -EBADMSG;
}

/* The byte as it stands in a host name; 0: it may not. */
static char
host_char(uint8_t byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return (char)(byte - 'A' + 'a');
	if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
	    byte == '_')
		return (char)byte;
	return 0;
}

static int
label_append(const struct cursor *c, uint8_t label_bytes, char host[DNS_HOST_BYTES], size_t *length)
{
	if (*length + label_bytes + 2 > DNS_HOST_BYTES)
		return -EBADMSG;
	if (*length > 0)
		host[(*length)++] = '.';
	for (uint8_t i = 0; i < label_bytes; i++) {
		const char byte = host_char(c->message[c->at + i]);

		if (byte == 0)
			return -EBADMSG;
		host[(*length)++] = byte;
	}
	host[*length] = '\0';
	return 0;
}

/* @c by value: the caller goes on behind the record.  A pointer may only lead back. */
static int
host_read(struct cursor c, char host[DNS_HOST_BYTES])
{
	size_t length = 0, start = c.at;

	host[0] = '\0';
	while (has_bytes(&c, 1)) {
		const uint8_t byte = c.message[c.at];

		if (byte >= 0xc0) {
			if (!has_bytes(&c, 2))
				return -EBADMSG;
			c.at = u16_at(&c, c.at) & 0x3fff;
			if (c.at >= start)
				return -EBADMSG;
			start = c.at;
			continue;
		}
		c.at++;
		if (byte == 0)
			return 0;
		if (byte > DNS_LABEL_BYTES_MAX || !has_bytes(&c, byte) ||
		    label_append(&c, byte, host, &length) < 0)
			return -EBADMSG;
		c.at += byte;
	}
	return -EBADMSG;
}

/* To the first answer.  Returns their number or -EBADMSG. */
static int
answers_begin(struct cursor *c)
{
	uint16_t n_questions;

	if (!has_bytes(c, HEADER_BYTES))
		return -EBADMSG;
	n_questions = u16_at(c, 4);
	c->at = HEADER_BYTES;
	for (uint16_t i = 0; i < n_questions; i++)
		if (skip_name(c) < 0 || skip(c, QUESTION_BYTES) < 0)
			return -EBADMSG;
	return u16_at(c, 6);
}

static int
record_read(struct cursor *c, struct record *ret)
{
	size_t at;

	if (skip_name(c) < 0 || !has_bytes(c, RECORD_BYTES))
		return -EBADMSG;
	at = c->at;
	*ret = (struct record){
		.type = u16_at(c, at),
		.class = u16_at(c, at + 2),
		.ttl_s = (uint32_t)u16_at(c, at + 4) << 16 | u16_at(c, at + 6),
		.data_at = at + RECORD_BYTES,
		.data_bytes = u16_at(c, at + 8),
	};
	if (ret->ttl_s > INT32_MAX)
		ret->ttl_s = 0; /* RFC 2181, 8 */
	c->at = ret->data_at;
	return skip(c, ret->data_bytes);
}

static int
srv_read(const struct cursor *c, const struct record *r, struct dns_srv *ret)
{
	struct cursor target = *c;

	if (r->data_bytes <= SRV_BYTES)
		return -EBADMSG;
	target.at = r->data_at + SRV_BYTES;
	target.length_bytes = r->data_at + r->data_bytes;
	ret->priority = u16_at(c, r->data_at);
	ret->port = u16_at(c, r->data_at + 4);
	return host_read(target, ret->host);
}

static bool
is_before(const struct dns_srv *a, const struct dns_srv *b)
{
	const int order = strcmp(a->host, b->host);

	if (a->priority != b->priority)
		return a->priority < b->priority;
	return order != 0 ? order < 0 : a->port < b->port;
}

/* Into the first @max of the order. */
static void
srv_insert(struct dns_srv *list, uint32_t max, uint32_t count, const struct dns_srv *srv)
{
	uint32_t i = count < max ? count : max;

	while (i > 0 && is_before(srv, &list[i - 1])) {
		if (i < max)
			list[i] = list[i - 1];
		i--;
	}
	if (i < max)
		list[i] = *srv;
}

int
dns_answer_srv(const uint8_t *message, size_t length_bytes, struct dns_srv *ret, uint32_t max,
	       uint32_t *ret_count, uint32_t *ret_ttl_s)
{
	struct cursor c = {message, length_bytes, 0};
	const int n_answers = answers_begin(&c);

	*ret_count = 0;
	*ret_ttl_s = UINT32_MAX;
	for (int i = 0; i < n_answers; i++) {
		struct dns_srv srv;
		struct record r;

		if (record_read(&c, &r) < 0)
			return -EBADMSG;
		if (r.ttl_s < *ret_ttl_s)
			*ret_ttl_s = r.ttl_s;
		if (r.class != DNS_CLASS_IN || r.type != DNS_TYPE_SRV)
			continue;
		if (srv_read(&c, &r, &srv) < 0)
			return -EBADMSG;
		srv_insert(ret, max, (*ret_count)++, &srv);
	}
	return n_answers < 0 ? n_answers : 0;
}

int
dns_answer_ip(const uint8_t *message, size_t length_bytes, uint16_t type, char ret_ip[DNS_IP_BYTES],
	      uint32_t *ret_ttl_s)
{
	const size_t ip_bytes = type == DNS_TYPE_A ? 4 : 16;
	struct cursor c = {message, length_bytes, 0};
	const int n_answers = answers_begin(&c);
	const uint8_t *lowest = NULL;

	*ret_ttl_s = UINT32_MAX;
	for (int i = 0; i < n_answers; i++) {
		struct record r;

		if (record_read(&c, &r) < 0)
			return -EBADMSG;
		if (r.ttl_s < *ret_ttl_s)
			*ret_ttl_s = r.ttl_s;
		if (r.class != DNS_CLASS_IN || r.type != type)
			continue;
		if (r.data_bytes != ip_bytes)
			return -EBADMSG;
		if (!lowest || memcmp(message + r.data_at, lowest, ip_bytes) < 0)
			lowest = message + r.data_at;
	}
	if (n_answers < 0)
		return n_answers;
	if (!lowest)
		return -ENOENT;
	if (!inet_ntop(type == DNS_TYPE_A ? AF_INET : AF_INET6, lowest, ret_ip, DNS_IP_BYTES))
		return -errno;
	return 0;
}
