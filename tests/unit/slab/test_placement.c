/* SPDX-License-Identifier: MIT */
/*
 * Which daemon gets a slab (paper 4.2), and what no daemon can do to the others' chances.
 * l2_, l3_ and l4_ are defects of the published code: one bad address stops all mapping; an
 * answer that comes at another time is lost; placements that disturb each other.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device_world.h"

#define P PAGE_BYTES

static struct world *
world_of(uint32_t n_slabs, uint32_t n_daemons, uint32_t choices, uint64_t seed)
{
	const struct world_config c = {
		.seed = seed,
		.n_slabs = n_slabs,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 8,
		.can_zero = true,
		.choices = choices,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

static uint32_t
daemon_of(struct world *w, uint32_t slab)
{
	const struct arena_slab *s = &world_device(w)->arena.slabs[slab];

	assert_int_equal(s->state, SLAB_STATE_MAPPED);
	return s->daemon;
}

static void
use(struct world *w, uint64_t slab)
{
	assert_int_equal(dw_write(w, slab * MIB), 0);
	world_settle(w);
}

/* Until the moment has passed that answers are waited for when one is there. */
static void
after_grace(struct world *w)
{
	world_pass(w, PLACEMENT_GRACE_NS);
	world_settle(w);
}

static uint32_t
sum_maps(struct world *w, uint32_t n_daemons)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_daemons; i++)
		n += world_daemon(w, i)->n_maps;
	return n;
}

static void
place__the_only_one_is_not_asked_first(void **state)
{
	struct world *w = world_of(1, 1, 2, 0);

	(void)state;
	use(w, 0);
	assert_int_equal(daemon_of(w, 0), 0);
	assert_int_equal(world_daemon(w, 0)->n_queries, 0);
	world_free(w);
}

static void
place__lowest_usage_wins(void **state)
{
	static const uint32_t usage[] = {700, 200, 500, 201};

	(void)state;
	for (uint32_t best = 0; best < 4; best++) {
		struct world *w = world_of(1, 4, 4, 0);

		for (uint32_t i = 0; i < 4; i++)
			world_daemon(w, i)->usage_permille = usage[(i + best) % 4];
		use(w, 0);
		assert_int_equal(usage[(daemon_of(w, 0) + best) % 4], 200);
		assert_int_equal(sum_maps(w, 4), 1);
		assert_int_equal(world_stats(w).queries_total, 4);
		world_free(w);
	}
}

/* M_new before M_old, whatever they use; among M_old the lowest usage. */
static void
place__daemons_without_a_slab_come_first(void **state)
{
	struct world *w = world_of(5, 3, 3, 0);
	bool has[3] = {false};

	(void)state;
	world_daemon(w, 0)->usage_permille = 10;
	world_daemon(w, 1)->usage_permille = 900;
	world_daemon(w, 2)->usage_permille = 800;
	for (uint32_t i = 0; i < 3; i++) {
		use(w, i);
		assert_false(has[daemon_of(w, i)]);
		has[daemon_of(w, i)] = true;
	}
	use(w, 3);
	use(w, 4);
	assert_int_equal(daemon_of(w, 3), 0);
	assert_int_equal(daemon_of(w, 4), 0);
	world_free(w);
}

/* What was in its way has passed without a change of the number of its free slabs. */
static void
place__who_has_refused_is_asked_again(void **state)
{
	struct world *w = world_of(1, 1, 2, 0);

	(void)state;
	world_daemon(w, 0)->lie = LIE_MAP_REFUSED;
	use(w, 0);
	assert_int_equal(world_stats(w).maps_refused, 1);
	world_daemon(w, 0)->lie = LIE_NONE;
	for (uint32_t i = 0; i < 20 && world_stats(w).maps_total == 0; i++) {
		world_run(w, NSEC_PER_SEC);
		use(w, 0);
	}
	assert_int_equal(daemon_of(w, 0), 0);
	assert_int_equal(world_daemon(w, 0)->n_queries, 1);
	world_free(w);
}

/* It told of one slab, that was mapped, and there is one again: nothing new to tell. */
static void
place__free_as_before_is_asked_for(void **state)
{
	const struct ctl_msg one_free = {.type = CTL_FREE_MEM, .u.free_mem = {.free_slabs = 1}};
	struct world *w = world_of(2, 1, 2, 0);

	(void)state;
	fake_daemon_send(world_daemon(w, 0), &one_free);
	world_settle(w);
	use(w, 0);
	use(w, 1);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	world_run(w, 2 * NSEC_PER_SEC);
	use(w, 1);
	assert_int_equal(daemon_of(w, 1), 0);
	world_free(w);
}

static bool
nobody(struct slab_device *d, uint32_t slab, struct remote *r, const struct ctl_mr_info *info)
{
	(void)d;
	(void)slab;
	(void)info;
	assert_null(r);
	return true;
}

/* Each pair of four is as likely as any other: 6 of them, 1000 times each but for chance. */
static void
place__draws_are_uniform(void **state)
{
	struct world *w = world_of(1, 4, 2, 7);
	struct slab_device *d = world_device(w);
	uint32_t seen[16] = {0}, first[4] = {0};

	(void)state;
	while (!remote_may_map(&d->remotes[0]) || !remote_may_map(&d->remotes[1]) ||
	       !remote_may_map(&d->remotes[2]) || !remote_may_map(&d->remotes[3]))
		world_run(w, 10 * NSEC_PER_MSEC);
	for (uint32_t i = 0; i < 6000; i++) {
		const struct placement *p;
		uint32_t set = 0;

		assert_true(placement_start(d, 0, NULL, nobody));
		p = container_of(d->placements.running.next, struct placement, node);
		assert_int_equal(p->n_asked, 2);
		for (uint32_t k = 0; k < 2; k++)
			set |= 1u << p->asked[k].remote->index;
		assert_int_equal(__builtin_popcount(set), 2);
		seen[set]++;
		first[p->asked[0].remote->index]++;
		d->is_stopping = true; /* ends it */
		world_settle(w);
		d->is_stopping = false;
		assert_true(list_is_empty(&d->placements.running));
	}
	for (uint32_t set = 0; set < 16; set++)
		if (__builtin_popcount(set) == 2)
			assert_in_range(seen[set], 880, 1120); /* 4 sigma */
	for (uint32_t i = 0; i < 4; i++)
		assert_in_range(first[i], 1365, 1635);
	world_free(w);
}

static void
place__never_on_the_excluded(void **state)
{
	struct world *w = world_of(1, 2, 2, 0);
	struct slab_device *d = world_device(w);
	const struct placement *p;

	(void)state;
	assert_true(placement_start(d, 0, &d->remotes[1], nobody));
	p = container_of(d->placements.running.next, struct placement, node);
	assert_int_equal(p->n_asked, 1);
	assert_ptr_equal(p->asked[0].remote, &d->remotes[0]);
	d->is_stopping = true;
	world_settle(w);
	d->is_stopping = false;
	world_free(w);
}

/* Their answers to QUERY_MEM were true once. */
static void
place__refused_goes_to_the_next(void **state)
{
	struct world *w = world_of(1, 4, 2, 0);

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		world_daemon(w, i)->lie = i == 2 ? LIE_NONE : LIE_MAP_REFUSED;
	use(w, 0);
	assert_int_equal(daemon_of(w, 0), 2);
	for (uint32_t i = 0; i < 4; i++)
		assert_in_range(world_daemon(w, i)->n_maps, 0, 1);
	assert_int_equal(world_stats(w).maps_refused, sum_maps(w, 4) - 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
place__refused_by_all_is_not_asked_at_each_request(void **state)
{
	const struct ctl_msg free_mem = {.type = CTL_FREE_MEM, .u.free_mem = {.free_slabs = 8}};
	struct world *w = world_of(1, 3, 2, 0);

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		world_daemon(w, i)->lie = LIE_MAP_REFUSED;
	use(w, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(sum_maps(w, 3), 3);
	assert_int_equal(world_stats(w).placements_failed, 1);
	for (uint32_t i = 0; i < 20; i++)
		use(w, 0);
	assert_int_equal(sum_maps(w, 3), 3);
	world_daemon(w, 1)->lie = LIE_NONE;
	fake_daemon_send(world_daemon(w, 1), &free_mem);
	world_settle(w);
	use(w, 0);
	assert_int_equal(daemon_of(w, 0), 1);
	world_free(w);
}

static void
place__full_by_its_answer_gets_no_map(void **state)
{
	struct world *w = world_of(1, 2, 2, 0);

	(void)state;
	world_daemon(w, 0)->is_full = true;
	use(w, 0);
	assert_int_equal(daemon_of(w, 0), 1);
	assert_int_equal(world_daemon(w, 0)->n_maps, 0);
	world_free(w);
}

static void
place__lost_while_it_maps_goes_to_the_next(void **state)
{
	struct world *w = world_of(1, 2, 2, 0);

	(void)state;
	world_daemon(w, 0)->usage_permille = 1;
	world_daemon(w, 1)->usage_permille = 2;
	world_daemon(w, 0)->lie = LIE_MAP_MUTE;
	use(w, 0);
	assert_int_equal(world_daemon(w, 0)->n_maps, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(daemon_of(w, 0), 1);
	world_free(w);
}

static void
place__nobody_answers(void **state)
{
	struct world *w = world_of(1, 4, 2, 0);

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		world_daemon(w, i)->lie = LIE_QUERY_MUTE;
	use(w, 0);
	assert_int_equal(world_stats(w).queries_total, 2);
	world_run(w, PLACEMENT_PATIENCE_NS);
	assert_int_equal(world_stats(w).queries_total, 4); /* more are asked */
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	world_run(w, 2 * NSEC_PER_SEC + 100 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).queries_unanswered, 4);
	for (uint32_t i = 0; i < 20; i++)
		use(w, 0);
	assert_int_equal(world_stats(w).queries_total, 4); /* not in this period */
	assert_int_equal(world_stats(w).remote_failures, 0);
	for (uint32_t i = 0; i < 4; i++)
		world_daemon(w, i)->lie = LIE_NONE;
	world_run(w, NSEC_PER_SEC);
	use(w, 0);
	(void)daemon_of(w, 0);
	world_free(w);
}

static void
place__late_and_wrong_answers(void **state)
{
	struct world *w = world_of(2, 2, 2, 0);
	struct fake_daemon *f = world_daemon(w, 0);
	struct ctl_msg late = {.type = CTL_FREE_MEM, .u.free_mem = {.free_slabs = 8}};

	(void)state;
	f->lie = LIE_QUERY_MUTE;
	use(w, 0);
	after_grace(w);
	assert_int_equal(daemon_of(w, 0), 1);
	late.request_id = f->query_id;
	fake_daemon_send(f, &late);
	fake_daemon_send(f, &late);
	world_settle(w);
	assert_int_equal(world_stats(w).remote_failures, 0);
	late.request_id = 5; /* no QUERY_MEM had such an id */
	fake_daemon_send(f, &late);
	world_settle(w);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "FREE_MEM does not fit"), 1);
	world_free(w);
}

static void
place__ends_when_stopping(void **state)
{
	struct world *w = world_of(1, 2, 2, 0);

	(void)state;
	world_daemon(w, 0)->lie = LIE_QUERY_MUTE;
	world_daemon(w, 1)->lie = LIE_QUERY_MUTE;
	use(w, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	assert_int_equal(world_stop(w), 0);
	assert_int_equal(sum_maps(w, 2), 0);
	world_free(w);
}

/* --- L2: one bad portal never stops mapping --- */

static void
l2_refused_portal(void **state)
{
	struct world *w = world_of(4, 3, 2, 0);

	(void)state;
	fake_daemon_set_up(world_daemon(w, 1), false);
	world_daemon_kill(w, 1, -ECONNREFUSED);
	world_settle(w);
	for (uint32_t i = 0; i < 4; i++) {
		use(w, i);
		assert_int_not_equal(daemon_of(w, i), 1);
	}
	world_free(w);
}

static void
l2_unreachable_portal(void **state)
{
	const struct world_config c = {
		.n_slabs = 4, .n_daemons = 3, .slabs_per_daemon = 8, .can_zero = true};
	struct world *w = world_new(&c);

	(void)state;
	world_daemon(w, 0)->lie = LIE_MUTE; /* connects, and never says a word */
	world_settle(w);
	for (uint32_t i = 0; i < 4; i++) {
		use(w, i);
		assert_int_not_equal(daemon_of(w, i), 0);
	}
	world_free(w);
}

/* It was there, and has not been found out yet: a moment, not its deadline. */
static void
l2_silent_portal(void **state)
{
	struct world *w = world_of(4, 2, 2, 0);

	(void)state;
	world_daemon(w, 0)->lie = LIE_MUTE;
	for (uint32_t i = 0; i < 4; i++) {
		use(w, i);
		after_grace(w);
		assert_int_equal(daemon_of(w, i), 1);
	}
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
l2_all_of_the_draw_are_silent(void **state)
{
	struct world *w = world_of(1, 4, 3, 0);

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		world_daemon(w, i)->lie = LIE_MUTE;
	use(w, 0);
	world_run(w, PLACEMENT_PATIENCE_NS + 2 * PLACEMENT_GRACE_NS);
	assert_int_equal(daemon_of(w, 0), 3);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

/* --- L3 and L4: several at once, answers in any order --- */

static void
step_until_all_are_mapped(struct world *w, uint32_t n_slabs)
{
	for (uint32_t i = 0; world_stats(w).slabs_mapped < n_slabs; i++) {
		assert_true(i < 200000);
		if (!fake_net_step_random(world_net(w)))
			world_pass(w, NSEC_PER_MSEC);
		if (fake_backup_pending(world_backup(w)) > 0)
			fake_backup_run(world_backup(w));
		world_advance(w);
		world_put_done(w);
		if (i % 1000 == 999) /* some found no room among the 16 at once */
			for (uint64_t slab = 0; slab < n_slabs; slab++)
				if (dw_slab_state(w, (uint32_t)slab) == SLAB_STATE_UNMAPPED)
					(void)dw_start(w, BACKEND_WRITE, 0, slab * MIB);
	}
}

static void
l3_control_answers_in_any_order(void **state)
{
	const struct ctl_msg unasked = {.type = CTL_FREE_MEM,
					.u.free_mem = {.free_slabs = 8, .usage_permille = 3}};

	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct world *w = world_of(6, 4, 2, seed);

		world_run(w, NSEC_PER_SEC);
		for (uint64_t slab = 0; slab < 6; slab++)
			(void)dw_start(w, BACKEND_WRITE, 0, slab * MIB);
		world_advance(w);
		/* News that nobody asked for come between question and answer. */
		for (uint32_t i = 0; i < 4; i++)
			if (world_daemon(w, i)->conn)
				fake_daemon_send(world_daemon(w, i), &unasked);
		step_until_all_are_mapped(w, 6);
		assert_int_equal(world_stats(w).remote_failures, 0);
		world_settle(w);
		world_check_remote(w);
		world_put_done(w);
		world_free(w);
	}
}

static void
l4_placements_do_not_disturb_each_other(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world *w = world_of(2 * PLACEMENTS_MAX, 4, 2, seed);
		uint32_t lent = 0;

		world_run(w, NSEC_PER_SEC);
		for (uint64_t slab = 0; slab < 2 * PLACEMENTS_MAX; slab++)
			(void)dw_start(w, BACKEND_WRITE, 0, slab * MIB);
		step_until_all_are_mapped(w, 2 * PLACEMENTS_MAX);
		for (uint32_t i = 0; i < 4; i++)
			lent += fake_daemon_lent(world_daemon(w, i));
		assert_int_equal(lent, 2 * PLACEMENTS_MAX); /* none twice, none forgotten */
		assert_int_equal(world_stats(w).remote_failures, 0);
		world_settle(w);
		world_check_remote(w);
		world_put_done(w);
		world_free(w);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(place__the_only_one_is_not_asked_first),
		cmocka_unit_test(place__lowest_usage_wins),
		cmocka_unit_test(place__daemons_without_a_slab_come_first),
		cmocka_unit_test(place__who_has_refused_is_asked_again),
		cmocka_unit_test(place__free_as_before_is_asked_for),
		cmocka_unit_test(place__draws_are_uniform),
		cmocka_unit_test(place__never_on_the_excluded),
		cmocka_unit_test(place__refused_goes_to_the_next),
		cmocka_unit_test(place__refused_by_all_is_not_asked_at_each_request),
		cmocka_unit_test(place__full_by_its_answer_gets_no_map),
		cmocka_unit_test(place__lost_while_it_maps_goes_to_the_next),
		cmocka_unit_test(place__nobody_answers),
		cmocka_unit_test(place__late_and_wrong_answers),
		cmocka_unit_test(place__ends_when_stopping),
		cmocka_unit_test(l2_refused_portal),
		cmocka_unit_test(l2_unreachable_portal),
		cmocka_unit_test(l2_silent_portal),
		cmocka_unit_test(l2_all_of_the_draw_are_silent),
		cmocka_unit_test(l3_control_answers_in_any_order),
		cmocka_unit_test(l4_placements_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
