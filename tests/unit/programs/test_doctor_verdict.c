/* SPDX-License-Identifier: MIT */
/* The borders between ok, warning and failure. */
#include "programs/doctor_verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
limit__around_need_and_margin(void **state)
{
	(void)state;
	assert_int_equal(doctor_judge_limit(99, 100, 10), DOCTOR_FAILURE);
	assert_int_equal(doctor_judge_limit(100, 100, 10), DOCTOR_WARNING);
	assert_int_equal(doctor_judge_limit(109, 100, 10), DOCTOR_WARNING);
	assert_int_equal(doctor_judge_limit(110, 100, 10), DOCTOR_OK);
}

static void
limit__largest_numbers(void **state)
{
	(void)state;
	assert_int_equal(doctor_judge_limit(UINT64_MAX, 100, 10), DOCTOR_OK);
	assert_int_equal(doctor_judge_limit(UINT64_MAX, UINT64_MAX, 10), DOCTOR_WARNING);
	assert_int_equal(doctor_judge_limit(0, UINT64_MAX, 10), DOCTOR_FAILURE);
}

static void
priority__other_above_beside_and_below(void **state)
{
	(void)state;
	assert_non_null(strstr(doctor_judge_priority(101, 100), "before this device"));
	assert_non_null(strstr(doctor_judge_priority(100, 100), "spreads"));
	assert_non_null(strstr(doctor_judge_priority(-2, 100), "does not fit"));
	assert_non_null(strstr(doctor_judge_priority(-2, -3), "before this device"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit__around_need_and_margin),
		cmocka_unit_test(limit__largest_numbers),
		cmocka_unit_test(priority__other_above_beside_and_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
