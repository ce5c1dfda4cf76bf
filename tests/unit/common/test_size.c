/* SPDX-License-Identifier: MIT */
/* Sizes and numbers of ini files: what is read, what is refused, and back to text. */
#include "common/size.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void
parse__units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"1", 1},
		{"4096", 4096},
		{"007", 7},
		{"1K", 1024},
		{"64M", UINT64_C(64) << 20},
		{"16G", UINT64_C(16) << 30},
		{"64T", UINT64_C(64) << 40},
		{"18446744073709551615", UINT64_MAX},
		{"16777215T", UINT64_C(16777215) << 40},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t bytes = 42;

		assert_int_equal(size_parse(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void
parse__not_a_size(void **state)
{
	static const char *const bad[] = {"",
					  " ",
					  "K",
					  "17X",
					  "1KB",
					  "1Mi",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "1 K",
					  "1.5G",
					  "0x10",
					  "1k",
					  "1m",
					  "abc",
					  "1,0",
					  "1e3",
					  "9999999999999999999Z"};
	uint64_t bytes = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(size_parse(bad[i], &bytes), -EINVAL);
		assert_int_equal(bytes, 42); /* written on success only */
	}
}

static void
parse__over_64_bits(void **state)
{
	static const char *const bad[] = {"18446744073709551616", "99999999999999999999999",
					  "16777216T", "18014398509481984K"};
	uint64_t bytes = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(size_parse(bad[i], &bytes), -ERANGE);
		assert_int_equal(bytes, 42);
	}
	assert_int_equal(number_parse("18446744073709551616", &bytes), -ERANGE);
	assert_int_equal(bytes, 42);
}

static void
number__digits_only(void **state)
{
	uint64_t n = 42;

	(void)state;
	assert_int_equal(number_parse("2000", &n), 0);
	assert_int_equal(n, 2000);
	assert_int_equal(number_parse("", &n), -EINVAL);
	assert_int_equal(number_parse("2K", &n), -EINVAL);
	assert_int_equal(number_parse("-2", &n), -EINVAL);
	assert_int_equal(number_parse("2 ", &n), -EINVAL);
	assert_int_equal(n, 2000);
}

static void
format__reads_back(void **state)
{
	static const uint64_t values[] = {0,
					  1,
					  1023,
					  1024,
					  1025,
					  4096,
					  UINT64_C(3) << 20,
					  UINT64_C(1) << 40,
					  UINT64_C(1) << 60,
					  UINT64_MAX};
	char buf[SIZE_TEXT_BYTES];

	(void)state;
	assert_string_equal(size_format(UINT64_C(64) << 20, buf), "64M");
	assert_string_equal(size_format(4097, buf), "4097");
	assert_string_equal(size_format(UINT64_C(1) << 50, buf), "1024T");
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		uint64_t back;

		assert_int_equal(size_parse(size_format(values[i], buf), &back), 0);
		assert_int_equal(back, values[i]);
	}
}

static void
milli__reads_back(void **state)
{
	static const uint64_t values[] = {0, 1, 20, 200, 1000, 1050, 999999, UINT64_MAX};
	uint64_t back = 42;
	char buf[SIZE_TEXT_BYTES];

	(void)state;
	assert_string_equal(milli_format(200, buf), "0.2");
	assert_string_equal(milli_format(1050, buf), "1.05");
	assert_string_equal(milli_format(3000, buf), "3");
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_int_equal(milli_parse(milli_format(values[i], buf), &back), 0);
		assert_int_equal(back, values[i]);
	}
	assert_int_equal(milli_parse("18446744073709551.616", &back), -ERANGE);
	assert_int_equal(milli_parse("18446744073709552", &back), -ERANGE);
	assert_int_equal(milli_parse("1.2345", &back), -EINVAL);
	assert_int_equal(milli_parse("1.", &back), -EINVAL);
	assert_int_equal(milli_parse("", &back), -EINVAL);
	assert_int_equal(back, UINT64_MAX);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__units),	       cmocka_unit_test(parse__not_a_size),
		cmocka_unit_test(parse__over_64_bits), cmocka_unit_test(number__digits_only),
		cmocka_unit_test(format__reads_back),  cmocka_unit_test(milli__reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
