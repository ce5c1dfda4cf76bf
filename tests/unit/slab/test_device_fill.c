/* SPDX-License-Identifier: MIT */
/* Refill: what only the backup has comes back to remote memory, and never over newer bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define PAGES 40u /* more than one block */
#define P (3 * PAGE_BYTES)

/* One daemon that is away, pages 0 to PAGES - 1 on the backup alone. */
static struct world *
world_without_daemon(uint32_t n_slabs, uint64_t refill_rate)
{
	const struct world_config c = {
		.n_slabs = n_slabs,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.ack = SLAB_ACK_REMOTE,
		.refill_rate = refill_rate,
		.can_zero = true,
		.can_discard = true,
	};
	struct world *w = world_new(&c);

	fake_daemon_set_up(world_daemon(w, 0), false);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_settle(w);
	for (uint32_t slab = 0; slab < n_slabs; slab++)
		for (uint32_t i = 0; i < PAGES; i++)
			assert_int_equal(dw_write(w, slab * MIB + i * PAGE_BYTES), 0);
	return w;
}

static void
daemon_returns(struct world *w)
{
	fake_daemon_set_up(world_daemon(w, 0), true);
	while (!world_device(w)->remotes[0].conn ||
	       world_device(w)->remotes[0].state != REMOTE_UP) {
		world_pass(w, 10 * NSEC_PER_MSEC);
		world_settle(w);
	}
}

static uint32_t
pages_remote(struct world *w, uint32_t slab)
{
	return world_device(w)->runs[slab].pages_remote;
}

static void
refill__everything_that_the_backup_has(void **state)
{
	struct world *w = world_without_daemon(1, 64 * MIB);

	(void)state;
	daemon_returns(w);
	dw_map(w, 0);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).pages_refilled,
			 PAGES + 1); /* with the one that mapped it */
	assert_int_equal(world_stats(w).pages_promoted, 0);
	assert_int_equal(world_stats(w).pages_read_backup, 0); /* nobody asked */
	for (uint32_t i = 0; i < PAGES; i++) {
		assert_true(dw_is_remote(w, i * PAGE_BYTES));
		assert_true(dw_is_backup(w, i * PAGE_BYTES));
	}
	world_check_remote(w);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_remote, 1);
	world_free(w);
}

static void
refill__off(void **state)
{
	struct world *w = world_without_daemon(1, 0);

	(void)state;
	daemon_returns(w);
	dw_map(w, 0);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_refilled, 0);
	assert_int_equal(pages_remote(w, 0), 0);
	world_free(w);
}

static void
refill__one_slab_after_the_other(void **state)
{
	struct world *w = world_without_daemon(3, 64 * MIB);

	(void)state;
	daemon_returns(w);
	for (uint32_t slab = 0; slab < 3; slab++)
		dw_map(w, slab);
	world_run(w, 100 * NSEC_PER_MSEC);
	for (uint32_t slab = 0; slab < 3; slab++)
		assert_int_equal(pages_remote(w, slab), PAGES + 1);
	world_check_remote(w);
	world_free(w);
}

static void
refill__the_hottest_slab_first(void **state)
{
	struct world *w = world_without_daemon(3, MIB / 4);

	(void)state;
	daemon_returns(w);
	world_device(w)->fill.refill = (struct fill_rate){.bytes = 0, .at_ns = world_now(w)};
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(dw_write(w, 3 * MIB - PAGE_BYTES), 0);
	world_settle(w);
	dw_map(w, 0);
	dw_map(w, 1);
	world_run(w, 500 * NSEC_PER_MSEC);
	assert_true(pages_remote(w, 2) > 30);
	assert_int_equal(pages_remote(w, 0), 0);
	assert_int_equal(pages_remote(w, 1), 0);
	world_free(w);
}

static void
refill__keeps_to_its_rate(void **state)
{
	struct world *w = world_without_daemon(1, MIB / 4);
	uint64_t before;

	(void)state;
	for (uint32_t i = PAGES; i < 255; i++)
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	daemon_returns(w);
	dw_map(w, 0);
	world_settle(w);
	before = world_stats(w).pages_refilled;
	assert_true(before <= 128); /* what a pause has saved up */
	world_run(w, NSEC_PER_SEC);
	assert_in_range(world_stats(w).pages_refilled - before, 32, 64);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(pages_remote(w, 0), 256);
	world_free(w);
}

/* The slab is mapped, refill has begun: its first remote WRITE is held. */
static struct world *
world_in_refill(void)
{
	struct world *w = world_without_daemon(1, 64 * MIB);

	daemon_returns(w);
	dw_hold_ops(w, true);
	assert_int_equal(dw_write(w, MIB - PAGE_BYTES), 0);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_true(fake_net_pending(world_net(w), FAKE_OP, NULL) > 0);
	assert_int_equal(world_stats(w).pages_refilled, 0);
	return w;
}

static void
refill__never_overwrites_a_newer_page(void **state)
{
	struct world *w = world_in_refill();
	struct world_io *wr = dw_start(w, BACKEND_WRITE, 0, P);
	struct world_io *zero = dw_start(w, BACKEND_ZERO, 0, P + PAGE_BYTES);
	struct world_io *trim = dw_start(w, BACKEND_TRIM, 0, P + 2 * PAGE_BYTES);

	(void)state;
	world_settle(w);
	/* The copy is under way: they wait for it. */
	assert_false(wr->is_done || zero->is_done || trim->is_done);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(wr->is_done && zero->is_done && trim->is_done);
	assert_int_equal(dw_remote_version(w, 0, P), wr->version);
	assert_false(dw_is_remote(w, P + PAGE_BYTES));
	assert_false(dw_is_remote(w, P + 2 * PAGE_BYTES));
	world_check_remote(w);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, P + PAGE_BYTES), 0);
	assert_int_equal(dw_read(w, P + 2 * PAGE_BYTES), 0);
	world_free(w);
}

static void
refill__whose_turn_comes_after_a_write_leaves_the_page_alone(void **state)
{
	struct world *w = world_without_daemon(1, 64 * MIB);
	struct world_io *wr;

	(void)state;
	daemon_returns(w);
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P); /* under way on the backup when refill begins */
	dw_settle_but_backup(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_false(wr->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(wr->is_done);
	world_run(w, 100 * NSEC_PER_MSEC);
	world_check_remote(w);
	if (dw_is_remote(w, P))
		assert_int_equal(dw_remote_version(w, 0, P), wr->version);
	assert_int_equal(dw_read(w, P), 0);
	world_check_remote(w);
	world_free(w);
}

static void
refill__yields_to_requests(void **state)
{
	struct world *w = world_without_daemon(1, 64 * MIB);
	const uint32_t n_pages = (uint32_t)(world_stats(w).buffer_bytes / PAGE_BYTES);

	(void)state;
	daemon_returns(w);
	world_hold_backup(w, true);
	/* Reads that wait for the backup hold more than half of the buffers. */
	for (uint32_t held = 0; held <= n_pages / 2; held += BLOCK_PAGES)
		assert_non_null(world_submit(w, BACKEND_READ, 0, 0, BLOCK_BYTES));
	assert_non_null(dw_start(w, BACKEND_WRITE, 0, MIB - PAGE_BYTES));
	dw_settle_but_backup(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_device(w)->fill.n_pieces, 0);
	world_hold_backup(w, false);
	world_settle(w);
	world_put_done(w);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(pages_remote(w, 0), PAGES + 1);
	world_check_remote(w);
	world_free(w);
}

static void
refill__ends_with_its_daemon(void **state)
{
	struct world *w = world_in_refill();

	(void)state;
	dw_lose(w, 0);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_stats(w).pages_refilled, 0);
	assert_int_equal(pages_remote(w, 0), 0);
	assert_int_equal(world_device(w)->fill.n_pieces, 0);
	assert_int_equal(dw_read(w, P), 0);
	daemon_returns(w);
	dw_map(w, 0);
	world_run(w, 100 * NSEC_PER_MSEC);
	assert_int_equal(pages_remote(w, 0), PAGES + 1); /* from the start again */
	world_check_remote(w);
	world_free(w);
}

static void
refill__goes_on_when_the_backup_can_be_read_again(void **state)
{
	struct world *w = world_without_daemon(1, 64 * MIB);

	(void)state;
	daemon_returns(w);
	fake_backup_fail_reads(world_backup(w), -EIO);
	dw_map(w, 0);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_refilled, 0);
	assert_in_range(world_stats(w).backup_errors, 1, 5 * 16); /* no storm */
	assert_int_equal(world_stats(w).read_errors, 0);
	fake_backup_fail_reads(world_backup(w), 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_true(dw_is_remote(w, P)); /* promotion goes on */
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(pages_remote(w, 0), PAGES + 1);
	world_free(w);
}

static void
refill__of_a_write_that_began_before_the_mapping(void **state)
{
	struct world *w = world_without_daemon(1, 64 * MIB);

	(void)state;
	daemon_returns(w);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P); /* maps the slab, goes to the backup alone */
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	for (uint32_t i = 0; i < 100; i++) { /* all but that one */
		while (fake_backup_pending(world_backup(w)) > 1)
			fake_backup_step(world_backup(w), 1);
		world_settle(w);
	}
	assert_int_equal(pages_remote(w, 0), PAGES - 1);
	world_hold_backup(w, false);
	world_run(w, NSEC_PER_SEC);
	assert_true(dw_is_remote(w, P));
	assert_true(list_is_empty(&world_device(w)->fill.waiting));
	world_check_remote(w);
	world_free(w);
}

static void
refill__does_not_hold_up_a_stop(void **state)
{
	struct world *w = world_without_daemon(1, MIB / 4);

	(void)state;
	for (uint32_t i = PAGES; i < 255; i++)
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	daemon_returns(w);
	dw_map(w, 0);
	assert_true(pages_remote(w, 0) < 255);
	assert_int_equal(world_stop(w), 0);
	world_check_backup(w);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refill__everything_that_the_backup_has),
		cmocka_unit_test(refill__off),
		cmocka_unit_test(refill__one_slab_after_the_other),
		cmocka_unit_test(refill__the_hottest_slab_first),
		cmocka_unit_test(refill__keeps_to_its_rate),
		cmocka_unit_test(refill__never_overwrites_a_newer_page),
		cmocka_unit_test(refill__whose_turn_comes_after_a_write_leaves_the_page_alone),
		cmocka_unit_test(refill__yields_to_requests),
		cmocka_unit_test(refill__ends_with_its_daemon),
		cmocka_unit_test(refill__goes_on_when_the_backup_can_be_read_again),
		cmocka_unit_test(refill__of_a_write_that_began_before_the_mapping),
		cmocka_unit_test(refill__does_not_hold_up_a_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
