/* SPDX-License-Identifier: MIT */
/* What counts as activity, how it is averaged, and when a slab is mapped for it (paper 4.1). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device_world.h"

#define P PAGE_BYTES
#define PERIOD_NS NSEC_PER_SEC

static struct world *
world_of(uint32_t n_slabs, uint32_t n_daemons, double hot_slab)
{
	const struct world_config c = {
		.n_slabs = n_slabs,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 4,
		.can_zero = true,
		.can_discard = true,
		.hot_slab = hot_slab,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

/* To the turn that ends the running period. */
static void
period_end(struct world *w)
{
	world_pass(w, world_device(w)->activity.period_end_ns - world_now(w));
	world_settle(w);
}

/* @n pages of slab @slab, one request each. */
static void
pages(struct world *w, enum backend_kind kind, uint64_t slab, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(world_do(w, kind, slab * MIB + i % 256 * P, P), 0);
}

static void
check(struct world *w, uint32_t slab, double expect)
{
	const double is = activity_of(world_device(w), slab);

	if (fabs(is - expect) > 1e-6)
		fail_msg("activity of slab %u is %f, not %f", slab, is, expect);
}

static void
average__is_the_papers(void **state)
{
	static const uint32_t seen[] = {50, 0, 10, 100, 0, 0, 7};
	struct world *w = world_of(2, 1, 1000);
	double a = 0;

	(void)state;
	for (uint32_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
		pages(w, i % 2 ? BACKEND_READ : BACKEND_WRITE, 0, seen[i]);
		period_end(w);
		a = 0.2 * seen[i] + 0.8 * a;
		check(w, 0, a);
		check(w, 1, 0);
	}
	assert_true(fabs(world_stats(w).activity_pages_per_second - a) < 1e-6);
	assert_true(fabs(world_stats(w).activity_most - a) < 1e-6);
	world_free(w);
}

static void
average__pages_count_not_requests(void **state)
{
	struct world *w = world_of(1, 1, 1000);

	(void)state;
	assert_int_equal(world_do(w, BACKEND_WRITE, 0, BLOCK_BYTES), 0);
	assert_int_equal(world_do(w, BACKEND_READ, 0, BLOCK_BYTES), 0);
	assert_int_equal(world_do(w, BACKEND_WRITE, 512, 512), 0); /* touches one page */
	period_end(w);
	check(w, 0, 0.2 * (2 * BLOCK_PAGES + 1));
	world_free(w);
}

static void
average__trim_zero_and_flush_are_none(void **state)
{
	struct world *w = world_of(1, 1, 0);

	(void)state;
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, MIB), 0);
	assert_int_equal(world_do(w, BACKEND_ZERO, 0, MIB), 0);
	assert_int_equal(dw_flush(w), 0);
	check(w, 0, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	world_free(w);
}

/* A slab that nobody looks at is as one that is looked at in each period; and ends at none. */
static void
average__of_many_idle_periods_at_once(void **state)
{
	struct world *w = world_of(1, 1, 1000);
	double a = 0.2 * 200;

	(void)state;
	pages(w, BACKEND_WRITE, 0, 200);
	world_pass(w, world_device(w)->activity.period_end_ns - world_now(w) + 9 * PERIOD_NS +
			      PERIOD_NS / 2);
	world_settle(w);
	for (uint32_t i = 0; i < 9; i++)
		a *= 0.8;
	check(w, 0, a);
	period_end(w);
	check(w, 0, a * 0.8);
	world_pass(w, 100 * PERIOD_NS);
	world_settle(w);
	check(w, 0, 0);
	assert_true(world_stats(w).activity_pages_per_second <= 0);
	world_free(w);
}

/* 0.2 * 100 pages are 20 per second, and hot is over 20. */
static void
hot__maps_inside_the_period(void **state)
{
	struct world *w = world_of(2, 1, 20);

	(void)state;
	pages(w, BACKEND_WRITE, 0, 100);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	period_end(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).slabs_hot, 0);
	pages(w, BACKEND_WRITE, 0, 20); /* 0.2 * 20 + 0.8 * 20 */
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	pages(w, BACKEND_WRITE, 0, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	period_end(w);
	assert_int_equal(world_stats(w).slabs_hot, 1);
	world_free(w);
}

/* Slow but steady use ends over the line too, and use under it never. */
static void
hot__steady_use(void **state)
{
	struct world *w = world_of(2, 1, 20);
	uint32_t n_periods = 0;

	(void)state;
	for (; dw_slab_state(w, 0) != SLAB_STATE_MAPPED; n_periods++) {
		assert_true(n_periods < 20);
		pages(w, BACKEND_READ, 0, 25);
		pages(w, BACKEND_READ, 1, 20);
		period_end(w);
	}
	assert_true(n_periods > 2);
	for (uint32_t i = 0; i < 50; i++) {
		pages(w, BACKEND_READ, 1, 20);
		period_end(w);
	}
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	world_free(w);
}

static void
hot__reads_map_and_promote(void **state)
{
	struct world *w = world_of(1, 1, 20);

	(void)state;
	pages(w, BACKEND_WRITE, 0, 10);
	for (uint32_t i = 0; i < 20; i++)
		period_end(w);
	pages(w, BACKEND_READ, 0, 102);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	pages(w, BACKEND_READ, 0, 10);
	world_settle(w);
	assert_true(dw_is_remote(w, 3 * P));
	world_free(w);
}

/* Paper 4.4: what a daemon has taken back does not go to the next one before it is used. */
static void
hot__an_evicted_slab_comes_back_only_when_it_is(void **state)
{
	struct world *w = world_of(1, 2, 20);
	struct fake_daemon *lender;

	(void)state;
	pages(w, BACKEND_WRITE, 0, 102);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	for (uint32_t i = 0; i < 20; i++)
		period_end(w);
	lender = world_daemon(w, world_device(w)->arena.slabs[0].daemon);
	fake_daemon_evict(lender, 0, 10000);
	world_settle(w);
	assert_int_equal(lender->n_dones, 1);
	for (uint32_t i = 0; i < 5; i++) {
		pages(w, BACKEND_READ, 0, 10);
		period_end(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	}
	pages(w, BACKEND_READ, 0, 102);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_free(w);
}

/* No daemon had room: it is tried again while it is hot, without a request. */
static void
hot__is_tried_again_at_the_periods_end(void **state)
{
	const struct ctl_msg free_mem = {.type = CTL_FREE_MEM, .u.free_mem = {.free_slabs = 4}};
	struct world *w = world_of(1, 1, 20);
	struct fake_daemon *f = world_daemon(w, 0);

	(void)state;
	f->is_full = true;
	pages(w, BACKEND_WRITE, 0, 200);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(f->n_maps, 1); /* not at each request */
	f->is_full = false;
	fake_daemon_send(f, &free_mem);
	world_settle(w);
	period_end(w);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_free(w);
}

static void
hot__none_maps_when_stopping(void **state)
{
	struct world *w = world_of(1, 1, 20);

	(void)state;
	pages(w, BACKEND_WRITE, 0, 100);
	assert_int_equal(world_stop(w), 0);
	assert_int_equal(world_daemon(w, 0)->n_maps, 0);
	world_free(w);
}

/* --- giving back --- */

static void
back__trimmed_empty(void **state)
{
	struct world *w = world_of(2, 1, 0);

	(void)state;
	dw_map(w, 0);
	dw_map(w, 1);
	assert_int_equal(dw_write(w, 0), 0);
	assert_int_equal(dw_write(w, MIB), 0);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, MIB - P), 0);
	assert_int_equal(world_do(w, BACKEND_TRIM, MIB, MIB - P), 0);
	assert_int_equal(dw_write(w, 2 * MIB - P), 0);
	assert_int_equal(dw_write(w, 2 * P), 0);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, MIB), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED); /* written again soon, maybe */
	period_end(w);
	world_run(w, 10 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_MAPPED); /* its last page is there */
	assert_int_equal(fake_daemon_lent(world_daemon(w, 0)), 1);
	assert_int_equal(world_stats(w).slabs_given_back, 1);
	assert_int_equal(dw_read(w, 2 * P), 0); /* zeros, and maps it again */
	world_free(w);
}

/* How it was used before says nothing of who comes next. */
static void
back__trimmed_while_hot_is_not_mapped_again(void **state)
{
	struct world *w = world_of(1, 1, 20);

	(void)state;
	pages(w, BACKEND_WRITE, 0, 200);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, MIB), 0);
	for (uint32_t i = 0; i < 5; i++) {
		period_end(w);
		world_run(w, 10 * NSEC_PER_MSEC);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	}
	pages(w, BACKEND_WRITE, 0, 200);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_free(w);
}

static void
back__trimmed_and_written_again_stays(void **state)
{
	struct world *w = world_of(1, 1, 0);

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, 0), 0);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, MIB), 0);
	assert_int_equal(dw_write(w, 7 * P), 0);
	period_end(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_free(w);
}

/* Mapped, and nothing is there yet: that is no reason. */
static void
back__never_used_stays(void **state)
{
	struct world *w = world_of(1, 1, 0);

	(void)state;
	dw_map(w, 0);
	for (uint32_t i = 0; i < 10; i++)
		period_end(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_free(w);
}

static void
back__cold_after_so_many_periods(void **state)
{
	const struct world_config c = {.n_slabs = 2,
				       .n_daemons = 1,
				       .slabs_per_daemon = 4,
				       .can_zero = true,
				       .hot_slab = 20,
				       .cold_slab = 2};
	struct world *w = world_new(&c);

	(void)state;
	world_settle(w);
	pages(w, BACKEND_WRITE, 0, 110);
	pages(w, BACKEND_WRITE, 1, 110);
	period_end(w); /* A = 22 */
	for (uint32_t i = 0; i < 11; i++) {
		pages(w, BACKEND_READ, 1, 3);
		period_end(w); /* 22 * 0.8^11 = 1.9 */
	}
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
		pages(w, BACKEND_READ, 1, 3);
		period_end(w);
	}
	world_run(w, 10 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_MAPPED); /* 3 a second is not cold */
	assert_int_equal(dw_read(w, 105 * P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED); /* nor is it hot */
	world_check_remote(w);
	world_free(w);
}

static void
back__one_use_begins_the_count_anew(void **state)
{
	const struct world_config c = {.n_slabs = 1,
				       .n_daemons = 1,
				       .slabs_per_daemon = 4,
				       .can_zero = true,
				       .cold_slab = 2};
	struct world *w = world_new(&c);

	(void)state;
	world_settle(w);
	dw_map(w, 0);
	for (uint32_t i = 0; i < 4; i++)
		period_end(w);
	pages(w, BACKEND_WRITE, 0, 20);
	period_end(w); /* A = 4 */
	for (uint32_t i = 0; i < 7; i++) {
		period_end(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	}
	world_run(w, 2 * PERIOD_NS);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	world_free(w);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(average__is_the_papers),
		cmocka_unit_test(average__pages_count_not_requests),
		cmocka_unit_test(average__trim_zero_and_flush_are_none),
		cmocka_unit_test(average__of_many_idle_periods_at_once),
		cmocka_unit_test(hot__maps_inside_the_period),
		cmocka_unit_test(hot__steady_use),
		cmocka_unit_test(hot__reads_map_and_promote),
		cmocka_unit_test(hot__an_evicted_slab_comes_back_only_when_it_is),
		cmocka_unit_test(hot__is_tried_again_at_the_periods_end),
		cmocka_unit_test(hot__none_maps_when_stopping),
		cmocka_unit_test(back__trimmed_empty),
		cmocka_unit_test(back__trimmed_while_hot_is_not_mapped_again),
		cmocka_unit_test(back__trimmed_and_written_again_stays),
		cmocka_unit_test(back__never_used_stays),
		cmocka_unit_test(back__cold_after_so_many_periods),
		cmocka_unit_test(back__one_use_begins_the_count_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
