/* SPDX-License-Identifier: MIT */
/* The codec is the first thing that a hostile peer's bytes meet: every refusal is tested. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/transport.h"
#include "wire/ctl.h"

_Static_assert(CTL_MESSAGE_BYTES_MAX <= TP_MESSAGE_BYTES_MAX, "a message fits the transport");

#define FIRST CTL_HELLO
#define LAST CTL_DONE

/* Lengths as docs/protocol.md has them, written down again on purpose. */
static const size_t payload_bytes[] = {0,  104, 48, 32, 40, 100, 0,  16, 8,
				       32, 8,	8,  0,	0,  8,	 16, 16, 8};

static struct ctl_msg
sample(enum ctl_type type)
{
	struct ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.type = type;
	m.request_id = 0x01020304u + (uint32_t)type;
	m.version = CTL_VERSION;
	switch (type) {
	case CTL_HELLO:
		memset(m.u.hello.client_id, 0xa1, sizeof(m.u.hello.client_id));
		memcpy(m.u.hello.device, "swap0 ~!", 8);
		m.u.hello.slab_bytes = UINT64_C(0x1122334455667788);
		memset(m.u.hello.nonce, 0xa2, sizeof(m.u.hello.nonce));
		break;
	case CTL_CHALLENGE:
		memset(m.u.challenge.nonce, 0xb1, sizeof(m.u.challenge.nonce));
		memset(m.u.challenge.proof, 0xb2, sizeof(m.u.challenge.proof));
		break;
	case CTL_AUTH:
		memset(m.u.auth.proof, 0xc1, sizeof(m.u.auth.proof));
		break;
	case CTL_WELCOME:
		m.u.welcome.slab_bytes = UINT64_C(0x0807060504030201);
		m.u.welcome.epoch = UINT64_MAX;
		m.u.welcome.free_slabs = 7;
		m.u.welcome.total_slabs = 9;
		m.u.welcome.epoch_addr = UINT64_C(0x7fff333344445555);
		m.u.welcome.epoch_rkey = 0xfeedbeef;
		break;
	case CTL_REFUSED:
		m.u.refused.reason = 4711;
		memset(m.u.refused.text, 'x', sizeof(m.u.refused.text) - 1);
		break;
	case CTL_FREE_MEM:
		m.u.free_mem.free_slabs = 1;
		m.u.free_mem.total_slabs = UINT32_MAX;
		m.u.free_mem.usage_permille = 999;
		break;
	case CTL_MAP:
		m.u.map.slab = 5;
		m.u.map.generation = 6;
		break;
	case CTL_MR_INFO:
		m.u.mr_info.slab = 0xf1;
		m.u.mr_info.generation = 0xf2;
		m.u.mr_info.addr = UINT64_C(0x7fff000011112222);
		m.u.mr_info.length_bytes = UINT64_C(64) << 20;
		m.u.mr_info.rkey = 0xdeadbeef;
		break;
	case CTL_UNMAP:
	case CTL_UNMAPPED:
	case CTL_CHECK_ACTIVITY:
	case CTL_DONE:
		m.u.unmap.slab = 8;
		m.u.unmap.generation = 9;
		break;
	case CTL_ACTIVITY:
		m.u.activity.slab = 10;
		m.u.activity.generation = 11;
		m.u.activity.milli_pages_per_second = 998;
		break;
	case CTL_EVICT:
		m.u.evict.slab = 12;
		m.u.evict.generation = 13;
		m.u.evict.deadline_ms = 997;
		break;
	case CTL_QUERY_MEM:
	case CTL_PING:
	case CTL_PONG:
		break;
	}
	return m;
}

/* Decodes from a heap block of exactly @length, so that ASan sees every over-read. */
static int
decode(const uint8_t *bytes, size_t length, struct ctl_msg *ret)
{
	uint8_t *copy = malloc(length ? length : 1);
	int r;

	assert_non_null(copy);
	if (length)
		memcpy(copy, bytes, length);
	r = ctl_decode(copy, length, ret);
	free(copy);
	return r;
}

/* A refusal must leave the out-parameter alone. */
static int
refuse(const uint8_t *bytes, size_t length)
{
	struct ctl_msg before, after;
	int r;

	memset(&before, 0x5a, sizeof(before));
	after = before;
	r = decode(bytes, length, &after);
	assert_true(r < 0);
	assert_memory_equal(&before, &after, sizeof(after));
	return r;
}

static void
round_trip__every_type(void **state)
{
	int t;

	(void)state;
	for (t = FIRST; t <= (int)LAST; t++) {
		struct ctl_msg in = sample((enum ctl_type)t), out;
		uint8_t buf[CTL_MESSAGE_BYTES_MAX];
		size_t length = ctl_encode(&in, buf);

		assert_int_equal(length, CTL_HEADER_BYTES + payload_bytes[t]);
		assert_int_equal(decode(buf, length, &out), 0);
		assert_memory_equal(&in, &out, sizeof(in));
	}
}

static void
encode__bytes_are_as_documented(void **state)
{
	static const char expected[] =
		"SSWP\1\0\11\0\40\0\0\0\15\3\2\1\0\0\0\0\0\0\0\0"
		"\xf1\0\0\0\xf2\0\0\0\x22\x22\x11\x11\0\0\xff\x7f\0\0\0\4\0\0\0\0"
		"\xef\xbe\xad\xde\0\0\0";
	struct ctl_msg m = sample(CTL_MR_INFO);
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];

	(void)state;
	assert_int_equal(ctl_encode(&m, buf), sizeof(expected));
	assert_memory_equal(buf, expected, sizeof(expected));
}

static void
encode__version_0_means_current(void **state)
{
	struct ctl_msg m = sample(CTL_PING), out;
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];

	(void)state;
	m.version = 0;
	assert_int_equal(decode(buf, ctl_encode(&m, buf), &out), 0);
	assert_int_equal(out.version, CTL_VERSION);
}

static void
encode__string_is_cut_and_padded(void **state)
{
	struct ctl_msg m = sample(CTL_HELLO), out;
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length;

	(void)state;
	memset(m.u.hello.device, 'd', sizeof(m.u.hello.device)); /* no NUL */
	length = ctl_encode(&m, buf);
	assert_int_equal(decode(buf, length, &out), 0);
	assert_int_equal(strlen(out.u.hello.device), CTL_DEVICE_NAME_BYTES - 1);

	m.u.hello.device[3] = '\0'; /* rubbish behind the NUL stays here */
	length = ctl_encode(&m, buf);
	assert_int_equal(decode(buf, length, &out), 0);
	assert_string_equal(out.u.hello.device, "ddd");
}

static void
decode__every_truncation_and_extension(void **state)
{
	int t;

	(void)state;
	for (t = FIRST; t <= (int)LAST; t++) {
		struct ctl_msg m = sample((enum ctl_type)t);
		uint8_t buf[CTL_MESSAGE_BYTES_MAX + 1] = {0};
		size_t length = ctl_encode(&m, buf), n;

		for (n = 0; n <= CTL_MESSAGE_BYTES_MAX; n++)
			if (n != length)
				assert_int_equal(refuse(buf, n), -EPROTO);
	}
}

/* All 255 other values of each header byte: refused, or the same message but
 * for the field that the byte belongs to.  (The sample AUTH read as an MR_INFO
 * has reserved bytes that are not zero; the others are chosen to fit each other's type.) */
static void
decode__every_flipped_header_byte(void **state)
{
	int t;

	(void)state;
	for (t = FIRST; t <= (int)LAST; t++) {
		struct ctl_msg m = sample((enum ctl_type)t), out;
		uint8_t buf[CTL_MESSAGE_BYTES_MAX];
		size_t length = ctl_encode(&m, buf), at;
		unsigned flip;

		for (at = 0; at < CTL_HEADER_BYTES; at++) {
			for (flip = 1; flip < 256; flip++) {
				bool any_version = t == CTL_HELLO || t == CTL_REFUSED;
				unsigned type = (unsigned)t ^ flip;

				buf[at] ^= (uint8_t)flip;
				if (at >= 12 && at < 16) { /* request id */
					assert_int_equal(decode(buf, length, &out), 0);
					assert_int_not_equal(out.request_id, m.request_id);
					out.request_id = m.request_id;
					assert_memory_equal(&out, &m, sizeof(m));
				} else if ((at == 4 || at == 5) && any_version) {
					assert_int_equal(decode(buf, length, &out), 0);
					assert_int_not_equal(out.version, CTL_VERSION);
				} else if (at == 4 || at == 5) {
					assert_int_equal(refuse(buf, length), -EPROTONOSUPPORT);
				} else if (at == 6 && type >= FIRST && type <= LAST &&
					   payload_bytes[type] == payload_bytes[t] &&
					   !(t == CTL_AUTH && type == CTL_MR_INFO)) {
					assert_int_equal(decode(buf, length, &out), 0);
					assert_int_equal(out.type, type);
				} else {
					assert_int_equal(refuse(buf, length), -EPROTO);
				}
				buf[at] ^= (uint8_t)flip;
			}
		}
	}
}

/* Every value of the type field. */
static void
decode__unknown_types(void **state)
{
	unsigned type;

	(void)state;
	for (type = 0; type <= UINT16_MAX; type++) {
		struct ctl_msg m = sample(CTL_PING);
		uint8_t buf[CTL_MESSAGE_BYTES_MAX];
		size_t length = ctl_encode(&m, buf);

		if (type >= FIRST && type <= LAST)
			continue;
		buf[6] = (uint8_t)type;
		buf[7] = (uint8_t)(type >> 8);
		assert_int_equal(refuse(buf, length), -EPROTO);
	}
}

static void
decode__reserved_bytes_of_mr_info(void **state)
{
	struct ctl_msg m = sample(CTL_MR_INFO);
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length = ctl_encode(&m, buf), at;

	(void)state;
	for (at = length - 4; at < length; at++) {
		buf[at] = 1;
		assert_int_equal(refuse(buf, length), -EPROTO);
		buf[at] = 0;
	}
}

/* A usage over the maximum, an EVICT without deadline, zero fields that are not. */
static void
decode__fields_of_eviction_and_memory(void **state)
{
	struct ctl_msg m = sample(CTL_FREE_MEM), out;
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length;

	(void)state;
	m.u.free_mem.usage_permille = CTL_USAGE_PERMILLE_MAX;
	length = ctl_encode(&m, buf);
	assert_int_equal(decode(buf, length, &out), 0);
	buf[length - 1] = 1;
	assert_int_equal(refuse(buf, length), -EPROTO);
	m.u.free_mem.usage_permille++;
	length = ctl_encode(&m, buf);
	assert_int_equal(refuse(buf, length), -EPROTO);

	m = sample(CTL_ACTIVITY);
	m.u.activity.milli_pages_per_second = UINT64_MAX - 1;
	length = ctl_encode(&m, buf);
	assert_int_equal(decode(buf, length, &out), 0);
	assert_true(out.u.activity.milli_pages_per_second == UINT64_MAX - 1);

	m = sample(CTL_EVICT);
	length = ctl_encode(&m, buf);
	buf[length - 1] = 1;
	assert_int_equal(refuse(buf, length), -EPROTO);
	m.u.evict.deadline_ms = 0;
	length = ctl_encode(&m, buf);
	assert_int_equal(refuse(buf, length), -EPROTO);
}

static void
check_string_field(enum ctl_type type, size_t at, size_t size)
{
	struct ctl_msg m = sample(type), out;
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length = ctl_encode(&m, buf);
	unsigned c;

	memset(buf + at, 'a', size);
	assert_int_equal(refuse(buf, length), -EPROTO); /* no NUL */
	buf[at + size - 1] = '\0';
	assert_int_equal(decode(buf, length, &out), 0);
	for (c = 1; c < 256; c++) {
		buf[at + 1] = (uint8_t)c;
		if (c >= 0x20 && c <= 0x7e)
			assert_int_equal(decode(buf, length, &out), 0);
		else
			assert_int_equal(refuse(buf, length), -EPROTO);
	}
	memset(buf + at, 0, size);
	assert_int_equal(decode(buf, length, &out), 0); /* empty */
	buf[at + size - 1] = 'z';
	assert_int_equal(refuse(buf, length), -EPROTO); /* not padded with NULs */
}

static void
decode__strings(void **state)
{
	(void)state;
	check_string_field(CTL_HELLO, CTL_HEADER_BYTES + 16, CTL_DEVICE_NAME_BYTES);
	check_string_field(CTL_REFUSED, CTL_HEADER_BYTES + 4, CTL_TEXT_BYTES);
}

static void
decode__other_version(void **state)
{
	struct ctl_msg m = sample(CTL_HELLO), out;
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length;

	(void)state;
	m.version = 2;
	length = ctl_encode(&m, buf);
	assert_int_equal(decode(buf, length, &out), 0);
	assert_int_equal(out.version, 2);
	/* A type that only version 2 knows is a matter of the version, not of the type. */
	buf[6] = 200;
	assert_int_equal(refuse(buf, length), -EPROTONOSUPPORT);
	m = sample(CTL_MAP);
	m.version = 2;
	length = ctl_encode(&m, buf);
	assert_int_equal(refuse(buf, length), -EPROTONOSUPPORT);
	m.version = UINT16_MAX;
	length = ctl_encode(&m, buf);
	assert_int_equal(refuse(buf, length), -EPROTONOSUPPORT);
}

static void
names(void **state)
{
	uint32_t i;

	(void)state;
	assert_string_equal(ctl_type_name(CTL_MAP), "MAP");
	assert_string_equal(ctl_type_name(CTL_HELLO), "HELLO");
	assert_string_equal(ctl_type_name(CTL_PONG), "PONG");
	assert_string_equal(ctl_type_name((enum ctl_type)0), "?");
	assert_string_equal(ctl_type_name((enum ctl_type)(LAST + 1)), "?");
	assert_string_equal(ctl_reason_name(CTL_REASON_NO_MEMORY), "no free slab now");
	for (i = CTL_REASON_VERSION; i <= CTL_REASON_STOPPING; i++)
		assert_string_not_equal(ctl_reason_name(i), "unknown reason");
	assert_string_equal(ctl_reason_name(0), "unknown reason");
	assert_string_equal(ctl_reason_name(CTL_REASON_STOPPING + 1), "unknown reason");
	assert_string_equal(ctl_reason_name(UINT32_MAX), "unknown reason");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip__every_type),
		cmocka_unit_test(encode__bytes_are_as_documented),
		cmocka_unit_test(encode__version_0_means_current),
		cmocka_unit_test(encode__string_is_cut_and_padded),
		cmocka_unit_test(decode__every_truncation_and_extension),
		cmocka_unit_test(decode__every_flipped_header_byte),
		cmocka_unit_test(decode__unknown_types),
		cmocka_unit_test(decode__reserved_bytes_of_mr_info),
		cmocka_unit_test(decode__fields_of_eviction_and_memory),
		cmocka_unit_test(decode__strings),
		cmocka_unit_test(decode__other_version),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
