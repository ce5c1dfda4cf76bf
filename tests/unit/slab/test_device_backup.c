/* SPDX-License-Identifier: MIT */
/*
 * A backup that refuses writes: degraded pages, kept buffers, lost pages, what waits
 * behind them, and the stop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)
#define Q (5 * PAGE_BYTES)

/* A mapped slab, and an acknowledged write of P of which only the buffer is left. */
static struct world *
world_with_kept(uint32_t n_daemons)
{
	struct world *w = dw_new(1, n_daemons, SLAB_ACK_REMOTE);

	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	world_put_done(w);
	assert_int_equal(world_pending(w), 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	dw_lose(w, world_device(w)->arena.slabs[0].daemon);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_device(w)->n_kept, 1);
	assert_int_equal(world_stats(w).writes_kept_total, 1);
	return w;
}

static void
heal(struct world *w)
{
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	world_put_done(w);
	assert_int_equal(world_device(w)->n_kept, 0);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(dw_flush(w), 0);
	world_check_backup(w);
}

static void
degraded__repaired_from_remote_in_batches(void **state)
{
	struct world *w = dw_new(4, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		dw_map(w, i);
	fake_backup_fail_writes(world_backup(w), -ENOSPC);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(dw_write(w, (uint64_t)i * 4 * PAGE_BYTES), 0);
	assert_int_equal(world_stats(w).pages_degraded, 200);
	assert_int_equal(world_device(w)->arena.slabs[0].pages_degraded, 64);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, BLOCK_BYTES), -ENOSPC);
	assert_int_equal(world_stats(w).pages_degraded, 192); /* trimmed ones need no copy */
	heal(w);
	world_free(w);
}

static void
degraded__flush_fails_until_it_is_repaired(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_flush(w), -EIO); /* the SYNC itself is good */
	heal(w);
	world_free(w);
}

static void
degraded__rewritten_or_lost_meanwhile(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0); /* cures it at once */
	assert_int_equal(world_stats(w).pages_degraded, 1);
	world_allow_read_errors(w);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_FAILED);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
lost__eio_until_rewritten(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	world_allow_read_errors(w);
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(world_stats(w).pages_lost, 2);
	assert_int_equal(world_said(w, "2 pages are lost"), 1);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(world_do(w, BACKEND_WRITE, P + 512, 512), -EIO); /* part of a lost page */
	assert_int_equal(dw_flush(w), -EIO);				  /* not silently durable */
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_write(w, Q + PAGE_BYTES), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_FAILED); /* not mapped before all are */
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), -EIO);
	assert_int_equal(world_do(w, BACKEND_TRIM, Q, PAGE_BYTES), 0);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(dw_flush(w), 0);
	dw_map(w, 0);
	world_free(w);
}

static void
lost__a_failed_rewrite_leaves_it_lost(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	world_allow_read_errors(w);
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	assert_int_equal(dw_write(w, P), -EIO);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(world_stats(w).pages_lost, 1);
	fake_backup_fail_writes(world_backup(w), 0);
	world_free(w);
}

static void
kept__retried_until_the_backup_takes_it(void **state)
{
	struct world *w = world_with_kept(1);

	(void)state;
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_buffer, 1);
	assert_int_equal(dw_flush(w), -EIO);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).backup_errors, 7); /* once a second; the flush */
	heal(w);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	world_free(w);
}

static void
kept__flush_during_the_retry_fails(void **state)
{
	struct world *w = world_with_kept(1);
	struct world_io *fl;

	(void)state;
	fake_backup_fail_writes(world_backup(w), 0);
	world_hold_backup(w, true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the retry, under way */
	fl = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_settle(w);
	while (fake_backup_pending(world_backup(w)) > 0) /* newest first: SYNC, then the write */
		fake_backup_step(world_backup(w), fake_backup_pending(world_backup(w)) - 1);
	world_settle(w);
	assert_true(fl->is_done);
	assert_int_equal(fl->status, -EIO); /* the SYNC did not cover the write */
	world_hold_backup(w, false);
	world_free(w);
}

static void
kept__sync_begun_before_the_retry_ended_fails(void **state)
{
	struct world *w = world_with_kept(1);
	struct world_io *fl;

	(void)state;
	world_hold_backup(w, true);
	fl = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_settle(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(fake_backup_pending(world_backup(w)), 2);
	fake_backup_step(world_backup(w), 1); /* the retry: too late for the SYNC */
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_int_equal(fl->status, -EIO);
	world_hold_backup(w, false);
	world_free(w);
}

static void
kept__a_write_behind_it_fails_in_time(void **state)
{
	struct world *w = world_with_kept(1);
	struct world_io *wr, *part, *fl;

	(void)state;
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	part = world_submit(w, BACKEND_WRITE, 0, P + 512, 1024);
	fl = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_true(wr->is_done && part->is_done && fl->is_done);
	assert_int_equal(wr->status, -EIO);
	assert_int_equal(part->status, -EIO);
	assert_int_equal(fl->status, -EIO);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0); /* the kept bytes */
	heal(w);
	world_free(w);
}

/* Found by the simulator: the last one has no page of the kept write. */
static void
kept__what_waits_behind_a_waiting_write_fails_in_time(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr, *zero;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	(void)world_submit(w, BACKEND_WRITE, 0, P, Q - P + 2 * PAGE_BYTES);
	world_settle(w);
	world_put_done(w);
	assert_int_equal(world_pending(w), 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	dw_lose(w, 0);
	wr = dw_start(w, BACKEND_WRITE, 0, Q);
	zero = world_submit(w, BACKEND_ZERO, 0, Q + PAGE_BYTES, 2 * BLOCK_BYTES);
	world_hold_backup(w, false);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_true(wr->is_done && zero->is_done);
	assert_int_equal(wr->status, -EIO);
	assert_int_equal(zero->status, -EIO);
	world_put_done(w);
	assert_int_equal(dw_read(w, Q), 0);
	heal(w);
	world_free(w);
}

/* A kept write of the pages from P up to Q; the slab is mapped again, and Q only there. */
static struct world *
world_with_kept_and_degraded(void)
{
	struct world *w = dw_new(1, 2, SLAB_ACK_REMOTE);

	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)world_submit(w, BACKEND_WRITE, 0, P, Q - P);
	world_settle(w);
	world_put_done(w);
	fake_backup_fail_writes(world_backup(w), -EIO);
	dw_lose(w, world_device(w)->arena.slabs[0].daemon);
	world_hold_backup(w, false);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, Q), 0);
	assert_int_equal(world_device(w)->n_kept, 1);
	return w;
}

/* The backup refused what is in the way, but works again before the ZERO's turn. */
static void
kept__a_range_is_told_nothing_before_its_turn(void **state)
{
	struct world *w = world_with_kept_and_degraded();
	struct world_io *zero;

	(void)state;
	/* The backup is tried every second, an operation has two. */
	world_run(w, NSEC_PER_SEC / 2);
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0, Q);
	zero = world_submit(w, BACKEND_ZERO, 0, Q - PAGE_BYTES, 2 * PAGE_BYTES);
	world_run(w, NSEC_PER_SEC * 3 / 4);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(world_device(w)->n_kept, 0);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(zero->is_done);
	assert_int_equal(zero->status, 0);
	world_put_done(w);
	heal(w);
	world_free(w);
}

/* A repair waits for a write that came before it, which waits for a kept one. */
static void
kept__a_repair_that_waits_delays_nobody(void **state)
{
	struct world *w = world_with_kept_and_degraded();
	struct world_io *trim;

	(void)state;
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0, Q);
	(void)world_submit(w, BACKEND_WRITE, 0, Q - PAGE_BYTES, 2 * PAGE_BYTES);
	world_run(w, NSEC_PER_SEC + NSEC_PER_SEC / 2);
	assert_true(world_device(w)->n_repairs > 0);
	dw_hold_ops(w, false);
	trim = dw_start(w, BACKEND_TRIM, 0, Q);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_true(trim->is_done);
	world_put_done(w);
	heal(w);
	world_free(w);
}

static void
kept__ranges_behind_it_fail_in_time(void **state)
{
	struct world *w = world_with_kept(1);
	struct world_io *trim, *zero, *rd;

	(void)state;
	trim = world_submit(w, BACKEND_TRIM, 0, 0, 4 * BLOCK_BYTES);
	zero = world_submit(w, BACKEND_ZERO, 0, P, 2 * BLOCK_BYTES);
	rd = dw_start(w, BACKEND_READ, 0, P);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_true(trim->is_done && zero->is_done && rd->is_done);
	assert_int_equal(trim->status, -EIO);
	assert_int_equal(zero->status, -EIO);
	assert_int_equal(rd->status, 0);
	world_put_done(w);
	heal(w);
	world_free(w);
}

static void
kept__replaced_by_a_remote_copy(void **state)
{
	struct world *w = world_with_kept(2);
	const uint64_t n_superseded = world_stats(w).backup_writes_superseded;

	(void)state;
	assert_int_equal(dw_write(w, Q), 0); /* maps on the other daemon, is degraded */
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(dw_write(w, P), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).backup_writes_superseded, n_superseded + 1);
	assert_int_equal(world_device(w)->n_kept, 0); /* its buffer is free */
	assert_int_equal(world_stats(w).pages_degraded, 2);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	world_free(w);
}

static void
kept__replaced_while_its_retry_is_under_way(void **state)
{
	struct world *w = world_with_kept(2);
	struct world_io *wr;

	(void)state;
	assert_int_equal(dw_write(w, Q), 0);
	world_settle(w);
	world_hold_backup(w, true);
	world_run(w, 2 * NSEC_PER_SEC);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(wr->is_done); /* by its remote copy, while the older backup write flies */
	world_put(wr);
	world_hold_backup(w, false);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_device(w)->n_kept, 0);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	world_free(w);
}

static void
kept__a_write_behind_it_is_saved_by_a_new_mapping(void **state)
{
	struct world *w = world_with_kept(2);
	struct world_io *wr;

	(void)state;
	wr = dw_start(w, BACKEND_WRITE, 0, P); /* asks for the mapping, cannot use it yet */
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_false(wr->is_done);
	world_run(w, 1500 * NSEC_PER_MSEC);
	assert_true(wr->is_done);
	assert_int_equal(wr->status, 0);
	world_put(wr);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_device(w)->n_kept, 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	world_free(w);
}

static void
kept__described_in_the_arena(void **state)
{
	struct world *w = world_with_kept(1);
	const struct arena *a = &world_device(w)->arena;
	uint32_t n = 0;

	(void)state;
	for (uint32_t i = 0; i < a->n_buffer_pages; i++)
		n += a->writes[i].seq != 0 && a->writes[i].offset_bytes == P;
	assert_int_equal(n, 1);
	heal(w);
	world_free(w);
}

static void
kept__a_repair_that_loses_its_daemon(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	const struct arena *a = &world_device(w)->arena;
	uint32_t n = 0;

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	world_hold_backup(w, true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the repair has read it */
	dw_lose(w, 0);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(world_device(w)->n_kept, 1);
	assert_int_equal(world_stats(w).writes_kept_total, 1);
	for (uint32_t i = 0; i < a->n_buffer_pages; i++)
		n += a->writes[i].seq != 0 && a->writes[i].offset_bytes == P;
	assert_int_equal(n, 1);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	world_free(w);
}

/* W1 is answered and replaced by the FUA write W2, whose copies are then both lost. */
static void
replaced__an_answered_write_is_not_forgotten(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *w0, *w1, *w2;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	w0 = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	w1 = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(w0->is_done && w1->is_done && w1->status == 0);
	w2 = dw_start(w, BACKEND_WRITE, BACKEND_FUA, P);
	world_settle(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 1); /* w1 */
	fake_backup_step(world_backup(w), 0);			      /* w0 is on the backup */
	world_settle(w);
	dw_lose(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	fake_backup_run(world_backup(w));
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(w2->is_done);
	assert_int_equal(w2->status, -EIO);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0); /* w1's bytes or w2's, never w0's */
	heal(w);
	world_free(w);
}

/* As above with ack = both, where the slab is mapped again before the backup fails. */
static void
replaced__slab_mapped_again_before_the_backup_fails(void **state)
{
	struct world *w = dw_new(1, 2, SLAB_ACK_BOTH);
	struct fake_backup *fb = world_backup(w);
	struct world_io *w1;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	w1 = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fake_backup_fail_writes(fb, -EIO);
	fake_backup_step(fb, 0); /* the first is degraded, under the second */
	world_settle(w);
	assert_int_equal(fake_backup_pending(fb), 1);
	dw_lose(w, world_device(w)->arena.slabs[0].daemon);
	(void)dw_start(w, BACKEND_WRITE, 0, Q);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(w1->is_done);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	world_free(w);
}

static void
retry__both_copies_fail_while_mapping(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	fake_backup_fail_writes(world_backup(w), -EIO);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 500 * NSEC_PER_MSEC);
	assert_false(wr->is_done);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(wr->is_done);
	assert_int_equal(wr->status, 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	world_put(wr);
	heal(w);
	world_free(w);
}

static void
retry__gives_up_when_the_mapping_does_not_come(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	world_daemon(w, 0)->lie = LIE_MAP_MUTE;
	fake_backup_fail_writes(world_backup(w), -EIO);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_true(wr->is_done);
	assert_int_equal(wr->status, -EIO);
	fake_backup_fail_writes(world_backup(w), 0);
	world_free(w);
}

static void
events__one_failure_of_a_full_disk_is_one_line(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	for (uint32_t i = 0; i < 20; i++) {
		fake_backup_fail_writes(world_backup(w), i % 2 ? 0 : -ENOSPC);
		assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
		world_run(w, 20 * NSEC_PER_MSEC);
	}
	assert_int_equal(world_said(w, "backup: write failed"), 1);
	assert_int_equal(world_said(w, "works again"), 0);
	heal(w);
	assert_int_equal(world_said(w, "works again"), 1);
	world_free(w);
}

/* Found by the simulator: FLUSH was answered with 0 and neither write was on the backup. */
static void
flush__waits_for_what_replaces_a_write_that_failed(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *flush;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	flush = world_submit(w, BACKEND_FLUSH, 0, 0, 0);
	(void)dw_start(w, BACKEND_WRITE, 0, P); /* waits for the first, on the backup */
	world_settle(w);
	assert_int_equal(world_pending(w), 1);
	fake_backup_fail_writes(world_backup(w), -EIO);
	fake_backup_step(world_backup(w), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_settle(w);
	assert_false(flush->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(flush->is_done && flush->status == 0);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	world_check_backup(w);
	world_free(w);
}

/* Found by the simulator: of two writes that are replaced the place of the later was taken. */
static void
flush__waits_for_what_replaces_several_writes(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *flush;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, 2 * PAGE_BYTES); /* under way to the backup */
	(void)world_submit(w, BACKEND_WRITE, 0, 2 * PAGE_BYTES, 2 * PAGE_BYTES);
	world_settle(w);
	flush = world_submit(w, BACKEND_FLUSH, 0, 0, 0);
	(void)world_submit(w, BACKEND_WRITE, 0, PAGE_BYTES, 2 * PAGE_BYTES);
	world_settle(w);
	(void)world_submit(w, BACKEND_WRITE, 0, 2 * PAGE_BYTES, 3 * PAGE_BYTES);
	world_settle(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 1);
	(void)world_submit(w, BACKEND_WRITE, 0, PAGE_BYTES, 4 * PAGE_BYTES);
	world_settle(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 3);
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the last write, no SYNC */
	assert_false(flush->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(flush->is_done && flush->status == 0);
	assert_true(fake_backup_is_durable(world_backup(w), 3 * PAGE_BYTES));
	world_check_backup(w);
	world_free(w);
}

static void
flush_and_degraded(enum backend_kind kind)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *flush;

	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, Q);
	flush = world_submit(w, BACKEND_FLUSH, 0, 0, 0);
	(void)dw_start(w, kind, 0, P); /* cures it, as soon as it is on the backup */
	world_settle(w);
	assert_int_equal(world_stats(w).pages_degraded, kind == BACKEND_ZERO ? 1 : 0);
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_false(flush->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(flush->is_done && flush->status == 0);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	world_check_backup(w);
	world_free(w);
}

static void
flush__waits_for_what_replaces_a_degraded_page(void **state)
{
	(void)state;
	flush_and_degraded(BACKEND_WRITE);
	flush_and_degraded(BACKEND_ZERO);
}

/* The backup has an older content than the page's, or may have zeros in some of it. */
static void
zero__refused_leaves_the_pages_as_they_were(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	uint64_t newest;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	world_settle(w);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	newest = dw_remote_version(w, 0, P);
	assert_int_equal(world_do(w, BACKEND_ZERO, P, Q - P + PAGE_BYTES), -EIO);
	assert_int_equal(world_stats(w).pages_degraded, 2);
	assert_false(dw_is_backup(w, Q));
	assert_int_equal(dw_flush(w), -EIO);
	assert_int_equal(dw_read(w, P), 0);
	heal(w);
	assert_int_equal(dw_backup_version(w, P), newest);
	assert_int_equal(world_restart(w), 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, Q), 0);
	world_free(w);
}

/* Found by the simulator, seed 1415897: neither degraded nor lost nor kept, and not on the backup. */
static void
flush__waits_for_a_repair_that_lost_its_daemon(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *flush;

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_hold_backup(w, true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the repair, under way */
	world_daemon_kill(w, 0, -ECONNRESET);
	world_settle(w);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	flush = world_submit(w, BACKEND_FLUSH, 0, 0, 0);
	world_settle(w);
	while (fake_backup_pending(world_backup(w)) > 1) /* a SYNC that does not cover it */
		fake_backup_step(world_backup(w), 1);
	world_settle(w);
	assert_false(flush->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(flush->is_done && flush->status == 0);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	world_check_backup(w);
	world_free(w);
}

static void
stop__retries_what_the_backup_refused(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(world_stop(w), 0);
	world_check_backup(w);
	world_free(w);
}

static void
stop__gives_up_loudly(void **state)
{
	struct world *w = world_with_kept(2);

	(void)state;
	assert_int_equal(dw_write(w, Q), 0); /* degraded, on the other daemon */
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(world_stop(w), -EIO);
	assert_int_equal(world_said(w, "stopping with 2 pages"), 1);
	world_free(w);
}

/* Found by the simulator: the next start would serve what the backup held before. */
static void
stop__pages_lost_before_are_an_error(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(world_stop(w), -EIO);
	assert_int_equal(world_said(w, "stopping with 1 pages"), 1);
	world_free(w);
}

static void
stop__failed_sync_is_an_error(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(world_stop(w), -EIO);
	world_free(w);
}

/*
 * A write that is only in its buffer and on a slab that goes back, and behind it one that
 * fails as a whole: the earlier one's remote copy still counts when the backup refuses it.
 */
static void
evict__failed_write_leaves_the_remote_copy_of_an_earlier_one(void **state)
{
	struct world *w = world_with_kept(2);
	struct world_io *earlier, *failing;

	(void)state;
	world_hold_backup(w, true);
	world_run(w, 1500 * NSEC_PER_MSEC); /* the kept write is on its way to the backup again */
	(void)dw_start(w, BACKEND_WRITE, 0, 64 * PAGE_BYTES); /* maps */
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	earlier = world_submit(w, BACKEND_WRITE, 0, P, 4 * PAGE_BYTES);
	world_settle(w);
	assert_true(earlier->is_done && earlier->status == 0); /* on the slab; waits behind it */
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	failing = dw_start(w, BACKEND_WRITE, 0, Q);
	world_settle(w);
	assert_false(failing->is_done);
	world_hold_backup(w, false);
	world_run(w, NSEC_PER_SEC / 10);
	assert_true(failing->is_done && failing->status == -EIO);
	assert_int_equal(dw_read(w, Q), 0);
	world_run(w, 3 * NSEC_PER_SEC); /* the earlier one is refused, too */
	assert_true(dw_is_remote(w, Q));
	assert_int_equal(dw_read(w, Q), 0);
	heal(w);
	assert_int_equal(dw_read(w, Q), 0);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(evict__failed_write_leaves_the_remote_copy_of_an_earlier_one),
		cmocka_unit_test(degraded__repaired_from_remote_in_batches),
		cmocka_unit_test(degraded__flush_fails_until_it_is_repaired),
		cmocka_unit_test(degraded__rewritten_or_lost_meanwhile),
		cmocka_unit_test(lost__eio_until_rewritten),
		cmocka_unit_test(lost__a_failed_rewrite_leaves_it_lost),
		cmocka_unit_test(kept__retried_until_the_backup_takes_it),
		cmocka_unit_test(kept__flush_during_the_retry_fails),
		cmocka_unit_test(kept__sync_begun_before_the_retry_ended_fails),
		cmocka_unit_test(kept__a_write_behind_it_fails_in_time),
		cmocka_unit_test(kept__what_waits_behind_a_waiting_write_fails_in_time),
		cmocka_unit_test(kept__a_range_is_told_nothing_before_its_turn),
		cmocka_unit_test(kept__a_repair_that_waits_delays_nobody),
		cmocka_unit_test(kept__ranges_behind_it_fail_in_time),
		cmocka_unit_test(kept__replaced_by_a_remote_copy),
		cmocka_unit_test(kept__replaced_while_its_retry_is_under_way),
		cmocka_unit_test(kept__a_write_behind_it_is_saved_by_a_new_mapping),
		cmocka_unit_test(kept__described_in_the_arena),
		cmocka_unit_test(kept__a_repair_that_loses_its_daemon),
		cmocka_unit_test(replaced__an_answered_write_is_not_forgotten),
		cmocka_unit_test(replaced__slab_mapped_again_before_the_backup_fails),
		cmocka_unit_test(retry__both_copies_fail_while_mapping),
		cmocka_unit_test(retry__gives_up_when_the_mapping_does_not_come),
		cmocka_unit_test(events__one_failure_of_a_full_disk_is_one_line),
		cmocka_unit_test(flush__waits_for_what_replaces_a_write_that_failed),
		cmocka_unit_test(flush__waits_for_what_replaces_a_degraded_page),
		cmocka_unit_test(flush__waits_for_what_replaces_several_writes),
		cmocka_unit_test(flush__waits_for_a_repair_that_lost_its_daemon),
		cmocka_unit_test(zero__refused_leaves_the_pages_as_they_were),
		cmocka_unit_test(stop__retries_what_the_backup_refused),
		cmocka_unit_test(stop__gives_up_loudly),
		cmocka_unit_test(stop__pages_lost_before_are_an_error),
		cmocka_unit_test(stop__failed_sync_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
