/* SPDX-License-Identifier: MIT */
/* When the server is a real-time task: at once when memory is short, not longer than that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/page.h"
#include "programs/realtime.h"

#define LOW (UINT64_C(100) << 20)
#define S NSEC_PER_SEC

/* One look, and what follows from it. */
static bool
look(struct realtime *r, uint64_t free_bytes, uint64_t now_ns)
{
	r->is_on = realtime_wants(r, free_bytes, now_ns);
	return r->is_on;
}

static void
low__covers_a_boosted_watermark(void **state)
{
	(void)state;
	assert_int_equal(realtime_low_bytes(65536), UINT64_C(512) << 20);
	/* 150 % of high, which is 150 % of min, on top of min. */
	assert_true(realtime_low_bytes(65536) > UINT64_C(65536) * 1024 * 13 / 4);
	assert_int_equal(realtime_low_bytes(1000), UINT64_C(32) << 20);
	assert_int_equal(realtime_low_bytes(0), UINT64_C(32) << 20);
}

static void
wants__at_once_when_memory_is_short(void **state)
{
	struct realtime r = {.low_bytes = LOW};

	(void)state;
	assert_false(look(&r, 3 * LOW, S));
	assert_false(look(&r, LOW, S));
	assert_true(look(&r, LOW - 1, S));
	assert_true(look(&r, 0, S));
}

static void
wants__until_there_was_plenty_for_a_second(void **state)
{
	struct realtime r = {.low_bytes = LOW};

	(void)state;
	assert_true(look(&r, LOW - 1, S));
	assert_true(look(&r, 2 * LOW - 1, 9 * S));
	assert_true(look(&r, 2 * LOW, 10 * S));
	assert_true(look(&r, 2 * LOW, 11 * S - 1));
	/* Short for a moment: the second begins again. */
	assert_true(look(&r, 2 * LOW - 1, 11 * S - 1));
	assert_true(look(&r, 2 * LOW, 12 * S));
	assert_true(look(&r, 2 * LOW, 13 * S - 1));
	assert_false(look(&r, 2 * LOW, 13 * S));
	assert_false(look(&r, LOW, 13 * S));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(low__covers_a_boosted_watermark),
		cmocka_unit_test(wants__at_once_when_memory_is_short),
		cmocka_unit_test(wants__until_there_was_plenty_for_a_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
