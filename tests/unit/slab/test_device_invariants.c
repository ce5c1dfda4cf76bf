/* SPDX-License-Identifier: MIT */
/*
 * The eight invariants of the device core, and the defects D1 to D6 of Infiniswap
 * that they stand for.  The oracle of world.c judges every read besides.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES) /* the page most cases use */

static void
invariant_1__read_returns_newest_wherever_it_is(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_zero, 1);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_remote, 1);
	/* In a buffer only: the remote copy is gone, the backup has not got it yet. */
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(wr->is_done && wr->status == 0);
	dw_lose(w, 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_buffer, 1);
	world_hold_backup(w, false);
	world_settle(w);
	world_put(wr);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	world_free(w);
}

static void
invariant_1__read_behind_a_write_in_flight(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr, *rd;

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	rd = dw_start(w, BACKEND_READ, 0, P);
	dw_settle_but_backup(w);
	assert_false(wr->is_done || rd->is_done);
	dw_step_op(w);
	assert_true(wr->is_done && rd->is_done);
	world_put_done(w);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_free(w);
}

static void
invariant_2__remote_bit_only_after_the_remote_copy(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_true(dw_is_remote(w, P) && dw_is_backup(w, P));
	dw_hold_ops(w, true);
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	assert_false(dw_is_remote(w, P) || dw_is_backup(w, P));
	world_settle(w);
	assert_false(dw_is_remote(w, P) || dw_is_backup(w, P) || wr->is_done);
	dw_step_op(w);
	assert_true(dw_is_remote(w, P) && wr->is_done);
	assert_false(dw_is_backup(w, P));
	fake_backup_run(world_backup(w));
	assert_true(dw_is_backup(w, P));
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_free(w);
}

static void
invariant_2__backup_only_write_clears_remote_bit(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	/* The remote write fails: the page goes to the backup only. */
	fake_net_fail(world_net(w), FAKE_OP, -EIO);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	assert_false(dw_is_remote(w, P));
	world_settle(w);
	assert_true(wr->is_done && wr->status == 0);
	assert_false(dw_is_remote(w, P));
	assert_true(dw_is_backup(w, P));
	world_put(wr);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
invariant_2__two_writes_reach_remote_and_backup_in_order(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_BOTH);
	struct fake_backup *fb = world_backup(w);
	struct world_io *w1, *w2;

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	world_hold_backup(w, true);
	w1 = dw_start(w, BACKEND_WRITE, 0, P);
	w2 = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), 1);
	assert_int_equal(fake_backup_pending(fb), 1);
	dw_step_op(w);
	assert_int_equal(dw_remote_version(w, 0, P), w1->version);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), 1); /* w2 is on its way */
	assert_int_equal(fake_backup_pending(fb), 1);			    /* still w1 */
	fake_backup_step(fb, 0);
	assert_int_equal(dw_backup_version(w, P), w1->version);
	assert_false(dw_is_backup(w, P)); /* w2 has begun: that copy is old */
	world_settle(w);
	assert_int_equal(fake_backup_pending(fb), 1);
	dw_step_op(w);
	fake_backup_step(fb, 0);
	world_settle(w);
	assert_int_equal(dw_remote_version(w, 0, P), w2->version);
	assert_int_equal(dw_backup_version(w, P), w2->version);
	assert_true(w1->is_done && w2->is_done);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_free(w);
}

static void
invariant_3__buffer_freed_only_after_both(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;
	uint64_t n_free;

	(void)state;
	dw_map(w, 0);
	for (int backup_first = 0; backup_first < 2; backup_first++) {
		n_free = world_stats(w).buffer_bytes_free;
		dw_hold_ops(w, true);
		world_hold_backup(w, true);
		wr = dw_start(w, BACKEND_WRITE, 0, P);
		world_settle(w);
		if (backup_first)
			fake_backup_run(world_backup(w));
		else
			dw_step_op(w);
		world_settle(w);
		assert_int_equal(world_stats(w).buffer_bytes_free, n_free - PAGE_BYTES);
		assert_true(wr->is_done);
		world_put(wr); /* the server is through with it, the network or the backup is not */
		world_settle(w);
		assert_int_equal(world_stats(w).buffer_bytes_free, n_free - PAGE_BYTES);
		if (backup_first)
			dw_step_op(w);
		else
			fake_backup_run(world_backup(w));
		world_settle(w);
		world_put_done(w);
		assert_int_equal(world_stats(w).buffer_bytes_free, n_free);
		dw_hold_ops(w, false);
		world_hold_backup(w, false);
	}
	world_free(w);
}

static bool is_stopped;
static void
stopped_cb(void *arg, int status)
{
	(void)arg;
	assert_int_equal(status, 0);
	is_stopped = true;
}

static void
invariant_4__daemons_keep_slabs_until_the_backup_has_all(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	world_put_done(w);
	assert_int_equal(world_stats(w).writes_unsafe, 1);
	is_stopped = false;
	slab_device_stop(world_device(w), stopped_cb, NULL);
	world_settle(w);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 0)), 1);
	assert_false(is_stopped);
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 0)), 1); /* not synced yet */
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 0)), 0);
	assert_true(is_stopped);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	world_check_backup(w);
	world_stopped(w);
	world_free(w);
}

static void
invariant_5__failure_touches_own_slabs_only(void **state)
{
	struct world *w = dw_new(2, 2, SLAB_ACK_REMOTE);
	struct slab_device *d = world_device(w);
	uint32_t lost, other;

	(void)state;
	dw_map(w, 0);
	dw_map(w, 1);
	assert_int_not_equal(d->arena.slabs[0].daemon, d->arena.slabs[1].daemon);
	lost = d->arena.slabs[0].daemon;
	other = d->arena.slabs[1].daemon;
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, MIB + P), 0);
	dw_lose(w, lost);
	world_hold_backup(w, false);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_false(dw_is_remote(w, P));
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_MAPPED);
	assert_true(dw_is_remote(w, MIB + P));
	assert_int_equal(fake_daemon_lent(world_daemon(w, other)), 1);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_read(w, MIB + P), 0);
	assert_int_equal(world_stats(w).pages_read_remote, 1);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	world_free(w);
}

static void
invariant_5__an_operation_has_a_deadline(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *rd;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	fake_daemon_set_up(world_daemon(w, 0), false);
	dw_hold_ops(w, true);
	rd = dw_start(w, BACKEND_READ, 0, P);
	world_run(w, 1900 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_run(w, 200 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(rd->is_done && rd->status == 0);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	world_free(w);
}

static void
invariant_5__a_slow_link_that_moves_is_not_dead(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr[4];

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	for (uint32_t i = 0; i < 6; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, P + i * PAGE_BYTES);
	for (uint32_t i = 0; i < 6; i++) {
		world_run(w, 1500 * NSEC_PER_MSEC);
		dw_step_op(w);
		world_hold_backup(w, false);
	}
	assert_int_equal(world_stats(w).remote_failures, 0);
	assert_int_equal(world_pending(w), 0);
	/* But younger ones that complete do not excuse the oldest. */
	world_put_done(w);
	for (uint32_t i = 0; i < 4; i++)
		wr[i] = dw_start(w, BACKEND_WRITE, 0, P + i * PAGE_BYTES);
	for (uint32_t i = 3; i > 0 && world_stats(w).remote_failures == 0; i--) {
		const struct piece *p = container_of(wr[i]->io, struct piece, io);

		world_run(w, 900 * NSEC_PER_MSEC);
		if (world_stats(w).remote_failures == 0)
			assert_true(fake_net_step_op(world_net(w), &p->remote_op));
	}
	assert_int_equal(world_stats(w).remote_failures, 1);
	dw_hold_ops(w, false);
	world_free(w);
}

static void
invariant_6__failed_backup_write_is_never_silent(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *fua;

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(world_stats(w).backup_errors, 1);
	assert_int_equal(world_events(w, SLAB_EVENT_ERROR), 1);
	assert_true(dw_is_remote(w, P));
	assert_int_equal(dw_flush(w), -EIO);
	fua = dw_start(w, BACKEND_WRITE, BACKEND_FUA, P + PAGE_BYTES);
	world_settle(w);
	assert_true(fua->is_done);
	assert_int_equal(fua->status, -EIO);
	world_put(fua);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_events(w, SLAB_EVENT_ERROR), 1); /* said once */

	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(world_said(w, "works again"), 1);
	assert_true(dw_is_backup(w, P));
	assert_int_equal(dw_flush(w), 0);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	world_check_backup(w);
	world_free(w);
}

static void
invariant_7__error_only_when_no_copy_is_left(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	world_allow_read_errors(w);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_reads(world_backup(w), -EIO);
	assert_int_equal(dw_read(w, P), 0); /* remote */
	dw_lose(w, 0);
	world_hold_backup(w, false);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(world_stats(w).read_errors, 1);
	fake_backup_fail_reads(world_backup(w), 0);
	assert_int_equal(dw_read(w, P), 0);
	/* No daemon, and the backup refuses: the write cannot be anywhere. */
	fake_backup_fail_writes(world_backup(w), -ENOSPC);
	assert_int_equal(dw_write(w, P), -ENOSPC);
	assert_int_equal(world_stats(w).write_errors, 1);
	assert_int_equal(dw_read(w, P), 0); /* what was there before */
	fake_backup_fail_writes(world_backup(w), 0);
	world_free(w);
}

static void
invariant_8__no_room_then_resume(void **state)
{
	struct world *w = dw_new(16, 1, SLAB_ACK_REMOTE);
	uint32_t n = 0;

	(void)state;
	world_hold_backup(w, true);
	while (world_submit(w, BACKEND_WRITE, 0, n * BLOCK_BYTES, BLOCK_BYTES))
		n++;
	/* All but the reserve of reads, the block of zeros and that of the probes' words. */
	assert_int_equal(n, 32 - 4 - 2);
	for (uint32_t i = 0; i < 4; i++)
		assert_non_null(
			world_submit(w, BACKEND_READ, 0, (120 + i) * BLOCK_BYTES, BLOCK_BYTES));
	assert_null(world_submit(w, BACKEND_READ, 0, 0, BLOCK_BYTES));
	assert_int_equal(world_resumes(w), 0);
	world_settle(w); /* the reads are answered, nothing is put back */
	assert_int_equal(world_resumes(w), 0);
	world_put_done(w);
	world_settle(w);
	assert_int_equal(world_resumes(w), 1);
	world_settle(w);
	assert_int_equal(world_resumes(w), 1); /* exactly: nobody asked since */
	world_hold_backup(w, false);
	world_free(w);
}

static void
d1__stale_remote_page_while_a_daemon_is_torn_down(void **state)
{
	struct world *w = dw_new(2, 2, SLAB_ACK_REMOTE);
	struct slab_device *d = world_device(w);
	uint64_t page;

	(void)state;
	dw_map(w, 0);
	dw_map(w, 1);
	page = d->arena.slabs[0].daemon == 0 ? MIB + P : P; /* on daemon 1 */
	assert_int_equal(dw_write(w, page), 0);
	/* Daemon 0 goes down slowly: the healthy one still takes writes and serves them. */
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0,
		       d->arena.slabs[0].daemon == 0 ? MIB - PAGE_BYTES : 2 * MIB - PAGE_BYTES);
	fake_daemon_set_up(world_daemon(w, 0), false);
	world_daemon_kill(w, 0, -ECONNRESET);
	(void)dw_start(w, BACKEND_WRITE, 0, page);
	world_settle(w);
	dw_hold_ops(w, false);
	world_settle(w);
	world_put_done(w);
	assert_true(dw_is_remote(w, page));
	assert_int_equal(dw_read(w, page), 0); /* the oracle knows the newest */
	world_check_remote(w);
	world_free(w);
}

static void
d2__backup_error_after_the_answer_loses_nothing(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	world_put_done(w); /* answered */
	fake_backup_fail_writes(world_backup(w), -EIO);
	dw_lose(w, 0); /* the only copy is the buffer now */
	fake_backup_run(world_backup(w));
	world_hold_backup(w, false);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_flush(w), -EIO);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(dw_flush(w), 0);
	world_check_backup(w);
	world_free(w);
}

static void
d3__daemon_lost_between_answer_and_disk(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr, *rd;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(wr->is_done);
	world_put(wr);
	dw_lose(w, 0);
	rd = dw_start(w, BACKEND_READ, 0, P); /* the disk has the old bytes */
	world_settle(w);
	assert_true(rd->is_done);
	world_hold_backup(w, false);
	world_free(w);
}

static void
d4__disk_faster_than_network(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	for (uint32_t i = 0; i < 32; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, i * PAGE_BYTES);
	world_settle(w); /* every disk write is done; the buffers are still the network's */
	assert_int_equal(world_pending(w), 0);
	world_put_done(w);
	assert_int_equal(world_device(w)->n_in_use, 32);
	for (uint32_t i = 0; i < 32; i++) /* the fake checks that no buffer changes */
		(void)dw_start(w, BACKEND_WRITE, 0, (64 + i) * PAGE_BYTES);
	world_settle(w);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(world_pending(w), 0);
	world_put_done(w);
	world_check_remote(w);
	world_free(w);
}

static void
d5__late_completion_of_an_older_mapping_is_ignored(void **state)
{
	struct world *w = dw_new(1, 2, SLAB_ACK_REMOTE);
	struct slab_device *d = world_device(w);
	struct world_io *wr;
	uint32_t first;

	(void)state;
	dw_map(w, 0);
	first = d->arena.slabs[0].daemon;
	dw_hold_ops(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fake_daemon_set_up(world_daemon(w, first), false);
	remote_fail(&d->remotes[first], -ETIMEDOUT, "test");
	assert_int_equal(dw_write(w, 8 * PAGE_BYTES), 0); /* maps on the other daemon */
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_not_equal(d->arena.slabs[0].daemon, first);
	dw_hold_ops(w, false);
	world_settle(w); /* the old write ends, well or cancelled */
	assert_true(wr->is_done && wr->status == 0);
	assert_false(dw_is_remote(w, P));
	world_put(wr);
	assert_int_equal(dw_read(w, P), 0);
	world_check_remote(w);
	world_free(w);
}

static void
d6__neighbouring_pages_keep_their_bits(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	for (uint32_t i = 0; i < BLOCK_PAGES; i += 2)
		(void)dw_start(w, BACKEND_WRITE, 0, i * PAGE_BYTES);
	world_settle(w);
	world_put_done(w);
	for (uint32_t i = 1; i < BLOCK_PAGES; i += 2)
		(void)dw_start(w, i % 4 == 1 ? BACKEND_WRITE : BACKEND_TRIM, 0, i * PAGE_BYTES);
	while (fake_net_step_random(world_net(w)))
		world_advance(w);
	world_settle(w);
	world_put_done(w);
	for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
		assert_int_equal(dw_is_remote(w, i * PAGE_BYTES), i % 4 != 3);
		assert_int_equal(dw_is_backup(w, i * PAGE_BYTES), i % 4 != 3);
	}
	world_free(w);
}

static void
d7__each_page_of_a_long_read_is_looked_for(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr, *rd;

	(void)state;
	for (uint32_t i = 0; i < 8; i++) /* on the backup alone: the slab is being mapped */
		(void)dw_start(w, BACKEND_WRITE, 0, 4 * i * PAGE_BYTES);
	world_settle(w);
	world_put_done(w);
	for (uint32_t i = 0; i < 8; i++) /* on both */
		assert_int_equal(dw_write(w, (4 * i + 1) * PAGE_BYTES), 0);
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, 6 * PAGE_BYTES); /* in its buffer */
	world_settle(w);
	rd = world_submit(w, BACKEND_READ, 0, 0, BLOCK_BYTES); /* and zeros between them */
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(wr->is_done && rd->is_done && rd->status == 0); /* the oracle sees every byte */
	assert_int_equal(world_stats(w).pages_read_remote, 8);
	assert_int_equal(world_stats(w).pages_read_backup, 8);
	assert_int_equal(world_stats(w).pages_read_buffer, 1);
	assert_int_equal(world_stats(w).pages_read_zero, 15);
	world_free(w);
}

static void
d8__parts_of_a_page_at_the_edges(void **state)
{
	struct world *w = dw_new(2, 1, SLAB_ACK_REMOTE);
	static const uint64_t offsets[] = {0, 512, PAGE_BYTES - 512, MIB - 512, MIB, 2 * MIB - 512};

	(void)state;
	for (uint32_t round = 0; round < 2; round++) /* unmapped, then mapped */
		for (uint32_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
			assert_int_equal(world_do(w, BACKEND_WRITE, offsets[i], 512), 0);
			assert_int_equal(world_do(w, BACKEND_READ, offsets[i], 512), 0);
			assert_int_equal(dw_read(w, offsets[i] & ~(uint64_t)(PAGE_BYTES - 1)), 0);
			world_settle(w);
		}
	assert_true(world_stats(w).pages_read_remote > 0);
	world_check_remote(w);
	world_check_backup(w);
	world_free(w);
}

/* Pieces of one request over blocks and slabs, one of which is unmapped, one kept and one lost
 * meanwhile: each ends once, whatever way it goes. */
static void
d9__pieces_of_one_request_end_once_each(void **state)
{
	struct world *w = dw_new(3, 2, SLAB_ACK_REMOTE);
	struct world_io *pieces[6];

	(void)state;
	dw_map(w, 1);
	dw_map(w, 2);
	for (uint32_t round = 0; round < 4; round++) {
		const uint64_t border = (round % 2 + 1) * MIB;

		for (uint32_t i = 0; i < 6; i++) {
			pieces[i] = world_submit(w, round < 2 ? BACKEND_WRITE : BACKEND_READ, 0,
						 border - 3 * BLOCK_BYTES + i * BLOCK_BYTES,
						 BLOCK_BYTES);
			assert_non_null(pieces[i]);
		}
		if (round == 0)
			dw_lose(w, world_device(w)->arena.slabs[1].daemon);
		world_hold_backup(w, false);
		world_settle(w);
		for (uint32_t i = 0; i < 6; i++)
			assert_true(pieces[i]->is_done && pieces[i]->status == 0);
		assert_int_equal(world_pending(w), 0);
		world_put_done(w);
	}
	assert_int_equal(world_stats(w).remote_failures, 1);
	world_check_remote(w);
	world_check_backup(w);
	world_free(w);
}

static void
d10__flush_fua_and_trim_are_not_ignored(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *flush, *fua;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	fua = dw_start(w, BACKEND_WRITE, BACKEND_FUA, 4 * P);
	flush = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_settle(w);
	assert_false(fua->is_done || flush->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(fua->is_done && flush->is_done && fua->status == 0 && flush->status == 0);
	assert_true(fake_backup_is_durable(world_backup(w), P));
	assert_true(fake_backup_is_durable(world_backup(w), 4 * P));
	world_put_done(w);
	assert_int_equal(world_do(w, BACKEND_TRIM, P, PAGE_BYTES), 0);
	assert_false(dw_is_remote(w, P) || dw_is_backup(w, P));
	assert_int_equal(dw_read(w, P), 0);
	/* An error of the disk is the answer, not garbage. */
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(world_do(w, BACKEND_ZERO, 4 * P, PAGE_BYTES), -EIO);
	fake_backup_fail_writes(world_backup(w), 0);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(invariant_1__read_returns_newest_wherever_it_is),
		cmocka_unit_test(invariant_1__read_behind_a_write_in_flight),
		cmocka_unit_test(invariant_2__remote_bit_only_after_the_remote_copy),
		cmocka_unit_test(invariant_2__backup_only_write_clears_remote_bit),
		cmocka_unit_test(invariant_2__two_writes_reach_remote_and_backup_in_order),
		cmocka_unit_test(invariant_3__buffer_freed_only_after_both),
		cmocka_unit_test(invariant_4__daemons_keep_slabs_until_the_backup_has_all),
		cmocka_unit_test(invariant_5__failure_touches_own_slabs_only),
		cmocka_unit_test(invariant_5__an_operation_has_a_deadline),
		cmocka_unit_test(invariant_5__a_slow_link_that_moves_is_not_dead),
		cmocka_unit_test(invariant_6__failed_backup_write_is_never_silent),
		cmocka_unit_test(invariant_7__error_only_when_no_copy_is_left),
		cmocka_unit_test(invariant_8__no_room_then_resume),
		cmocka_unit_test(d1__stale_remote_page_while_a_daemon_is_torn_down),
		cmocka_unit_test(d2__backup_error_after_the_answer_loses_nothing),
		cmocka_unit_test(d3__daemon_lost_between_answer_and_disk),
		cmocka_unit_test(d4__disk_faster_than_network),
		cmocka_unit_test(d5__late_completion_of_an_older_mapping_is_ignored),
		cmocka_unit_test(d6__neighbouring_pages_keep_their_bits),
		cmocka_unit_test(d7__each_page_of_a_long_read_is_looked_for),
		cmocka_unit_test(d8__parts_of_a_page_at_the_edges),
		cmocka_unit_test(d9__pieces_of_one_request_end_once_each),
		cmocka_unit_test(d10__flush_fua_and_trim_are_not_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
