/* SPDX-License-Identifier: MIT */
/* Answers of DNS servers: good ones, and bytes that are none. */
#include "programs/dns_answer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE_BYTES_MAX 2048u

struct message {
	uint8_t bytes[MESSAGE_BYTES_MAX];
	size_t length;
};

static void
put(struct message *m, const void *bytes, size_t n)
{
	assert_true(m->length + n <= sizeof(m->bytes));
	memcpy(m->bytes + m->length, bytes, n);
	m->length += n;
}

static void
put_u16(struct message *m, uint16_t value)
{
	const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};

	put(m, bytes, 2);
}

/* "a.b" as labels, with the last one of length 0. */
static void
put_name(struct message *m, const char *name)
{
	while (*name) {
		const size_t n = strcspn(name, ".");
		const uint8_t length = (uint8_t)n;

		put(m, &length, 1);
		put(m, name, n);
		name += n + (name[n] == '.');
	}
	put(m, "", 1);
}

static void
begin(struct message *m, uint16_t n_answers)
{
	m->length = 0;
	put_u16(m, 1);
	put_u16(m, 0x8180);
	put_u16(m, 1);
	put_u16(m, n_answers);
	put_u16(m, 0);
	put_u16(m, 0);
	put_name(m, "_slabswap._tcp.example.com"); /* at 12 */
	put_u16(m, DNS_TYPE_SRV);
	put_u16(m, DNS_CLASS_IN);
}

static void
put_record(struct message *m, uint16_t type, uint32_t ttl_s, uint16_t length)
{
	put_u16(m, 0xc00c);
	put_u16(m, type);
	put_u16(m, DNS_CLASS_IN);
	put_u16(m, (uint16_t)(ttl_s >> 16));
	put_u16(m, (uint16_t)ttl_s);
	put_u16(m, length);
}

static void
put_srv(struct message *m, uint32_t ttl_s, uint16_t priority, uint16_t port, const char *host)
{
	put_record(m, DNS_TYPE_SRV, ttl_s, (uint16_t)(6 + (*host ? strlen(host) + 2 : 1)));
	put_u16(m, priority);
	put_u16(m, 0);
	put_u16(m, port);
	put_name(m, host);
}

/* From a copy of exactly its size, so that ASan sees a read behind it. */
static int
parse_srv(const struct message *m, struct dns_srv *ret, uint32_t max, uint32_t *ret_count,
	  uint32_t *ret_ttl_s)
{
	uint8_t *copy = malloc(m->length + 1);
	int r;

	assert_non_null(copy);
	memcpy(copy + 1, m->bytes, m->length);
	r = dns_answer_srv(copy + 1, m->length, ret, max, ret_count, ret_ttl_s);
	free(copy);
	return r;
}

static void
srv__in_the_order_of_priority_and_name(void **state)
{
	struct dns_srv srv[3];
	struct message m;
	uint32_t count, ttl;

	(void)state;
	begin(&m, 5);
	put_srv(&m, 300, 20, 1, "a.example.com");
	put_srv(&m, 60, 10, 3, "Z.example.COM");
	put_srv(&m, 90, 10, 2, "b.example.com");
	put_srv(&m, 90, 10, 1, "b.example.com");
	put_record(&m, 5, 70, 2); /* CNAME */
	put_u16(&m, 0xc00c);
	assert_int_equal(parse_srv(&m, srv, 3, &count, &ttl), 0);
	assert_int_equal(count, 4);
	assert_int_equal(ttl, 60);
	assert_string_equal(srv[0].host, "b.example.com");
	assert_int_equal(srv[0].port, 1);
	assert_int_equal(srv[1].port, 2);
	assert_string_equal(srv[2].host, "z.example.com");
	assert_int_equal(srv[2].port, 3);
	assert_int_equal(srv[2].priority, 10);
}

static void
srv__compressed_target(void **state)
{
	struct dns_srv srv[1];
	struct message m;
	uint32_t count, ttl;

	(void)state;
	begin(&m, 1);
	put_record(&m, DNS_TYPE_SRV, UINT32_MAX, 6 + 2 + 2);
	put(&m, "\0\0\0\0\0\7\1d", 8);
	put_u16(&m, 0xc000 + 12 + 10 + 5); /* "example.com" of the question */
	assert_int_equal(parse_srv(&m, srv, 1, &count, &ttl), 0);
	assert_string_equal(srv[0].host, "d.example.com");
	assert_int_equal(srv[0].port, 7);
	assert_int_equal(ttl, 0); /* a negative number */
}

static void
srv__none_and_the_root(void **state)
{
	struct dns_srv srv[1];
	struct message m;
	uint32_t count, ttl;

	(void)state;
	begin(&m, 0);
	assert_int_equal(parse_srv(&m, srv, 1, &count, &ttl), 0);
	assert_int_equal(count, 0);
	assert_int_equal(ttl, UINT32_MAX);
	begin(&m, 1);
	put_srv(&m, 5, 0, 0, "");
	assert_int_equal(parse_srv(&m, srv, 1, &count, &ttl), 0);
	assert_int_equal(count, 1);
	assert_string_equal(srv[0].host, "");
}

static void
bad_target(const void *target, uint16_t length)
{
	struct dns_srv srv[1];
	struct message m;
	uint32_t count, ttl;

	begin(&m, 1);
	put_record(&m, DNS_TYPE_SRV, 1, (uint16_t)(6 + length));
	put(&m, "\0\0\0\0\0\7", 6);
	put(&m, target, length);
	assert_int_equal(parse_srv(&m, srv, 1, &count, &ttl), -EBADMSG);
}

static void
srv__targets_that_are_none(void **state)
{
	/* Where the target is: header, question, record, and 6 bytes. */
	const uint16_t here = 12 + 28 + 4 + 12 + 6;
	const uint8_t to_itself[] = {(uint8_t)(0xc0 | here >> 8), (uint8_t)here};
	const uint8_t forward[] = {(uint8_t)(0xc0 | here >> 8), (uint8_t)(here + 2), 1, 'a', 0};
	const uint8_t loop[] = {1, 'a', (uint8_t)(0xc0 | here >> 8), (uint8_t)here};
	uint8_t long_name[5 * 64 + 1];

	(void)state;
	bad_target("", 0);
	bad_target("\2a", 2);	  /* no end */
	bad_target("\3a", 2);	  /* cut */
	bad_target("\xc0", 1);	  /* cut pointer */
	bad_target("\x80", 1);	  /* neither */
	bad_target("\3a b\0", 5); /* a space */
	bad_target("\3a.b\0", 5);
	bad_target("\3a\0b\0", 5);
	bad_target("\xff\xff", 2); /* behind the end */
	bad_target(to_itself, sizeof(to_itself));
	bad_target(forward, sizeof(forward));
	bad_target(loop, sizeof(loop));
	memset(long_name, 'a', sizeof(long_name));
	for (size_t i = 0; i < 5; i++)
		long_name[i * 64] = 63;
	long_name[5 * 64] = 0;
	bad_target(long_name, sizeof(long_name));
}

/* Every cut is refused, and any change is read within bounds. */
static void
srv__cut_and_changed(void **state)
{
	struct dns_srv srv[8];
	struct message m, other;
	uint32_t count, ttl;

	(void)state;
	begin(&m, 2);
	put_srv(&m, 300, 20, 1, "a.example.com");
	put_srv(&m, 300, 20, 1, "b.example.com");
	for (size_t n = 0; n < m.length; n++) {
		other = m;
		other.length = n;
		assert_int_equal(parse_srv(&other, srv, 8, &count, &ttl), -EBADMSG);
	}
	for (size_t at = 0; at < m.length; at++) {
		for (unsigned value = 0; value < 256; value++) {
			int r;

			other = m;
			other.bytes[at] = (uint8_t)value;
			r = parse_srv(&other, srv, 8, &count, &ttl);
			assert_true(r == 0 || r == -EBADMSG);
		}
	}
}

static void
ip__is_the_lowest(void **state)
{
	struct message m;
	char ip[DNS_IP_BYTES];
	uint32_t ttl;

	(void)state;
	begin(&m, 4);
	put_record(&m, DNS_TYPE_A, 30, 4);
	put(&m, "\xc0\0\2\7", 4);
	put_record(&m, DNS_TYPE_A, 20, 4);
	put(&m, "\xc0\0\2\3", 4);
	put_record(&m, DNS_TYPE_AAAA, 40, 16);
	put(&m, "\x20\1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	put_record(&m, DNS_TYPE_A, 50, 4);
	put(&m, "\xc0\0\2\5", 4);
	assert_int_equal(dns_answer_ip(m.bytes, m.length, DNS_TYPE_A, ip, &ttl), 0);
	assert_string_equal(ip, "192.0.2.3");
	assert_int_equal(ttl, 20);
	assert_int_equal(dns_answer_ip(m.bytes, m.length, DNS_TYPE_AAAA, ip, &ttl), 0);
	assert_string_equal(ip, "2001:db8::2");
	begin(&m, 0);
	assert_int_equal(dns_answer_ip(m.bytes, m.length, DNS_TYPE_A, ip, &ttl), -ENOENT);
	begin(&m, 1);
	put_record(&m, DNS_TYPE_A, 30, 5);
	put(&m, "\xc0\0\2\7\1", 5);
	assert_int_equal(dns_answer_ip(m.bytes, m.length, DNS_TYPE_A, ip, &ttl), -EBADMSG);
	assert_int_equal(dns_answer_ip(m.bytes, 11, DNS_TYPE_A, ip, &ttl), -EBADMSG);
}

static void
portal__parse(void **state)
{
	static const char *const bad[] = {"dns:",
					  "dns:_slabswap",
					  "dns:_slabswap._tcp",
					  "dns:_slabswap._tcp.",
					  "dns:_slabswap._udp.a",
					  "dns:slabswap._tcp.a",
					  "dns:_slabswap._tcp..a",
					  "dns:_slabswap._tcp.a b",
					  "dns:_s._tcp.a:1",
					  "tcp:_s._tcp.a",
					  "dns:_s.x._tcp.a"};
	const char *name, *prefix;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(dns_portal_parse(bad[i], &name, &prefix), -EINVAL);
	assert_int_equal(dns_portal_parse("dns:_slabswap._tcp.example.com", &name, &prefix), 0);
	assert_string_equal(name, "_slabswap._tcp.example.com");
	assert_string_equal(prefix, "tcp:");
	assert_int_equal(dns_portal_parse("dns:_x._rdma.a.", &name, &prefix), 0);
	assert_string_equal(prefix, "rdma:");
	assert_false(dns_portal_is("tcp:1.2.3.4:1"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(srv__in_the_order_of_priority_and_name),
		cmocka_unit_test(srv__compressed_target),
		cmocka_unit_test(srv__none_and_the_root),
		cmocka_unit_test(srv__targets_that_are_none),
		cmocka_unit_test(srv__cut_and_changed),
		cmocka_unit_test(ip__is_the_lowest),
		cmocka_unit_test(portal__parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
