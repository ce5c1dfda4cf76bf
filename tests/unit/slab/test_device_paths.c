/* SPDX-License-Identifier: MIT */
/* The read, write, range and flush paths with everything in order; buffers, extents, the arena. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)

static void
ack__remote_or_both(void **state)
{
	(void)state;
	for (int both = 0; both < 2; both++) {
		struct world *w = dw_new(1, 1, both ? SLAB_ACK_BOTH : SLAB_ACK_REMOTE);
		struct world_io *wr;

		dw_map(w, 0);
		world_hold_backup(w, true);
		wr = dw_start(w, BACKEND_WRITE, 0, P);
		world_settle(w);
		assert_int_equal(wr->is_done, !both);
		fake_backup_run(world_backup(w));
		world_settle(w);
		assert_true(wr->is_done && wr->status == 0);
		world_hold_backup(w, false);
		world_free(w);
	}
}

static void
ack__unmapped_write_waits_for_the_backup(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_false(wr->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(wr->is_done && wr->status == 0);
	world_free(w);
}

static void
fua__waits_for_backup_and_sync(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	static const enum backend_kind kinds[] = {BACKEND_WRITE, BACKEND_TRIM, BACKEND_ZERO};

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	for (uint32_t i = 0; i < 3; i++) {
		struct world_io *io = dw_start(w, kinds[i], BACKEND_FUA, P);

		world_settle(w);
		assert_false(io->is_done);
		fake_backup_step(world_backup(w), 0); /* the bytes */
		world_settle(w);
		assert_false(io->is_done);
		assert_int_equal(fake_backup_pending(world_backup(w)), 1);
		fake_backup_step(world_backup(w), 0); /* the SYNC */
		world_settle(w);
		assert_true(io->is_done && io->status == 0);
		assert_true(fake_backup_is_durable(world_backup(w), P));
		world_put(io);
	}
	world_hold_backup(w, false);
	world_free(w);
}

static void
flush__waits_for_every_earlier_write(void **state)
{
	struct world *w = dw_new(2, 1, SLAB_ACK_REMOTE);
	struct fake_backup *fb = world_backup(w);
	struct world_io *f1, *f2;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	(void)world_submit(w, BACKEND_ZERO, 0, MIB, PAGE_BYTES);
	world_settle(w);
	f1 = dw_start(w, BACKEND_FLUSH, 0, 0);
	(void)dw_start(w, BACKEND_WRITE, 0, 9 * PAGE_BYTES); /* later: not waited for */
	f2 = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_settle(w);
	assert_int_equal(fake_backup_pending(fb), 3); /* no SYNC yet */
	fake_backup_step(fb, 1);
	assert_int_equal(fake_backup_pending(fb), 2);
	fake_backup_step(fb, 0); /* the earlier write: the SYNC goes out */
	assert_int_equal(fake_backup_pending(fb), 2);
	world_settle(w);
	assert_false(f1->is_done);
	fake_backup_step(fb, 1);
	world_settle(w);
	assert_true(f1->is_done && f1->status == 0);
	assert_true(fake_backup_is_durable(fb, P));
	assert_false(f2->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(f2->is_done && f2->status == 0);
	world_free(w);
}

static void
flush__failed_sync_is_the_answer(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_writes(world_backup(w), -ENOSPC);
	assert_int_equal(dw_flush(w), -ENOSPC);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_flush(w), 0);
	world_free(w);
}

static void
trim__reads_zeros_and_waits_its_turn(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *tr, *wr;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	tr = world_submit(w, BACKEND_TRIM, 0, 0, 2 * BLOCK_BYTES);
	wr = dw_start(w, BACKEND_WRITE, 0, P + PAGE_BYTES);
	world_settle(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* not the DISCARD yet */
	assert_false(tr->is_done || wr->is_done);
	fake_backup_step(world_backup(w), 0);
	world_settle(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the write after it waits */
	assert_false(dw_is_remote(w, P) || dw_is_backup(w, P));
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(tr->is_done && tr->status == 0);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_zero, 1);
	assert_int_equal(world_stats(w).pages_trimmed, 64);
	assert_int_equal(dw_read(w, P + PAGE_BYTES), 0);
	world_free(w);
}

static void
zero__with_and_without_backup_support(void **state)
{
	(void)state;
	for (int can = 0; can < 2; can++) {
		const struct world_config c = {.n_slabs = 1, .can_zero = can};
		struct world *w = world_new(&c);
		const uint8_t *bytes = fake_backup_bytes(world_backup(w));
		struct world_io *fast;

		for (uint32_t i = 0; i < 64; i++)
			assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
		assert_int_equal(world_do(w, BACKEND_ZERO, P, 40 * PAGE_BYTES), 0);
		for (uint32_t i = P; i < P + 40 * PAGE_BYTES; i++)
			assert_int_equal(bytes[i], 0); /* also after a restart */
		assert_int_not_equal(dw_backup_version(w, PAGE_BYTES), 0);
		assert_int_not_equal(dw_backup_version(w, P + 40 * PAGE_BYTES), 0);
		assert_int_equal(world_stats(w).pages_zeroed, 40);
		assert_int_equal(dw_read(w, P), 0);
		assert_int_equal(world_stats(w).pages_read_zero, 1);

		fast = dw_start(w, BACKEND_ZERO, BACKEND_FAST_ZERO, 0);
		world_settle(w);
		assert_int_equal(fast->status, can ? 0 : -EOPNOTSUPP);
		world_put(fast);
		assert_int_equal(dw_read(w, 0), 0);
		fast = dw_start(w, BACKEND_ZERO, BACKEND_FAST_ZERO | BACKEND_NO_HOLE, PAGE_BYTES);
		world_settle(w);
		assert_int_equal(fast->status, -EOPNOTSUPP);
		world_free(w);
	}
}

static void
zero__no_hole_writes_zeros(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);
	struct world_io *zero;

	(void)state;
	assert_int_equal(world_do(w, BACKEND_WRITE, 0, BLOCK_BYTES), 0);
	world_hold_backup(w, true);
	zero = world_submit(w, BACKEND_ZERO, BACKEND_NO_HOLE, PAGE_BYTES, 40 * PAGE_BYTES);
	for (uint32_t i = 0; i < 2; i++) { /* a block at a time */
		world_settle(w);
		assert_false(zero->is_done);
		assert_int_equal(fake_backup_pending(world_backup(w)), 1);
		fake_backup_step(world_backup(w), 0);
	}
	world_settle(w);
	assert_true(zero->is_done && zero->status == 0);
	world_put(zero);
	assert_int_equal(dw_backup_version(w, PAGE_BYTES), 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	world_hold_backup(w, false);
	zero = world_submit(w, BACKEND_ZERO, BACKEND_NO_HOLE, 0, 4 * BLOCK_BYTES);
	world_settle(w);
	assert_int_equal(zero->status, -EIO);
	fake_backup_fail_writes(world_backup(w), 0);
	world_free(w);
}

static void
partial__merges_with_the_newest_bytes(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *rd;

	(void)state;
	assert_int_equal(world_do(w, BACKEND_WRITE, P + 512, 1024), 0); /* zeros around it */
	assert_int_equal(dw_read(w, P), 0);
	world_settle(w);
	assert_int_equal(world_do(w, BACKEND_WRITE, P + 1024, 512), 0); /* from remote or backup */
	assert_int_equal(dw_read(w, P), 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	(void)world_submit(w, BACKEND_WRITE, 0, P, 512); /* from the buffer before it */
	(void)world_submit(w, BACKEND_WRITE, 0, P + 3584, 512);
	rd = world_submit(w, BACKEND_READ, 0, P + 512, 3072);
	world_settle(w);
	assert_true(rd->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0);
	world_check_backup(w);
	world_check_remote(w);
	world_free(w);
}

static void
partial__whose_fetch_fails_changes_nothing(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);

	(void)state;
	world_allow_read_errors(w);
	assert_int_equal(dw_write(w, P), 0);
	fake_backup_fail_reads(world_backup(w), -EIO);
	assert_int_equal(world_do(w, BACKEND_WRITE, P + 512, 512), -EIO);
	assert_int_equal(dw_read(w, P), -EIO);
	fake_backup_fail_reads(world_backup(w), 0);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).write_errors, 1);
	world_free(w);
}

static void
promotion__of_the_runs_that_came_from_the_backup(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *rd;

	(void)state;
	fake_daemon_set_up(world_daemon(w, 0), false);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_settle(w);
	for (uint32_t i = 0; i < 8; i++)
		if (i != 3)
			assert_int_equal(dw_write(w, i * PAGE_BYTES), 0);
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 3 * NSEC_PER_SEC);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, 5 * PAGE_BYTES), 0); /* remote already */
	rd = world_submit(w, BACKEND_READ, 0, 0, 8 * PAGE_BYTES);
	dw_hold_ops(w, true);
	world_settle(w);
	dw_step_op(w); /* the remote page */
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(rd->is_done); /* promotion does not delay the answer */
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(world_stats(w).pages_promoted, 6);
	assert_int_equal(world_stats(w).pages_read_remote, 1);
	assert_int_equal(world_stats(w).pages_read_zero, 1);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(dw_is_remote(w, i * PAGE_BYTES), i != 3);
	world_check_remote(w);
	world_free(w);
}

static void
promotion__holds_back_a_later_write(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr;

	(void)state;
	assert_int_equal(dw_write(w, P), 0); /* backup only: the slab was just being mapped */
	world_settle(w);
	assert_false(dw_is_remote(w, P));
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0, P);
	world_settle(w);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), 1); /* the promotion */
	dw_step_op(w);
	dw_step_op(w);
	world_hold_backup(w, false);
	assert_true(wr->is_done);
	assert_int_equal(dw_remote_version(w, 0, P), wr->version);
	dw_hold_ops(w, false);
	world_free(w);
}

static void
promotion__that_fails_leaves_the_page_on_the_backup(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	fake_net_fail(world_net(w), FAKE_OP, -EIO);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_promoted, 0);
	assert_false(dw_is_remote(w, P));
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
supersede__middle_writes_never_reach_the_backup(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *wr[5];

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	for (uint32_t i = 0; i < 5; i++) {
		wr[i] = dw_start(w, BACKEND_WRITE, 0, P);
		world_settle(w);
		assert_true(wr[i]->is_done);
	}
	assert_int_equal(world_stats(w).backup_writes_superseded, 3); /* all but first and last */
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	assert_int_equal(world_stats(w).writes_unsafe, 2);
	world_put_done(w);
	world_hold_backup(w, false);
	assert_int_equal(dw_flush(w), 0);
	assert_int_equal(dw_backup_version(w, P), 6); /* dw_map() wrote the first */
	world_check_backup(w);
	world_free(w);
}

static void
supersede__not_of_a_write_that_is_not_answered(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *fua;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fua = dw_start(w, BACKEND_WRITE, BACKEND_FUA, P);
	world_settle(w);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 0);
	assert_false(fua->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(fua->is_done && fua->status == 0);
	world_free(w);
}

static void
supersede__a_flush_between_still_covers_the_older(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *fl;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fl = dw_start(w, BACKEND_FLUSH, 0, 0);
	(void)dw_start(w, BACKEND_WRITE, 0,
		       P); /* takes the place of the second, before the flush */
	world_settle(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 1);
	fake_backup_step(world_backup(w), 0); /* the first */
	world_settle(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1); /* the third, not a SYNC */
	fake_backup_step(world_backup(w), 0);
	assert_int_equal(dw_backup_version(w, P), 4);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(fl->status, 0);
	world_free(w);
}

static void
room__long_runs_are_left_for_reads(void **state)
{
	struct world *w = dw_new(16, 0, SLAB_ACK_REMOTE);
	uint32_t n = 0;

	(void)state;
	world_hold_backup(w, true);
	/* Reads between, so that every block of the pool gets a page of a write. */
	while (world_submit(w, BACKEND_WRITE, 0, (uint64_t)n * PAGE_BYTES, 2 * PAGE_BYTES)) {
		(void)dw_start(w, BACKEND_READ, 0, 15 * MIB);
		n += 2;
		world_settle(w);
		world_put_done(w);
	}
	assert_int_equal(n, 1024 - 128 - 32);
	assert_non_null(world_submit(w, BACKEND_READ, 0, 14 * MIB, BLOCK_BYTES));
	world_settle(w);
	world_put_done(w);
	world_hold_backup(w, false);
	world_settle(w);
	world_free(w);
}

/* There are fewer pieces than pages in the buffers: single pages use them up first. */
static void
room__pieces_are_left_for_reads(void **state)
{
	struct world *w = dw_new(16, 0, SLAB_ACK_REMOTE);
	uint32_t n_writes = 0, n_reads = 0;

	(void)state;
	world_hold_backup(w, true);
	while (world_submit(w, BACKEND_WRITE, 0, (uint64_t)n_writes * PAGE_BYTES, PAGE_BYTES))
		n_writes++;
	assert_int_equal(n_writes, 1024 * 5 / 8 * 15 / 16);
	while (world_submit(w, BACKEND_READ, 0, 15 * MIB, PAGE_BYTES))
		n_reads++;
	assert_int_equal(n_reads, 1024 * 5 / 8 / 16);
	world_hold_backup(w, false);
	world_settle(w);
	world_put_done(w);
	assert_non_null(world_submit(w, BACKEND_WRITE, 0, 0, PAGE_BYTES));
	world_settle(w);
	world_free(w);
}

static struct backend_io *held;
static void
fail_then_put(struct world *w)
{
	assert_null(world_submit(w, BACKEND_WRITE, 0, 0, BLOCK_BYTES));
	backend_put(slab_device_backend(world_device(w)), held);
}

static void
room__freed_inside_resume_is_not_forgotten(void **state)
{
	struct world *w = dw_new(16, 0, SLAB_ACK_REMOTE);
	struct backend *be = slab_device_backend(world_device(w));
	struct backend_io *io[40];
	uint32_t n = 0;

	(void)state;
	while ((io[n] = backend_get(be, BACKEND_WRITE, 0, BLOCK_BYTES)) != NULL)
		n++;
	assert_int_equal(n, 27);
	world_settle(w);
	assert_int_equal(world_resumes(w), 0);
	backend_put(be, io[--n]);
	io[n] = backend_get(be, BACKEND_WRITE, 0, PAGE_BYTES); /* only a part is left */
	assert_non_null(io[n]);
	held = io[n];
	world_on_resume(w, fail_then_put);
	world_settle(w);
	assert_int_equal(world_resumes(w), 2);
	while (n > 0)
		backend_put(be, io[--n]);
	world_free(w);
}

static void
room__slots_of_ranges_and_flushes(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);
	uint32_t n = 0;

	(void)state;
	world_hold_backup(w, true);
	while (world_submit(w, BACKEND_TRIM, 0, (uint64_t)n * PAGE_BYTES, PAGE_BYTES))
		n++;
	assert_int_equal(n, RANGES_MAX);
	n = 0;
	while (world_submit(w, BACKEND_FLUSH, 0, 0, 0))
		n++;
	assert_int_equal(n, FLUSHES_MAX);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_resumes(w), 0);
	world_put_done(w);
	world_settle(w);
	assert_int_equal(world_resumes(w), 1);
	world_free(w);
}

static void
get__put_without_submit(void **state)
{
	struct world *w = dw_new(1, 0, SLAB_ACK_REMOTE);
	struct backend *be = slab_device_backend(world_device(w));
	static const enum backend_kind kinds[] = {BACKEND_READ, BACKEND_WRITE, BACKEND_TRIM,
						  BACKEND_ZERO, BACKEND_FLUSH};

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		backend_put(be, backend_get(be, kinds[i], 0, i == 4 ? 0 : PAGE_BYTES));
	assert_int_equal(world_device(w)->n_in_use, 0);
	world_free(w);
}

static void
extent__runs_of_data_and_holes(void **state)
{
	struct world *w = dw_new(4, 1, SLAB_ACK_REMOTE);
	struct backend *be = slab_device_backend(world_device(w));
	struct backend_extent e;

	(void)state;
	assert_int_equal(world_do(w, BACKEND_WRITE, P, 3 * PAGE_BYTES), 0);
	e = be->ops->extent(be, 0, 4 * MIB);
	assert_true(e.is_hole_zero);
	assert_int_equal(e.length_bytes, P);
	e = be->ops->extent(be, P + 100, 4 * MIB - P - 100);
	assert_false(e.is_hole_zero);
	assert_int_equal(e.length_bytes, 3 * PAGE_BYTES - 100);
	e = be->ops->extent(be, P, 10);
	assert_int_equal(e.length_bytes, 10);
	e = be->ops->extent(be, 5 * PAGE_BYTES, 4 * MIB - 5 * PAGE_BYTES);
	assert_true(e.is_hole_zero);
	assert_int_equal(e.length_bytes, 4 * MIB - 5 * PAGE_BYTES);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, 8 * PAGE_BYTES); /* in a buffer only */
	e = be->ops->extent(be, 8 * PAGE_BYTES, 2 * PAGE_BYTES);
	assert_false(e.is_hole_zero);
	assert_int_equal(e.length_bytes, PAGE_BYTES);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, BLOCK_BYTES), 0);
	e = be->ops->extent(be, 0, BLOCK_BYTES);
	assert_true(e.is_hole_zero);
	assert_int_equal(e.length_bytes, BLOCK_BYTES);
	world_free(w);
}

static void
arena__describes_every_unsafe_write(void **state)
{
	struct world *w = dw_new(2, 1, SLAB_ACK_REMOTE);
	const struct arena *a = &world_device(w)->arena;
	uint64_t last_seq = 0;
	uint32_t n = 0;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	(void)world_submit(w, BACKEND_WRITE, 0, BLOCK_BYTES + P, 7 * PAGE_BYTES);
	(void)world_submit(w, BACKEND_WRITE, 0, MIB + 512, 1024);
	world_settle(w);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	for (uint32_t i = 0; i < a->n_buffer_pages; i++) {
		const struct arena_write *aw = &a->writes[i];
		uint64_t version;

		if (aw->seq == 0)
			continue;
		n++;
		assert_int_equal(aw->buffer_page, i);
		assert_true(aw->seq <= a->header->write_seq);
		memcpy(&version,
		       a->buffers + (size_t)i * PAGE_BYTES + (aw->offset_bytes == MIB ? 512 : 0),
		       8);
		if (aw->offset_bytes == P) {
			assert_int_equal(aw->length_bytes, PAGE_BYTES);
			assert_true(version == 2 || version == 5);
			/* The later write has the higher number. */
			if (last_seq != 0)
				assert_int_equal(aw->seq > last_seq, version == 5);
			last_seq = aw->seq;
		} else if (aw->offset_bytes == BLOCK_BYTES + P) {
			assert_int_equal(aw->length_bytes, 7 * PAGE_BYTES);
			assert_int_equal(version, 3);
		} else { /* the part of a page, merged */
			assert_int_equal(aw->offset_bytes, MIB);
			assert_int_equal(aw->length_bytes, PAGE_BYTES);
			assert_int_equal(version, 4);
		}
	}
	assert_int_equal(n, 4);
	assert_int_equal(world_stats(w).writes_unsafe, 4);
	world_hold_backup(w, false);
	world_settle(w);
	for (uint32_t i = 0; i < a->n_buffer_pages; i++)
		assert_int_equal(a->writes[i].seq, 0);
	world_free(w);
}

static void
arena__has_no_pointers(void **state)
{
	struct world *w = dw_new(2, 2, SLAB_ACK_REMOTE);
	const struct slab_device *d = world_device(w);
	const uint8_t *base = (const uint8_t *)d->arena.header;
	const struct {
		const void *at;
		size_t bytes;
	} areas[] = {
		{d, sizeof(*d)},
		{base, d->arena.total_bytes},
		{d->pieces, d->n_pieces * sizeof(*d->pieces)},
		{d->ranges, RANGES_MAX * sizeof(*d->ranges)},
		{d->remotes, d->n_remotes * sizeof(*d->remotes)},
	};

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	for (uint32_t i = 0; i < 20; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, i * 3 * PAGE_BYTES);
	world_settle(w);
	/* What the daemon calls its memory is not ours to follow. */
	for (size_t at = 0; at < (size_t)(d->arena.buffers - base); at += 8) {
		uint64_t word;

		memcpy(&word, base + at, 8);
		for (uint32_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
			assert_false(word - (uint64_t)(uintptr_t)areas[i].at < areas[i].bytes);
	}
	world_hold_backup(w, false);
	world_free(w);
}

static void
restart__everything_is_there(void **state)
{
	struct world *w = dw_new(4, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < 60; i++)
		assert_int_equal(dw_write(w, (uint64_t)i * 17 * PAGE_BYTES), 0);
	assert_int_equal(world_do(w, BACKEND_WRITE, 512, 512), 0);
	assert_int_equal(world_do(w, BACKEND_ZERO, 34 * PAGE_BYTES, 20 * PAGE_BYTES), 0);
	(void)dw_start(w, BACKEND_WRITE, 0, 5 * PAGE_BYTES); /* on its way at the stop */
	assert_int_equal(world_restart(w), 0);
	world_settle(w);
	for (uint64_t at = 0; at < 4 * MIB; at += BLOCK_BYTES)
		assert_int_equal(world_do(w, BACKEND_READ, at, BLOCK_BYTES), 0);
	assert_true(world_stats(w).pages_read_backup > 0);
	assert_int_equal(world_stats(w).pages_read_remote, 0); /* a new device starts empty */
	dw_map(w, 0);
	world_free(w);
}

static void
new__refuses_bad_configs(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	const struct slab_device_config good = world_device(w)->config;
	struct backup *b = fake_backup_as_backup(world_backup(w));
	struct slab_device_config c;
	struct slab_device *d = NULL;
	char long_name[CTL_DEVICE_NAME_BYTES + 1];

	(void)state;
#define REFUSED(member, value)                                                                     \
	do {                                                                                       \
		c = good;                                                                          \
		c.member = (value);                                                                \
		assert_int_equal(slab_device_new(&c, b, &d), -EINVAL);                             \
		assert_null(d);                                                                    \
	} while (0)
	memset(long_name, 'x', sizeof(long_name));
	long_name[CTL_DEVICE_NAME_BYTES] = 0;
	REFUSED(arena, NULL);
	REFUSED(name, NULL);
	REFUSED(name, long_name);
	REFUSED(entropy, NULL);
	REFUSED(event, NULL);
	REFUSED(portals, NULL);
	REFUSED(ack, (enum slab_ack)0);
	REFUSED(op_timeout_ns, 0);
	REFUSED(connect_timeout_ns, 0);
	REFUSED(ping_ns, 0);
	REFUSED(retry_ns, 0);
	REFUSED(retry_max_ns, 0);
	REFUSED(refill_rate, SLAB_REFILL_RATE_MAX + 1);
	REFUSED(migrate_rate, SLAB_REFILL_RATE_MAX + 1);
	REFUSED(migrate, true); /* at which rate? */
	REFUSED(size_bytes, 0);
	REFUSED(slab_bytes, 12345);
	REFUSED(buffer_bytes, PAGE_BYTES);
#undef REFUSED
	c = good;
	c.size_bytes = 1;
	assert_int_equal(slab_device_arena_bytes(&c), 0);
	/* A portal whose transport cannot register the buffers. */
	c = good;
	fake_tp_refuse_register(good.portals[0].tp, -ENOMEM);
	assert_int_equal(slab_device_new(&c, b, &d), -ENOMEM);
	assert_null(d);
	fake_tp_refuse_register(good.portals[0].tp, 0);
	assert_null(slab_device_free(NULL));
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ack__remote_or_both),
		cmocka_unit_test(ack__unmapped_write_waits_for_the_backup),
		cmocka_unit_test(fua__waits_for_backup_and_sync),
		cmocka_unit_test(flush__waits_for_every_earlier_write),
		cmocka_unit_test(flush__failed_sync_is_the_answer),
		cmocka_unit_test(trim__reads_zeros_and_waits_its_turn),
		cmocka_unit_test(zero__with_and_without_backup_support),
		cmocka_unit_test(zero__no_hole_writes_zeros),
		cmocka_unit_test(partial__merges_with_the_newest_bytes),
		cmocka_unit_test(partial__whose_fetch_fails_changes_nothing),
		cmocka_unit_test(promotion__of_the_runs_that_came_from_the_backup),
		cmocka_unit_test(promotion__holds_back_a_later_write),
		cmocka_unit_test(promotion__that_fails_leaves_the_page_on_the_backup),
		cmocka_unit_test(supersede__middle_writes_never_reach_the_backup),
		cmocka_unit_test(supersede__not_of_a_write_that_is_not_answered),
		cmocka_unit_test(supersede__a_flush_between_still_covers_the_older),
		cmocka_unit_test(room__long_runs_are_left_for_reads),
		cmocka_unit_test(room__pieces_are_left_for_reads),
		cmocka_unit_test(room__freed_inside_resume_is_not_forgotten),
		cmocka_unit_test(room__slots_of_ranges_and_flushes),
		cmocka_unit_test(get__put_without_submit),
		cmocka_unit_test(extent__runs_of_data_and_holes),
		cmocka_unit_test(arena__describes_every_unsafe_write),
		cmocka_unit_test(arena__has_no_pointers),
		cmocka_unit_test(restart__everything_is_there),
		cmocka_unit_test(new__refuses_bad_configs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
