/* SPDX-License-Identifier: MIT */
/* Addresses come from configuration files: what is not exactly right must be refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "transport/address.h"

static void
parse__good_ones_come_back_as_text(void **state)
{
	static const char *const texts[] = {
		"0.0.0.0:0", "1.2.3.4:9400",	     "255.255.255.255:65535", "[::]:0",
		"[::1]:1",   "[2001:db8::1:2]:9400", "[::ffff:1.2.3.4]:7",    "[fe80::1%lo]:9400",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[TP_ADDRESS_BYTES_MAX];
		struct sockaddr_storage address;
		socklen_t length;

		assert_int_equal(tp_address_parse(texts[i], &address, &length), 0);
		assert_int_equal(length, address.ss_family == AF_INET
						 ? sizeof(struct sockaddr_in)
						 : sizeof(struct sockaddr_in6));
		tp_address_format((struct sockaddr *)&address, text, sizeof(text));
		assert_string_equal(text, texts[i]);
	}
}

/* The text of an IPv4 address is that address, not every address. */
static void
s12_address_is_the_one_given(void **state)
{
	struct sockaddr_storage address;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	socklen_t length;
	char text[64];

	(void)state;
	assert_int_equal(tp_address_parse("10.0.0.2:258", &address, &length), 0);
	memcpy(&in, &address, sizeof(in));
	assert_int_equal(in.sin_family, AF_INET);
	assert_int_equal(ntohl(in.sin_addr.s_addr), 0x0a000002);
	assert_int_equal(ntohs(in.sin_port), 258);

	(void)snprintf(text, sizeof(text), "[fe80::2%%%u]:9", if_nametoindex("lo"));
	assert_int_equal(tp_address_parse(text, &address, &length), 0);
	memcpy(&in6, &address, sizeof(in6));
	assert_int_equal(in6.sin6_family, AF_INET6);
	assert_int_equal(in6.sin6_scope_id, if_nametoindex("lo"));
	assert_int_equal(ntohs(in6.sin6_port), 9);
	assert_int_equal(in6.sin6_addr.s6_addr[15], 2);
}

static void
parse__bad_ones_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		":",
		":1",
		"1.2.3.4",
		"1.2.3.4:",
		"1.2.3.4:65536",
		"1.2.3.4:99999999999999999999",
		"1.2.3.4:+1",
		"1.2.3.4:-1",
		"1.2.3.4: 1",
		"1.2.3.4:1 ",
		"1.2.3.4:0x10",
		"1.2.3.4:1:2",
		"1.2.3:1",
		"1.2.3.256:1",
		" 1.2.3.4:1",
		"01.2.3.4.5:1",
		"localhost:1",
		"::1:80",
		"::1",
		"[::1]",
		"[::1]80",
		"[::1:80",
		"[]:80",
		"[:80",
		"[::1]:",
		"[::1]]:80",
		"[[::1]:80",
		"[1.2.3.4]:80",
		"[::g]:80",
		"[fe80::1%]:80",
		"[fe80::1%0]:80",
		"[fe80::1%no-such-if]:80",
		"[fe80::1%4294967296]:80",
		"[::1]:65536",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct sockaddr_storage address, untouched;
		socklen_t length = 77;

		memset(&address, 0x5a, sizeof(address));
		untouched = address;
		assert_int_equal(tp_address_parse(texts[i], &address, &length), -EINVAL);
		assert_int_equal(length, 77);
		assert_memory_equal(&address, &untouched, sizeof(address));
	}
}

/* Longer than any address: refused before it is copied anywhere. */
static void
parse__too_long(void **state)
{
	char text[] = "[::1]:" /* zeros follow */
		      "00000000000000000000000000000000000000000000000000000000000000000000000001";
	struct sockaddr_storage address;
	socklen_t length;

	(void)state;
	assert_int_equal(strlen(text), TP_ADDRESS_BYTES_MAX);
	assert_int_equal(tp_address_parse(text, &address, &length), -EINVAL);
	text[TP_ADDRESS_BYTES_MAX - 1] = '\0';
	assert_int_equal(tp_address_parse(text, &address, &length), 0);
}

static void
format__cut_and_unknown(void **state)
{
	struct sockaddr_storage address;
	socklen_t length;
	char text[8];

	(void)state;
	assert_int_equal(tp_address_parse("10.20.30.40:50", &address, &length), 0);
	tp_address_format((struct sockaddr *)&address, text, sizeof(text));
	assert_string_equal(text, "10.20.3");
	address.ss_family = AF_UNIX;
	tp_address_format((struct sockaddr *)&address, text, sizeof(text));
	assert_string_equal(text, "?");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__good_ones_come_back_as_text),
		cmocka_unit_test(s12_address_is_the_one_given),
		cmocka_unit_test(parse__bad_ones_are_refused),
		cmocka_unit_test(parse__too_long),
		cmocka_unit_test(format__cut_and_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
