/* SPDX-License-Identifier: MIT */
/* A device without a backup: pages are on their daemons alone. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)
#define Q (5 * PAGE_BYTES)
#define DEADLINE_MS 1000u

static struct world *
world_bare(uint32_t n_slabs, uint32_t n_daemons, uint64_t migrate_rate)
{
	const struct world_config c = {
		.n_slabs = n_slabs,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 4,
		.ack = SLAB_ACK_REMOTE,
		.migrate_rate = migrate_rate,
		.hot_slab = 1000, /* it is not asked for */
		.refill_rate = MIB,
		.hedge_ns = 10 * NSEC_PER_MSEC,
		.has_no_backup = true,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

static void
assert_calm(struct world *w)
{
	world_check_counters(w);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(world_stats(w).backup_errors, 0);
	assert_int_equal(world_stats(w).writes_kept_total, 0);
	assert_int_equal(world_said(w, "backup: "), 0);
}

static uint32_t
home(struct world *w)
{
	return world_device(w)->arena.slabs[0].daemon;
}

/* Of the reads that fail is said how many pages they are. */
static void
assert_lost(struct world *w, uint32_t n)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%u pages are lost: there is no backup", n);
	assert_int_equal(world_said(w, text), 1);
	assert_int_equal(world_stats(w).pages_lost, n);
}

static void
write__waits_for_its_mapping_and_is_remote_only(void **state)
{
	struct world *w = world_bare(2, 1, 0);
	struct world_io *wio;

	(void)state;
	dw_hold_ops(w, true);
	wio = dw_start(w, BACKEND_WRITE, BACKEND_FUA, P);
	world_run(w, 20 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_false(wio->is_done); /* not before its only copy is complete */
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(wio->is_done);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	assert_true(dw_is_remote(w, P));
	assert_false(dw_is_backup(w, P));
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(dw_flush(w), 0);
	assert_calm(w);
	assert_int_equal(world_stats(w).writes_unsafe, 0);
	assert_int_equal(world_stop(w), 0);
	assert_int_equal(world_said(w, "1 pages are gone"), 1);
	world_free(w);
}

static void
write__maps_as_soon_as_the_answer_is_there(void **state)
{
	struct world *w = world_bare(2, 1, 0);

	(void)state;
	assert_int_equal(dw_write(w, P), 0); /* no time has passed */
	assert_int_equal(dw_write(w, MIB), 0);
	world_free(w);
}

static void
write__nobody_lends_fails_in_bounded_time(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *first, *second, *flush;

	(void)state;
	dw_lose(w, 0);
	first = dw_start(w, BACKEND_WRITE, 0, P);
	second = dw_start(w, BACKEND_WRITE, 0, P);
	flush = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_run(w, 7 * NSEC_PER_SEC);
	assert_false(first->is_done);
	world_run(w, 2 * NSEC_PER_SEC); /* together, though one waits for the other */
	assert_int_equal(first->status, -ENOSPC);
	assert_int_equal(second->status, -ENOSPC);
	assert_int_equal(flush->status, 0);
	world_put_done(w);
	assert_int_equal(world_pending(w), 0);
	assert_int_equal(dw_read(w, P), 0); /* zeros, as before */
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_calm(w);
	world_free(w);
}

/* Its time does not begin before it came, however long the device had nothing to do. */
static void
write__after_a_long_pause_waits_as_long(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	dw_lose(w, 0);
	world_pass(w, 5 * NSEC_PER_SEC);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 7 * NSEC_PER_SEC);
	assert_false(wio->is_done);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(wio->status, -ENOSPC);
	world_put(wio);
	world_free(w);
}

static void
write__a_daemon_that_comes_in_time_takes_it(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	dw_lose(w, 0);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_false(wio->is_done);
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(wio->is_done);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
assert_waits_in_vain(struct world *w, uint64_t offset_bytes)
{
	struct world_io *wio = dw_start(w, BACKEND_WRITE, 0, offset_bytes);

	world_run(w, 7 * NSEC_PER_SEC);
	assert_false(wio->is_done);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(wio->status, -ENOSPC);
	world_put(wio);
}

static void
assert_fails_soon(struct world *w, uint64_t offset_bytes)
{
	struct world_io *wio = dw_start(w, BACKEND_WRITE, 0, offset_bytes);

	world_run(w, 20 * NSEC_PER_MSEC);
	assert_int_equal(wio->status, -ENOSPC);
	world_put(wio);
}

/* Seed 7091222: what did not fit the buffers waited for all that came before it. */
static void
write__after_one_that_waited_in_vain_fails_soon(void **state)
{
	struct world *w = world_bare(1, 1, 0);

	(void)state;
	dw_lose(w, 0);
	assert_waits_in_vain(w, P);
	assert_fails_soon(w, Q);
	world_pass(w, 60 * NSEC_PER_SEC);
	assert_fails_soon(w, P);
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_write(w, P), 0);
	world_allow_read_errors(w);
	dw_lose(w, 0);
	assert_waits_in_vain(w, P); /* anew */
	world_free(w);
}

/* The device's patience is spent; the answer may still come. */
static void
write__a_daemon_is_asked_for_waits_for_the_answer(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	dw_lose(w, 0);
	assert_waits_in_vain(w, P);
	world_daemon(w, 0)->lie = LIE_MAP_MUTE;
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	assert_false(wio->is_done);
	world_run(w, 14 * NSEC_PER_SEC);
	assert_int_equal(wio->status, -ENOSPC);
	world_put(wio);
	world_free(w);
}

/* That all are full is no reason to give a slab up whose daemon was there a moment ago. */
static void
write__of_a_slab_that_is_lost_waits_though_others_have_failed(void **state)
{
	struct world *w = world_bare(2, 1, 0);
	struct world_io *wio;

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	world_daemon(w, 0)->is_full = true;
	assert_waits_in_vain(w, MIB);
	assert_fails_soon(w, MIB);
	dw_lose(w, 0);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_false(wio->is_done);
	world_daemon(w, 0)->is_full = false;
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	assert_int_equal(dw_write(w, MIB), 0);
	world_free(w);
}

static void
daemon_lost__eio_until_rewritten_and_the_slab_maps_at_once(void **state)
{
	struct world *w = world_bare(1, 1, 0);

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	dw_lose(w, 0);
	assert_lost(w, 2);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(dw_read(w, P + PAGE_BYTES), 0); /* zeros */
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_do(w, BACKEND_WRITE, P + 512, 512), -EIO); /* a part of it */
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), -EIO);
	assert_int_equal(dw_flush(w), 0);
	world_check_counters(w);
	assert_int_equal(world_do(w, BACKEND_TRIM, Q, PAGE_BYTES), 0);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_calm(w);
	world_free(w);
}

static void
daemon_lost__under_a_write_it_goes_to_another(void **state)
{
	struct world *w = world_bare(1, 2, 0);
	struct world_io *wio;

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	dw_hold_ops(w, true);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	dw_lose(w, home(w));
	dw_hold_ops(w, false);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_true(wio->is_done);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	assert_int_equal(dw_read(w, P), 0);
	assert_lost(w, 1);
	assert_int_equal(dw_read(w, Q), -EIO);
	assert_calm(w);
	world_free(w);
}

/* Nothing to hedge a read with, not even when its pages are lost while it is under way. */
static void
daemon_lost__under_a_read(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	dw_hold_ops(w, true);
	fake_net_hold(world_net(w), FAKE_DOWN, true);
	wio = dw_start(w, BACKEND_READ, 0, P);
	world_settle(w);
	remote_close(&world_device(w)->remotes[0]);
	assert_true(dw_is_backup(w, P)); /* lost */
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).reads_hedged, 0);
	fake_net_hold(world_net(w), FAKE_DOWN, false);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(wio->is_done);
	assert_int_equal(wio->status, -EIO);
	world_put(wio);
	world_free(w);
}

/* What a failed write may be spoilt: nobody reads it. */
static void
daemon_lost__under_a_write_and_nobody_else_lends(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	dw_hold_ops(w, true);
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	dw_lose(w, 0);
	dw_hold_ops(w, false);
	world_run(w, 9 * NSEC_PER_SEC);
	assert_int_equal(wio->status, -ENOSPC);
	world_put(wio);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_fails_soon(w, P); /* once more: it was lost, and stays so */
	assert_int_equal(dw_read(w, P), -EIO);
	assert_calm(w);
	world_free(w);
}

static void
trim_and_zero__clear_the_bits(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *wio;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, PAGE_BYTES), 0);
	assert_int_equal(world_do(w, BACKEND_ZERO, PAGE_BYTES, PAGE_BYTES), 0);
	wio = dw_start(w, BACKEND_ZERO, BACKEND_FAST_ZERO | BACKEND_NO_HOLE | BACKEND_FUA, P);
	world_settle(w);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(dw_is_remote(w, i * PAGE_BYTES), i == 3);
		assert_int_equal(dw_read(w, i * PAGE_BYTES), 0);
	}
	assert_calm(w);
	world_free(w);
}

static void
flush__waits_for_the_writes_before_it_and_for_no_others(void **state)
{
	struct world *w = world_bare(1, 1, 0);
	struct world_io *flush;

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	flush = dw_start(w, BACKEND_FLUSH, 0, 0);
	(void)dw_start(w, BACKEND_WRITE, 0, Q);
	world_settle(w);
	assert_false(flush->is_done);
	dw_step_op(w);
	world_hold_backup(w, false);
	assert_true(flush->is_done);
	assert_int_equal(world_pending(w), 1);
	dw_hold_ops(w, false);
	world_settle(w);
	world_put_done(w);
	world_free(w);
}

static void
evict__a_slab_moves_with_all_its_pages(void **state)
{
	struct world *w = world_bare(1, 2, 256 * MIB);
	uint32_t old;

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	old = home(w);
	fake_daemon_evict(world_daemon(w, old), 0, DEADLINE_MS);
	world_run(w, DEADLINE_MS / 2 * NSEC_PER_MSEC);
	assert_int_not_equal(home(w), old);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(dw_read(w, i * PAGE_BYTES), 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_calm(w);
	world_free(w);
}

/* Invariant 4: nobody says DONE for pages that are only there. */
static void
evict__nowhere_to_go_is_no_done_and_lost_at_the_deadline(void **state)
{
	struct world *w = world_bare(1, 1, 256 * MIB);
	struct world_io *wio;

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	fake_daemon_evict(world_daemon(w, 0), 0, DEADLINE_MS);
	world_run(w, DEADLINE_MS / 10 * 9 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
	assert_int_equal(world_daemon(w, 0)->n_dones, 0);
	assert_int_equal(dw_read(w, P), 0);
	wio = dw_start(w, BACKEND_WRITE, 0, P); /* not to a slab that is taken away */
	world_settle(w);
	assert_false(wio->is_done);
	world_run(w, DEADLINE_MS / 5 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, 0)->n_dones, 0);
	assert_lost(w, 1);
	fake_daemon_revoke(fake_daemon_find(world_daemon(w, 0), 0));
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(wio->is_done);
	assert_int_equal(wio->status, 0);
	world_put(wio);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), -EIO);
	assert_calm(w);
	world_free(w);
}

static void
give_back__only_what_is_empty(void **state)
{
	struct world *w = world_bare(1, 1, 0);

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	assert_false(slab_evict_begin(world_device(w), 0, 0));
	assert_false(slab_evict_begin(world_device(w), 0, NSEC_PER_SEC));
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, BLOCK_BYTES), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).slabs_given_back, 1);
	world_free(w);
}

/* A portal that is removed keeps its pages until another daemon has room, however long. */
static void
leave__waits_for_room_elsewhere(void **state)
{
	struct world *w = world_bare(1, 2, 256 * MIB);
	uint32_t old;

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	old = home(w);
	world_daemon(w, !old)->is_full = true;
	assert_int_equal(slab_device_set_portals(world_device(w), &world_portals(w)[!old], 1), 0);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(home(w), old);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_said(w, "cannot leave yet"), 1);
	assert_int_equal(dw_write(w, Q), 0);
	world_daemon(w, !old)->is_full = false;
	world_daemon_kill(w, !old, -ECONNRESET); /* it is asked anew when it is back */
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_not_equal(home(w), old);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), 0);
	assert_calm(w);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(write__waits_for_its_mapping_and_is_remote_only),
		cmocka_unit_test(write__maps_as_soon_as_the_answer_is_there),
		cmocka_unit_test(write__nobody_lends_fails_in_bounded_time),
		cmocka_unit_test(write__after_a_long_pause_waits_as_long),
		cmocka_unit_test(write__a_daemon_that_comes_in_time_takes_it),
		cmocka_unit_test(write__after_one_that_waited_in_vain_fails_soon),
		cmocka_unit_test(write__a_daemon_is_asked_for_waits_for_the_answer),
		cmocka_unit_test(write__of_a_slab_that_is_lost_waits_though_others_have_failed),
		cmocka_unit_test(daemon_lost__eio_until_rewritten_and_the_slab_maps_at_once),
		cmocka_unit_test(daemon_lost__under_a_write_it_goes_to_another),
		cmocka_unit_test(daemon_lost__under_a_read),
		cmocka_unit_test(daemon_lost__under_a_write_and_nobody_else_lends),
		cmocka_unit_test(trim_and_zero__clear_the_bits),
		cmocka_unit_test(flush__waits_for_the_writes_before_it_and_for_no_others),
		cmocka_unit_test(evict__a_slab_moves_with_all_its_pages),
		cmocka_unit_test(evict__nowhere_to_go_is_no_done_and_lost_at_the_deadline),
		cmocka_unit_test(give_back__only_what_is_empty),
		cmocka_unit_test(leave__waits_for_room_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
