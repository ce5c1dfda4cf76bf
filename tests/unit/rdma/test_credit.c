/* SPDX-License-Identifier: MIT */
/* Two sides that send, read and return credits at random never send into nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rdma/credit.h"

/* One direction of a link: messages on their way, with the credits they carry. */
struct wire {
	struct {
		bool is_data;
		uint16_t credits;
	} queue[64];
	unsigned head, tail; /* of what is not read yet */
};

static void
wire_push(struct wire *w, bool is_data, uint16_t credits)
{
	w->queue[w->tail % 64].is_data = is_data;
	w->queue[w->tail++ % 64].credits = credits;
}

static bool
wire_read(struct wire *w, struct vrb_credit *reader)
{
	const unsigned i = w->head % 64;

	if (w->head == w->tail)
		return false;
	w->head++;
	assert_int_equal(vrb_credit_returned(reader, w->queue[i].credits), 0);
	if (w->queue[i].is_data)
		assert_int_equal(vrb_credit_owe(reader), 0);
	return true;
}

static void
random_step(struct vrb_credit *c, struct wire *out, struct wire *in, unsigned random, bool may_talk,
	    unsigned *n_sent)
{
	if (random % 3 == 0) {
		(void)wire_read(in, c);
	} else if (random % 3 == 1 && may_talk && vrb_credit_take(c)) {
		wire_push(out, true, vrb_credit_give(c));
		(*n_sent)++;
	} else if (vrb_credit_is_due(c)) {
		wire_push(out, false, vrb_credit_give(c));
	}
}

static unsigned
next_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void
run(uint16_t depth_a, uint16_t depth_b, bool both_talk)
{
	struct vrb_credit a, b;
	struct wire ab = {0}, ba = {0};
	unsigned random = depth_a * 1000u + depth_b, n_a = 0, n_b = 0, i;

	vrb_credit_init(&a, depth_a);
	vrb_credit_init(&b, depth_b);
	vrb_credit_set_there(&a, depth_b);
	vrb_credit_set_there(&b, depth_a);
	for (i = 0; i < 20000; i++) {
		random_step(&a, &ab, &ba, next_random(&random), true, &n_a);
		random_step(&b, &ba, &ab, next_random(&random), both_talk, &n_b);
		/* What is not read yet lies in a buffer; one spare is for the farewell. */
		assert_true(ab.tail - ab.head < depth_b + VRB_CREDIT_SPARE_BUFFERS);
		assert_true(ba.tail - ba.head < depth_a + VRB_CREDIT_SPARE_BUFFERS);
	}
	assert_true(n_a > 1000); /* nobody waits for ever */
	assert_true(!both_talk || n_b > 1000);
}

/* No message goes where no receive is posted: nobody waits for RNR retries, nobody fails of it. */
static void
s10_never_more_messages_than_buffers(void **state)
{
	uint16_t a, b;

	(void)state;
	for (a = 1; a < 10; a++)
		for (b = 1; b < 10; b++)
			run(a, b, true);
}

static void
never_too_many__one_talks(void **state)
{
	uint16_t a, b;

	(void)state;
	for (a = 1; a < 10; a++)
		for (b = 1; b < 10; b++)
			run(a, b, false);
}

static void
refuses__more_than_was_given(void **state)
{
	struct vrb_credit c;

	(void)state;
	vrb_credit_init(&c, 2);
	assert_false(vrb_credit_take(&c));
	vrb_credit_set_there(&c, 3);
	assert_int_equal(vrb_credit_returned(&c, 0), 0);
	assert_int_equal(vrb_credit_returned(&c, 1), -EPROTO);
	assert_true(vrb_credit_take(&c));
	assert_int_equal(vrb_credit_returned(&c, 2), -EPROTO);
	assert_int_equal(vrb_credit_returned(&c, 0xffff), -EPROTO);
	assert_int_equal(vrb_credit_returned(&c, 1), 0);
	assert_int_equal(vrb_credit_owe(&c), 0);
	assert_int_equal(vrb_credit_owe(&c), 0);
	assert_int_equal(vrb_credit_owe(&c), -EPROTO);
	assert_int_equal(vrb_credit_give(&c), 2);
	assert_int_equal(vrb_credit_give(&c), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(s10_never_more_messages_than_buffers),
		cmocka_unit_test(never_too_many__one_talks),
		cmocka_unit_test(refuses__more_than_was_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
