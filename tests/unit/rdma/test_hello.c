/* SPDX-License-Identifier: MIT */
/* Any RDMA program can connect to us: what it says first is checked byte by byte. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rdma/hello.h"

static void
hello__round_trip(void **state)
{
	static const uint16_t depths[] = {1, 32, VRB_MESSAGE_DEPTH_MAX};
	uint8_t buf[56] = {0};
	uint16_t depth = 0;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
		vrb_hello_encode(depths[i], buf);
		assert_int_equal(vrb_hello_decode(buf, VRB_HELLO_BYTES, &depth), 0);
		assert_int_equal(depth, depths[i]);
		assert_int_equal(vrb_hello_decode(buf, sizeof(buf), &depth), 0);
	}
}

static void
hello__bytes_on_the_wire(void **state)
{
	static const uint8_t expected[] = {'S', 'S', 'R', 'D', 1, 0, 1, 0, 0x34, 0x02};
	uint8_t buf[VRB_HELLO_BYTES];

	(void)state;
	vrb_hello_encode(0x234, buf);
	assert_memory_equal(buf, expected, sizeof(expected));
}

static void
hello__refuses_everything_else(void **state)
{
	uint8_t good[VRB_HELLO_BYTES], buf[VRB_HELLO_BYTES];
	uint16_t depth = 7;
	size_t i;

	(void)state;
	vrb_hello_encode(32, good);
	for (i = 0; i < VRB_HELLO_BYTES; i++)
		assert_int_equal(vrb_hello_decode(good, i, &depth), -EPROTO);
	assert_int_equal(vrb_hello_decode(NULL, 0, &depth), -EPROTO);
	for (i = 0; i < VRB_HELLO_BYTES; i++) {
		memcpy(buf, good, sizeof(buf));
		buf[i] ^= 0x80;
		if (i == 8) /* the depth: 0xa0, which is valid */
			continue;
		assert_int_equal(vrb_hello_decode(buf, sizeof(buf), &depth),
				 i == 4 || i == 5 ? -EPROTONOSUPPORT : -EPROTO);
	}
	vrb_hello_encode(0, buf);
	assert_int_equal(vrb_hello_decode(buf, sizeof(buf), &depth), -EPROTO);
	vrb_hello_encode(VRB_MESSAGE_DEPTH_MAX + 1, buf);
	assert_int_equal(vrb_hello_decode(buf, sizeof(buf), &depth), -EPROTO);
	vrb_reject_encode(VRB_REJECT_BUSY, buf);
	assert_int_equal(vrb_hello_decode(buf, sizeof(buf), &depth), -EPROTO);
	assert_int_equal(depth, 7);
}

static void
reject__every_reason(void **state)
{
	static const struct {
		enum vrb_reject why;
		int status;
	} cases[] = {
		{VRB_REJECT_REFUSED, -ECONNREFUSED},	{VRB_REJECT_BUSY, -ECONNREFUSED},
		{VRB_REJECT_VERSION, -EPROTONOSUPPORT}, {VRB_REJECT_PROTOCOL, -EPROTO},
		{(enum vrb_reject)99, -EPROTO},
	};
	uint8_t buf[VRB_HELLO_BYTES];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vrb_reject_encode(cases[i].why, buf);
		assert_int_equal(vrb_reject_decode(buf, sizeof(buf)), cases[i].status);
	}
	assert_int_equal(vrb_reject_decode(NULL, 0), -ENOMSG);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(vrb_reject_decode(buf, sizeof(buf)), -ENOMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello__round_trip),
		cmocka_unit_test(hello__bytes_on_the_wire),
		cmocka_unit_test(hello__refuses_everything_else),
		cmocka_unit_test(reject__every_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
