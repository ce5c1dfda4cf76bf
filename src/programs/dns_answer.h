/* SPDX-License-Identifier: MIT */
/*
 * dns_answer.h - what a DNS server answered, as targets and addresses (RFC 1035, 2782, 3596).
 *
 * The bytes are not trusted: every length is checked, names end, and what is not a
 * host name is refused.  Reads nothing but the message, allocates nothing.
 */
#ifndef PROGRAMS_DNS_ANSWER_H
#define PROGRAMS_DNS_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "transport/dns_portal.h"

#define DNS_TYPE_A 1u
#define DNS_TYPE_AAAA 28u
#define DNS_TYPE_SRV 33u
#define DNS_CLASS_IN 1u
/* A host name without its last dot and the NUL; "." is "". */
#define DNS_HOST_BYTES DNS_NAME_BYTES_MAX
/* Room for an IPv6 address as text, without brackets. */
#define DNS_IP_BYTES 46u

struct dns_srv {
	uint16_t priority;
	uint16_t port;
	char host[DNS_HOST_BYTES]; /* small letters */
};

/*
 * dns_answer_srv - the SRV records among the answers.
 *
 * @ret: the first @max of them, lowest priority first, then by host and port: the
 * order does not depend on the server's.
 * @ret_count: how many there are, also beyond @max.
 * @ret_ttl_s: the shortest time that any answer may be kept; UINT32_MAX without answers.
 * Returns 0 or -EBADMSG.
 */
int dns_answer_srv(const uint8_t *message, size_t length_bytes, struct dns_srv *ret, uint32_t max,
		   uint32_t *ret_count, uint32_t *ret_ttl_s);

/*
 * dns_answer_ip - the numerically lowest address of @type (A or AAAA) among the answers.
 * One suffices: it is the same daemon behind all of them; the lowest, since servers turn
 * the order with each answer.
 * Returns 0, -ENOENT (no such record) or -EBADMSG.
 */
int dns_answer_ip(const uint8_t *message, size_t length_bytes, uint16_t type,
		  char ret_ip[DNS_IP_BYTES], uint32_t *ret_ttl_s);

#endif /* PROGRAMS_DNS_ANSWER_H */
