/* SPDX-License-Identifier: MIT */
/* A slab that is wanted back moves to another daemon, whatever happens meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define PAGES 40u /* more than one block */
#define P (2 * PAGE_BYTES)
#define Q (3 * PAGE_BYTES)
#define LONG_MS 60000u

/* One slab, mapped on one of @n_daemons, with PAGES remote pages. */
static struct world *
world_to_move(uint32_t n_daemons, uint64_t migrate_rate)
{
	const struct world_config c = {
		.n_slabs = 1,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 2,
		.ack = SLAB_ACK_REMOTE,
		.migrate_rate = migrate_rate,
		.can_zero = true,
		.can_discard = true,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	dw_map(w, 0);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	assert_int_equal(world_device(w)->runs[0].pages_remote, PAGES);
	return w;
}

static uint32_t
home(struct world *w)
{
	return world_device(w)->arena.slabs[0].daemon;
}

static bool
is_at_new(struct world *w, uint64_t offset)
{
	const uint64_t page = offset / PAGE_BYTES;

	return (slab_at_home(world_device(w), (uint32_t)(page / BLOCK_PAGES)) >>
			page % BLOCK_PAGES &
		1) != 0;
}

/* The slab is MIGRATING and nothing is copied yet: operations are held.  Returns the old home. */
static struct world *
world_moving(uint32_t *ret_old, uint32_t deadline_ms)
{
	struct world *w = world_to_move(2, 256 * MIB);

	*ret_old = home(w);
	dw_hold_ops(w, true);
	fake_daemon_evict(world_daemon(w, *ret_old), 0, deadline_ms);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	assert_int_not_equal(home(w), *ret_old);
	assert_int_equal(world_daemon(w, *ret_old)->n_dones, 0);
	return w;
}

/* Every page is where it should be and reads right. */
static void
check_all(struct world *w)
{
	world_run(w, 100 * NSEC_PER_MSEC);
	world_check_counters(w);
	world_check_remote(w);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_int_equal(dw_read(w, i * PAGE_BYTES), 0);
	world_check_remote(w);
}

static void
migrate__moves_every_page_and_then_is_done(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_not_equal(home(w), old);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(world_daemon(w, old)->done_id, 1);
	assert_int_equal(fake_daemon_lent(world_daemon(w, old)), 0);
	assert_int_equal(world_stats(w).pages_migrated, PAGES);
	assert_int_equal(world_stats(w).migrations, 1);
	assert_int_equal(world_stats(w).evictions, 1);
	assert_int_equal(world_stats(w).slabs_mapped, 1);
	assert_int_equal(world_device(w)->remotes[old].slabs_mapped, 0);
	assert_int_equal(world_device(w)->remotes[1 - old].slabs_mapped, 1);
	assert_int_equal(world_device(w)->runs[0].pages_remote, PAGES);
	check_all(w);
	assert_int_equal(world_stats(w).pages_read_backup, 0); /* none fell to the disk */
	world_free(w);
}

static void
migrate__back_again(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		const uint32_t old = home(w);

		world_device(w)->remotes[1 - old].slabs_free = 1; /* as it would say itself */
		fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
		world_settle(w);
		assert_int_equal(home(w), 1 - old);
		check_all(w);
	}
	assert_int_equal(world_stats(w).migrations, 5);
	world_free(w);
}

static void
migrate__not_when_cold_or_off_or_nobody_has_room(void **state)
{
	struct world *w;
	uint32_t old;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		w = i == 0 ? world_to_move(2, 0) : world_to_move(i == 1 ? 1 : 2, 256 * MIB);
		old = home(w);
		if (i == 2)
			world_device(w)->config.hot_slab = 1e9;
		fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
		world_settle(w);
		assert_int_equal(world_daemon(w, old)->n_dones, 1);
		assert_int_equal(world_stats(w).migrations_begun, 0);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
		assert_int_equal(dw_read(w, P), 0);
		world_free(w);
	}
	w = world_to_move(2, 256 * MIB);
	old = home(w);
	world_daemon(w, 1 - old)->is_full = true; /* says so when it is asked for memory */
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
migrate__a_cold_slab_with_degraded_pages(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	world_device(w)->config.hot_slab = 1e9;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_dones, 1); /* the disk refuses: no matter */
	assert_int_equal(home(w), 1 - old);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(dw_read(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	check_all(w);
	world_free(w);
}

static void
meanwhile__writes_and_ranges_go_to_the_new_home(void **state)
{
	uint32_t old;
	struct world *w = world_moving(&old, LONG_MS);
	struct world_io *wr = dw_start(w, BACKEND_WRITE, 0, P);
	struct world_io *trim = dw_start(w, BACKEND_TRIM, 0, Q);
	struct world_io *zero = dw_start(w, BACKEND_ZERO, 0, 35 * PAGE_BYTES);
	struct world_io *part = world_submit(w, BACKEND_WRITE, 0, 5 * PAGE_BYTES + 512, 512);

	(void)state;
	world_settle(w);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(wr->is_done && trim->is_done && zero->is_done && part->is_done);
	assert_int_equal(dw_remote_version(w, 1 - old, P), wr->version);
	assert_false(dw_is_remote(w, Q));
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	world_put_done(w);
	check_all(w);
	world_free(w);
}

static void
meanwhile__a_copy_under_way_holds_back_a_write(void **state)
{
	uint32_t old;
	struct world *w = world_moving(&old, LONG_MS);
	struct world_io *wr;

	(void)state;
	dw_step_op(w); /* read from the old home; its copy is posted */
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_false(wr->is_done);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(wr->is_done);
	assert_int_equal(dw_remote_version(w, 1 - old, P), wr->version);
	world_put_done(w);
	check_all(w);
	world_free(w);
}

static void
meanwhile__reads_from_the_old_home_are_copied(void **state)
{
	struct world *w = world_to_move(2, 1); /* the copying itself is all but off */
	const uint32_t old = home(w);

	(void)state;
	world_device(w)->fill.migrate = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	assert_false(is_at_new(w, P));
	assert_int_equal(dw_read(w, P), 0);
	assert_true(is_at_new(w, P));
	assert_int_equal(world_stats(w).pages_read_remote, 1);
	assert_int_equal(world_stats(w).pages_migrated, 1);
	assert_int_equal(world_do(w, BACKEND_READ, 0, 4 * PAGE_BYTES), 0); /* of both homes */
	assert_int_equal(world_stats(w).pages_read_remote, 5);
	world_check_remote(w);
	world_check_counters(w);
	world_free(w);
}

static void
meanwhile__a_write_posted_before_ends_at_the_old_home(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);
	struct world_io *wr;

	(void)state;
	world_hold_backup(w, true);
	dw_hold_ops(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	dw_step_op(w); /* that write */
	assert_true(wr->is_done);
	assert_true(dw_is_remote(w, P));
	assert_false(is_at_new(w, P));
	dw_hold_ops(w, false);
	world_run(w, 50 * NSEC_PER_MSEC);
	assert_true(is_at_new(w, P));
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING); /* not on the backup yet */
	assert_int_equal(world_daemon(w, old)->n_dones, 0);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	world_put_done(w);
	check_all(w);
	world_free(w);
}

/* Cuts @daemon off with held operations, then lets everything happen. */
static void
lose_now(struct world *w, uint32_t daemon)
{
	fake_daemon_set_up(world_daemon(w, daemon), false);
	world_daemon_kill(w, daemon, -ECONNRESET);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_settle(w);
}

static void
lost__either_home_after_every_number_of_steps(void **state)
{
	(void)state;
	for (uint32_t which = 0; which < 3; which++)
		for (uint32_t steps = 0; steps <= 5; steps++) {
			uint32_t old;
			struct world *w = world_moving(&old, LONG_MS);

			(void)dw_start(w, BACKEND_WRITE, 0, P);
			world_settle(w);
			for (uint32_t i = 0; i < steps; i++)
				if (fake_net_pending(world_net(w), FAKE_OP, NULL) > 0)
					dw_step_op(w);
			if (which != 1)
				lose_now(w, old);
			if (which != 0)
				lose_now(w, 1 - old);
			world_put_done(w);
			world_check_counters(w);
			assert_int_equal(world_stats(w).pages_lost, 0);
			if (which == 2)
				assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
			if (which == 1 && steps < 5) /* evicted from the old one */
				assert_int_equal(world_daemon(w, old)->n_dones, 1);
			check_all(w);
			world_free(w);
		}
}

static void
lost__the_new_home_with_pages_that_the_backup_refuses(void **state)
{
	uint32_t old;
	struct world *w = world_moving(&old, LONG_MS);
	struct world_io *wr;

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	dw_hold_ops(w, false);
	world_device(w)->config.migrate_rate = 1; /* not done too soon */
	world_settle(w);
	assert_true(wr->is_done && wr->status == 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	world_put_done(w);
	world_allow_read_errors(w);
	lose_now(w, 1 - old);
	world_check_counters(w);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(dw_read(w, Q), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	world_run(w, NSEC_PER_SEC);
	check_all(w);
	world_free(w);
}

static void
lost__a_copied_page_that_the_backup_refuses_survives_either_loss(void **state)
{
	(void)state;
	for (uint32_t which = 0; which < 2; which++) {
		struct world *w = world_to_move(2, 256 * MIB);
		const uint32_t old = home(w);

		fake_backup_fail_writes(world_backup(w), -EIO);
		assert_int_equal(dw_write(w, P), 0);
		world_hold_backup(w, true);
		(void)dw_start(w, BACKEND_WRITE, 0, Q); /* keeps the old home from being done */
		world_settle(w);
		fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
		world_settle(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
		assert_true(is_at_new(w, P));
		lose_now(w, which == 0 ? old : 1 - old);
		assert_int_equal(world_stats(w).pages_lost, 0);
		assert_int_equal(dw_read(w, P), 0);
		assert_int_equal(dw_read(w, Q), 0);
		world_check_counters(w);
		fake_backup_fail_writes(world_backup(w), 0);
		world_run(w, 3 * NSEC_PER_SEC);
		assert_int_equal(world_stats(w).pages_degraded, 0);
		world_put_done(w);
		check_all(w);
		world_free(w);
	}
}

static void
lost__the_old_home_with_a_page_that_nobody_else_has(void **state)
{
	struct world *w = world_to_move(2, 1);
	const uint32_t old = home(w);

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	world_device(w)->fill.migrate = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	world_allow_read_errors(w);
	lose_now(w, old);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING); /* until it is rewritten */
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(dw_write(w, Q), 0); /* degraded, at the new home */
	world_check_counters(w);
	assert_int_equal(dw_flush(w), -EIO);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(dw_flush(w), 0);
	check_all(w);
	world_free(w);
}

static void
deadline__near_it_pages_on_the_backup_are_left_there(void **state)
{
	struct world *w = world_to_move(2, 1);
	const uint32_t old = home(w);

	(void)state;
	world_device(w)->fill.migrate = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	fake_daemon_evict(world_daemon(w, old), 0, 1000);
	world_run(w, 700 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(home(w), 1 - old);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(world_stats(w).evictions_late, 0);
	check_all(w);
	world_free(w);
}

static void
deadline__the_old_home_is_lost(void **state)
{
	struct world *w = world_to_move(2, 1);
	const uint32_t old = home(w);

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	world_device(w)->fill.migrate = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	fake_daemon_evict(world_daemon(w, old), 0, 1000);
	world_run(w, 1100 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, old)->n_dones, 0);
	assert_int_equal(world_stats(w).evictions_late, 1);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_daemon_revoke(fake_daemon_find(world_daemon(w, old), 0));
	world_settle(w);
	assert_int_equal(dw_read(w, Q), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	check_all(w);
	world_free(w);
}

/* All pages are at the new home, and the backup is yet to get one (simulator seed 1059393). */
static void
deadline__the_backup_has_all_of_it(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world *w = world_to_move(2, 256 * MIB);
		const uint32_t old = home(w);

		world_hold_backup(w, true);
		assert_int_equal(dw_write(w, P), 0);
		fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
		world_run(w, LONG_MS * NSEC_PER_MSEC / 10 * 9);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
		assert_int_equal(world_daemon(w, old)->n_dones, 0);
		if (i == 1)
			world_run(w, LONG_MS * NSEC_PER_MSEC / 5);
		world_hold_backup(w, false);
		world_settle(w);
		assert_int_equal(world_daemon(w, old)->n_dones, 1 - i);
		assert_int_equal(world_stats(w).evictions_late, i);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
		assert_int_equal(home(w), 1 - old);
		assert_int_equal(world_stats(w).pages_lost, 0);
		check_all(w);
		world_free(w);
	}
}

static void
deadline__half_of_it_is_spent_on_looking(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	world_daemon(w, 1 - old)->lie = LIE_MAP_MUTE;
	fake_daemon_evict(world_daemon(w, old), 0, 1000);
	world_run(w, 400 * NSEC_PER_MSEC);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED); /* as ever */
	assert_int_equal(dw_write(w, P), 0);
	assert_true(dw_is_remote(w, P));
	world_run(w, 200 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
orphan__what_comes_too_late_goes_back(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	fake_daemon_evict(world_daemon(w, old), 0, 1000);
	world_run(w, 600 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED); /* hot, but not mapped yet */
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_settle(w);
	assert_int_equal(world_daemon(w, 1 - old)->n_unmaps, 1);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 1 - old)), 0);
	assert_int_equal(world_device(w)->remotes[1 - old].slabs_mapped, 0);
	assert_null(world_device(w)->runs[0].migration);
	dw_map(w, 0);
	check_all(w);
	world_free(w);
}

/* It was to go anyway, and had more time for it (simulator seed 1586946). */
static void
orphan__wanted_back_while_looking_as_we_like(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	assert_true(slab_evict_begin(world_device(w), 0, 10 * NSEC_PER_SEC));
	world_settle(w);
	fake_daemon_evict(world_daemon(w, old), 0, 1000);
	world_run(w, 600 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(world_stats(w).evictions_late, 0);
	assert_int_equal(dw_read(w, P), 0);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_settle(w);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 1 - old)), 0);
	world_free(w);
}

static void
orphan__the_old_home_is_lost_while_looking(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	world_settle(w);
	dw_lose(w, old);
	world_hold_backup(w, false);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_settle(w);
	assert_int_equal(world_daemon(w, 1 - old)->n_unmaps, 1);
	assert_null(world_device(w)->runs[0].migration);
	assert_int_equal(dw_read(w, P), 0);
	dw_map(w, 0);
	check_all(w);
	world_free(w);
}

static void
evict__of_the_new_home_waits_for_the_move(void **state)
{
	uint32_t old;
	struct world *w = world_moving(&old, LONG_MS);

	(void)state;
	fake_daemon_evict(world_daemon(w, 1 - old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(world_daemon(w, 1 - old)->n_dones, 0);
	dw_hold_ops(w, false);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(world_daemon(w, 1 - old)->n_dones, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).remote_failures, 0);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_true(dw_is_backup(w, i * PAGE_BYTES));
	world_free(w);
}

static void
evict__again_while_moving_answers_the_newest(void **state)
{
	uint32_t old;
	struct world *w = world_moving(&old, LONG_MS);

	(void)state;
	fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
	fake_daemon_check_activity(world_daemon(w, old), 0);
	fake_daemon_check_activity(world_daemon(w, 1 - old), 0);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_activities, 1);
	assert_int_equal(world_daemon(w, 1 - old)->n_activities, 1);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_dones, 1);
	assert_int_equal(world_daemon(w, old)->done_id, 2);
	check_all(w);
	world_free(w);
}

static void
stop__during_a_move(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world *w = world_to_move(2, 1);
		const uint32_t old = home(w);

		if (i == 1)
			fake_backup_fail_writes(world_backup(w), -EIO);
		assert_int_equal(dw_write(w, P), 0);
		world_device(w)->fill.migrate =
			(struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
		fake_daemon_evict(world_daemon(w, old), 0, LONG_MS);
		world_settle(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
		fake_backup_fail_writes(world_backup(w), 0);
		assert_int_equal(world_stop(w), 0);
		world_check_backup(w);
		world_free(w);
	}
}

static void
give_back__moves_first(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	assert_true(slab_evict_begin(world_device(w), 0, NSEC_PER_SEC));
	assert_false(slab_evict_begin(world_device(w), 0, NSEC_PER_SEC));
	world_settle(w);
	assert_int_equal(home(w), 1 - old);
	assert_int_equal(world_daemon(w, old)->n_unmaps, 1);
	assert_int_equal(world_daemon(w, old)->n_dones, 0);
	assert_int_equal(fake_daemon_lent(world_daemon(w, old)), 0);
	assert_int_equal(world_stats(w).slabs_given_back, 1);
	assert_null(world_device(w)->runs[0].migration);
	check_all(w);
	world_free(w);
}

/* Nobody takes the memory: a page that the backup refuses waits at the old home. */
static void
give_back__loses_nothing_when_it_takes_long(void **state)
{
	struct world *w = world_to_move(2, 1);
	const uint32_t old = home(w);

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	world_device(w)->fill.migrate = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	assert_true(slab_evict_begin(world_device(w), 0, NSEC_PER_SEC));
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(fake_daemon_lent(world_daemon(w, old)), 1);
	assert_int_equal(dw_read(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(fake_daemon_lent(world_daemon(w, old)), 0);
	assert_int_equal(home(w), 1 - old);
	check_all(w);
	world_free(w);
}

/* Nor does it matter that the new home is wanted back too (simulator seed 1057581, invariant 4). */
static void
give_back__waits_for_the_backup_though_the_new_home_goes_too(void **state)
{
	struct world *w = world_to_move(2, 256 * MIB);
	const uint32_t old = home(w);

	(void)state;
	world_hold_backup(w, true);
	assert_int_equal(dw_write(w, P), 0);
	assert_true(slab_evict_begin(world_device(w), 0, NSEC_PER_SEC));
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	fake_daemon_evict(world_daemon(w, 1 - old), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(fake_daemon_lent(world_daemon(w, old)), 1);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_daemon(w, old)->n_unmaps, 1);
	assert_int_equal(world_daemon(w, 1 - old)->n_dones, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	world_check_backup(w);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(migrate__moves_every_page_and_then_is_done),
		cmocka_unit_test(migrate__back_again),
		cmocka_unit_test(migrate__not_when_cold_or_off_or_nobody_has_room),
		cmocka_unit_test(migrate__a_cold_slab_with_degraded_pages),
		cmocka_unit_test(meanwhile__writes_and_ranges_go_to_the_new_home),
		cmocka_unit_test(meanwhile__a_copy_under_way_holds_back_a_write),
		cmocka_unit_test(meanwhile__reads_from_the_old_home_are_copied),
		cmocka_unit_test(meanwhile__a_write_posted_before_ends_at_the_old_home),
		cmocka_unit_test(lost__either_home_after_every_number_of_steps),
		cmocka_unit_test(lost__the_new_home_with_pages_that_the_backup_refuses),
		cmocka_unit_test(lost__a_copied_page_that_the_backup_refuses_survives_either_loss),
		cmocka_unit_test(lost__the_old_home_with_a_page_that_nobody_else_has),
		cmocka_unit_test(deadline__near_it_pages_on_the_backup_are_left_there),
		cmocka_unit_test(deadline__the_old_home_is_lost),
		cmocka_unit_test(deadline__the_backup_has_all_of_it),
		cmocka_unit_test(deadline__half_of_it_is_spent_on_looking),
		cmocka_unit_test(orphan__what_comes_too_late_goes_back),
		cmocka_unit_test(orphan__wanted_back_while_looking_as_we_like),
		cmocka_unit_test(orphan__the_old_home_is_lost_while_looking),
		cmocka_unit_test(evict__of_the_new_home_waits_for_the_move),
		cmocka_unit_test(evict__again_while_moving_answers_the_newest),
		cmocka_unit_test(stop__during_a_move),
		cmocka_unit_test(give_back__moves_first),
		cmocka_unit_test(give_back__loses_nothing_when_it_takes_long),
		cmocka_unit_test(give_back__waits_for_the_backup_though_the_new_home_goes_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
