/* SPDX-License-Identifier: MIT */
/* What is learned from waits, in virtual time: short ones are polled through, long ones are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/page.h"
#include "loop/spin_length.h"

#define US NSEC_PER_USEC
#define LIMIT_NS (50 * US)
#define TURN_NS US

struct world {
	struct spin_length s;
	uint64_t now_ns;
	uint64_t polled_ns; /* of all waits */
};

static struct world
begin(void)
{
	struct world w = {.s.limit_ns = LIMIT_NS, .now_ns = NSEC_PER_SEC};

	/* The loop was just started: that counts as work. */
	return w;
}

/* Work, then nothing for so long.  Returns how long of it was polled. */
static uint64_t
wait_ns(struct world *w, uint64_t length_ns)
{
	const uint64_t begun_ns = w->now_ns;
	const uint64_t end_ns = begun_ns + length_ns;
	uint64_t polled_ns;

	for (bool had_work = true; spin_length_turn(&w->s, w->now_ns, had_work, true);
	     had_work = false) {
		w->now_ns += TURN_NS;
		if (w->now_ns >= end_ns)
			break;
	}
	polled_ns = w->now_ns - begun_ns;
	w->polled_ns += polled_ns;
	if (w->s.is_asleep) {
		w->now_ns = end_ns;
		spin_length_woken(&w->s, w->now_ns);
	}
	return polled_ns;
}

static void
cold__is_never_polled(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(wait_ns(&w, NSEC_PER_SEC), 0);
	assert_int_equal(w.s.spun_ns, 0);
	assert_int_equal(w.s.unpaid_total, 0);
}

/* An idle server and its daemon: PING, a short wait for PONG, half a second of nothing. */
static void
cold__one_short_wait_between_long_ones_is_no_load(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(wait_ns(&w, 20 * US), 0);
		assert_int_equal(wait_ns(&w, NSEC_PER_SEC / 2), 0);
	}
}

static void
hot__is_polled_after_two_waits(void **state)
{
	struct world w = begin();

	(void)state;
	(void)wait_ns(&w, NSEC_PER_SEC);
	assert_int_equal(wait_ns(&w, 20 * US), 0);
	assert_int_equal(wait_ns(&w, 20 * US), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(wait_ns(&w, 20 * US), 20 * US);
	assert_int_equal(w.s.length_ns, 40 * US);
	assert_int_equal(w.s.unpaid_total, 0);
	/* Of the last one it is not known yet how it ended. */
	assert_int_equal(w.s.paid_total, 99);
}

static void
hot__longer_waits_make_it_longer_up_to_the_limit(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		(void)wait_ns(&w, 10 * US);
	assert_int_equal(w.s.length_ns, 20 * US);
	assert_int_equal(wait_ns(&w, 45 * US), 20 * US);
	assert_int_equal(w.s.unpaid_total, 1);
	/* In vain: four of them now, of which the longest counts. */
	assert_int_equal(wait_ns(&w, 40 * US), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(wait_ns(&w, 10 * US), 0);
	assert_int_equal(w.s.length_ns, LIMIT_NS);
	assert_int_equal(wait_ns(&w, 45 * US), 45 * US);
	assert_int_equal(wait_ns(&w, 50 * US), LIMIT_NS);
}

static void
end__of_a_burst_costs_the_limit_at_most(void **state)
{
	struct world w = begin();
	uint64_t spun_ns;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		(void)wait_ns(&w, 45 * US);
	spun_ns = w.s.spun_ns;
	assert_int_equal(wait_ns(&w, NSEC_PER_SEC), LIMIT_NS);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(wait_ns(&w, NSEC_PER_SEC), 0);
	assert_true(w.s.spun_ns - spun_ns <= LIMIT_NS + TURN_NS);
	assert_int_equal(w.s.length_ns, 0);
	assert_int_equal(w.s.unpaid_total, 1);
}

static void
long__just_beyond_the_limit_is_not_polled(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(wait_ns(&w, LIMIT_NS + 1), 0);
}

/* Each costs one length, and is not forgotten: it paid. */
static void
bursts__are_polled(void **state)
{
	struct world w = begin();
	uint64_t polled_ns = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		w.polled_ns = 0;
		for (unsigned k = 0; k < 100; k++)
			(void)wait_ns(&w, 10 * US);
		assert_true(w.polled_ns >= 90 * 10 * US);
		polled_ns = wait_ns(&w, 10 * LIMIT_NS);
		assert_int_equal(polled_ns, 20 * US);
	}
	assert_int_equal(w.s.unpaid_total, 100);
	assert_int_equal(w.s.waits_doubled, 1);
}

/* The client runs on our processor: it goes on when we sleep, and never before. */
static void
vain__is_soon_given_up(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 10000; i++)
		(void)wait_ns(&w, w.s.length_ns + 10 * US);
	/* 20 us each time: 7 times while the number of waits in between doubles, then every 512. */
	assert_true(w.s.unpaid_total < 30);
	assert_true(w.polled_ns < 30 * 20 * US);
	/* With a processor of its own it is polled for again. */
	for (unsigned i = 0; i < 600; i++)
		(void)wait_ns(&w, 10 * US);
	assert_int_equal(wait_ns(&w, 10 * US), 10 * US);
}

static void
busy__turns_without_an_empty_one_are_no_spins(void **state)
{
	struct world w = begin();

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		(void)wait_ns(&w, 20 * US);
	w.s.paid_total = 0;
	w.s.has_spun = false;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(spin_length_turn(&w.s, w.now_ns, true, true));
		w.now_ns += 200 * US;
	}
	assert_int_equal(w.s.paid_total, 0);
	assert_true(w.s.spun_ns <= 20 * US);
}

/* Where it may not poll it sleeps, and what it had learned stays as it is. */
static void
not_allowed__sleeps_and_learns_nothing(void **state)
{
	struct world w = begin();
	uint64_t length_ns;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		(void)wait_ns(&w, 20 * US);
	length_ns = w.s.length_ns;
	assert_true(length_ns > 0);
	for (unsigned i = 0; i < 100; i++) {
		const uint64_t spun_ns = w.s.spun_ns;

		assert_false(spin_length_turn(&w.s, w.now_ns, true, false));
		w.now_ns += i % 2 ? US : NSEC_PER_SEC;
		spin_length_woken(&w.s, w.now_ns);
		/* Woken for nothing: that is not polling. */
		assert_false(spin_length_turn(&w.s, w.now_ns, false, false));
		spin_length_woken(&w.s, w.now_ns);
		assert_int_equal(w.s.spun_ns, spun_ns);
	}
	assert_int_equal(w.s.length_ns, length_ns);
	assert_int_equal(w.s.unpaid_total, 0);
	assert_int_equal(wait_ns(&w, 20 * US), 20 * US);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cold__is_never_polled),
		cmocka_unit_test(cold__one_short_wait_between_long_ones_is_no_load),
		cmocka_unit_test(hot__is_polled_after_two_waits),
		cmocka_unit_test(hot__longer_waits_make_it_longer_up_to_the_limit),
		cmocka_unit_test(end__of_a_burst_costs_the_limit_at_most),
		cmocka_unit_test(bursts__are_polled),
		cmocka_unit_test(vain__is_soon_given_up),
		cmocka_unit_test(long__just_beyond_the_limit_is_not_polled),
		cmocka_unit_test(not_allowed__sleeps_and_learns_nothing),
		cmocka_unit_test(busy__turns_without_an_empty_one_are_no_spins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
