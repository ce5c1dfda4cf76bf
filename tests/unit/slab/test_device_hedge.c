/* SPDX-License-Identifier: MIT */
/* What a daemon is slow to answer: reads go to the backup too, and the first copy is the answer. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define HEDGE_NS (50 * NSEC_PER_MSEC)
#define P (2 * PAGE_BYTES)

/* A mapped slab with a page at P, and remote operations that wait for the test. */
static struct world *
hedge_world(void)
{
	const struct world_config c = {
		.n_slabs = 1,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.hedge_ns = HEDGE_NS,
		.can_zero = true,
		.can_discard = true,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	dw_hold_ops(w, true);
	return w;
}

static void
hedge__the_backup_is_first(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read = dw_start(w, BACKEND_READ, 0, P);

	(void)state;
	world_run(w, HEDGE_NS - 20 * NSEC_PER_MSEC);
	assert_false(read->is_done);
	assert_int_equal(world_stats(w).reads_hedged, 0);
	world_run(w, 40 * NSEC_PER_MSEC);
	assert_true(read->is_done && read->status == 0);
	assert_int_equal(world_stats(w).reads_hedged, 1);
	assert_int_equal(world_stats(w).hedges_won, 1);
	world_put_done(w);
	/* Its first buffer is still the network's (invariant 3). */
	assert_int_equal(world_device(w)->n_in_use, 2);
	dw_step_op(w);
	assert_int_equal(world_device(w)->n_in_use, 0);
	world_hold_backup(w, false);
	dw_hold_ops(w, false);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
hedge__the_daemon_is_first(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read = dw_start(w, BACKEND_READ, 0, P);
	struct world_io *write;

	(void)state;
	world_hold_backup(w, true);
	world_run(w, HEDGE_NS + 20 * NSEC_PER_MSEC);
	assert_false(read->is_done);
	assert_int_equal(world_stats(w).reads_hedged, 1);
	dw_step_op(w);
	assert_true(read->is_done && read->status == 0);
	world_put_done(w);
	/* The hedge, until the backup is done, and the read's turn on the page. */
	assert_int_equal(world_device(w)->n_in_use, 2);
	write = dw_start(w, BACKEND_WRITE, 0, P);
	dw_hold_ops(w, false);
	world_settle(w); /* the fake checks that the backup does not read what it writes */
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(write->is_done && write->status == 0);
	world_put_done(w);
	assert_int_equal(world_device(w)->n_in_use, 0);
	assert_int_equal(world_stats(w).hedges_won, 0);
	world_free(w);
}

/* What was outrun comes late, when the page is another one already. */
static void
hedge__the_page_is_written_while_the_old_read_is_under_way(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read = dw_start(w, BACKEND_READ, 0, P);
	struct world_io *write;

	(void)state;
	world_run(w, 2 * HEDGE_NS);
	assert_true(read->is_done);
	write = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(write->is_done && write->status == 0);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0); /* the oracle compares */
	world_free(w);
}

/* A daemon that is lost meanwhile: the hedge, or another read of the backup, is the answer. */
static void
hedge__the_daemon_is_lost(void **state)
{
	(void)state;
	for (int is_late = 0; is_late < 2; is_late++) {
		struct world *w = hedge_world();
		struct world_io *read = dw_start(w, BACKEND_READ, 0, P);

		world_hold_backup(w, is_late == 1);
		world_run(w, 2 * HEDGE_NS);
		dw_hold_ops(w, false);
		fake_net_fail(world_net(w), FAKE_OP, -ETIMEDOUT);
		world_hold_backup(w, false);
		world_settle(w);
		assert_true(read->is_done && read->status == 0);
		world_put_done(w);
		world_free(w);
	}
}

static void
hedge__the_backup_cannot_read(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read = dw_start(w, BACKEND_READ, 0, P);

	(void)state;
	fake_backup_fail_reads(world_backup(w), -EIO);
	world_run(w, 2 * HEDGE_NS);
	assert_false(read->is_done);
	assert_int_equal(world_stats(w).reads_hedged, 1);
	fake_backup_fail_reads(world_backup(w), 0);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(read->is_done && read->status == 0);
	world_put_done(w);
	world_free(w);
}

static void
hedge__not_what_only_the_daemon_has(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read;

	(void)state;
	dw_hold_ops(w, false);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P + PAGE_BYTES), 0); /* degraded */
	dw_hold_ops(w, true);
	read = world_submit(w, BACKEND_READ, 0, P, 2 * PAGE_BYTES);
	world_run(w, 2 * HEDGE_NS);
	assert_false(read->is_done);
	assert_int_equal(world_stats(w).reads_hedged, 0);
	dw_hold_ops(w, false);
	fake_backup_fail_writes(world_backup(w), 0);
	world_settle(w);
	assert_true(read->is_done && read->status == 0);
	world_put_done(w);
	world_free(w);
}

/* A part of the read came from elsewhere before: it moves along into the other buffer. */
static void
hedge__one_run_of_several(void **state)
{
	struct world *w = hedge_world();
	struct world_io *read;

	(void)state;
	/* The page between is zeros, the one behind is remote too. */
	dw_hold_ops(w, false);
	assert_int_equal(dw_write(w, P + 2 * PAGE_BYTES), 0);
	dw_hold_ops(w, true);
	read = world_submit(w, BACKEND_READ, 0, P, 3 * PAGE_BYTES);
	world_run(w, 2 * HEDGE_NS);
	assert_true(read->is_done && read->status == 0);
	assert_int_equal(world_stats(w).hedges_won, 1);
	world_put_done(w);
	dw_hold_ops(w, false);
	world_free(w);
}

/* The first copy of a write is the answer too, whichever it is; what only reads goes on. */
static void
write__the_backup_is_first(void **state)
{
	struct world *w = hedge_world();
	struct world_io *write = dw_start(w, BACKEND_WRITE, 0, P);
	struct world_io *again;

	(void)state;
	world_settle(w);
	assert_true(write->is_done && write->status == 0);
	assert_int_equal(dw_read(w, P), 0);		    /* the oracle compares */
	assert_int_equal(world_stats(w).pages_promoted, 0); /* its own copy is on its way */
	again = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_false(again->is_done); /* two WRITEs of a page could change places */
	dw_step_op(w);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(again->is_done && again->status == 0);
	dw_hold_ops(w, false);
	world_settle(w);
	world_put_done(w);
	assert_true(dw_is_remote(w, P) && dw_is_backup(w, P));
	world_check_remote(w);
	world_free(w);
}

static void
write__not_when_more_was_asked_for(void **state)
{
	(void)state;
	for (int is_both = 0; is_both < 2; is_both++) {
		struct world *w = dw_new(1, 1, is_both ? SLAB_ACK_BOTH : SLAB_ACK_REMOTE);
		struct world_io *write;

		dw_map(w, 0);
		dw_hold_ops(w, true);
		write = dw_start(w, BACKEND_WRITE, is_both ? 0 : BACKEND_FUA, P);
		world_settle(w);
		assert_false(write->is_done);
		dw_hold_ops(w, false);
		world_settle(w);
		assert_true(write->is_done && write->status == 0);
		world_put_done(w);
		world_free(w);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hedge__the_backup_is_first),
		cmocka_unit_test(hedge__the_daemon_is_first),
		cmocka_unit_test(hedge__the_page_is_written_while_the_old_read_is_under_way),
		cmocka_unit_test(hedge__the_daemon_is_lost),
		cmocka_unit_test(hedge__the_backup_cannot_read),
		cmocka_unit_test(hedge__not_what_only_the_daemon_has),
		cmocka_unit_test(hedge__one_run_of_several),
		cmocka_unit_test(write__the_backup_is_first),
		cmocka_unit_test(write__not_when_more_was_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
