/* SPDX-License-Identifier: MIT */
/* Writes that wait until the backup takes more of them: who joins whom, who is dropped, whose turn it is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define SLABS 4u
/* A page with nothing beside it, that keeps the backup busy. */
#define FAR (3 * MIB + 100 * PAGE_BYTES)

static uint64_t
page(uint32_t n)
{
	return (uint64_t)n * PAGE_BYTES;
}

/* Mapped slabs, a backup that takes one write at a time, and is at it. */
static struct world *
busy_world(enum slab_ack ack)
{
	const struct world_config c = {
		.n_slabs = SLABS,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.ack = ack,
		.can_zero = true,
		.can_discard = true,
		.backup_writes = 1,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	for (uint32_t slab = 0; slab < SLABS; slab++)
		dw_map(w, slab);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, FAR);
	dw_settle_but_backup(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	return w;
}

static struct world_io *
write_pages(struct world *w, uint32_t first, uint32_t n, uint32_t flags)
{
	struct world_io *wio = world_submit(w, BACKEND_WRITE, flags, page(first), n * PAGE_BYTES);

	assert_non_null(wio);
	dw_settle_but_backup(w);
	return wio;
}

/* Completes what is under way; what follows is @n pages from @first on, in @n_parts. */
static void
step_to(struct world *w, uint32_t first, uint32_t n, uint32_t n_parts)
{
	const struct backup_op *op;

	fake_backup_step(world_backup(w), 0);
	dw_settle_but_backup(w);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	op = fake_backup_op(world_backup(w), 0);
	assert_int_equal(op->kind, BACKUP_OP_WRITE);
	assert_int_equal(op->offset_bytes, page(first));
	assert_int_equal(op->length_bytes, page(n));
	assert_int_equal(op->n_parts, n_parts);
}

static void
end(struct world *w)
{
	fake_backup_fail_writes(world_backup(w), 0);
	world_hold_backup(w, false);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_pending(w), 0);
	world_put_done(w);
	assert_int_equal(world_stats(w).backup_writes_waiting, 0);
	assert_int_equal(dw_flush(w), 0);
	world_check_backup(w);
	world_check_counters(w);
	world_free(w);
}

static void
limit__the_others_wait_in_order(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	(void)write_pages(w, 5, 1, 0);
	(void)write_pages(w, 7, 1, 0);
	assert_int_equal(fake_backup_pending(world_backup(w)), 1);
	assert_int_equal(world_stats(w).backup_writes_waiting, 3);
	step_to(w, 9, 1, 0);
	step_to(w, 5, 1, 0);
	step_to(w, 7, 1, 0);
	end(w);
}

static void
limit__reads_take_what_waits_from_its_buffer(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	dw_lose(w, 0);
	assert_int_equal(dw_read(w, page(9)), 0);
	assert_int_equal(world_stats(w).pages_read_buffer, 1);
	end(w);
}

static void
merge__neighbours_become_one_operation(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 31, 1, 0); /* the last one of its block */
	(void)write_pages(w, 32, 2, 0);
	(void)write_pages(w, 29, 2, 0); /* before it */
	(void)write_pages(w, 28, 1, 0);
	(void)write_pages(w, 35, 1, 0); /* behind a gap */
	step_to(w, 28, 6, 4);
	assert_int_equal(world_stats(w).backup_writes_merged, 3);
	assert_int_equal(world_stats(w).backup_writes_waiting, 1);
	step_to(w, 35, 1, 0);
	for (uint32_t i = 28; i < 34; i++)
		assert_true(dw_is_backup(w, page(i)));
	end(w);
}

static void
merge__at_both_ends_of_the_device(void **state)
{
	const uint32_t last = SLABS * 256 - 2; /* dw_map() has written the very last */
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 0, 1, 0);
	(void)write_pages(w, 1, 1, 0);
	(void)write_pages(w, last, 1, 0);
	(void)write_pages(w, last + 1, 1, 0);
	step_to(w, 0, 2, 2);
	step_to(w, last, 2, 2);
	end(w);
}

static void
merge__no_more_than_an_operation_may_have(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < BACKUP_PARTS_MAX + 2; i++)
		(void)write_pages(w, i, 1, 0);
	for (uint32_t i = 0; i < 9; i++)
		(void)write_pages(w, 256 + i * BLOCK_PAGES, BLOCK_PAGES, 0);
	step_to(w, 0, BACKUP_PARTS_MAX, BACKUP_PARTS_MAX);
	step_to(w, BACKUP_PARTS_MAX, 2, 2);
	step_to(w, 256, BACKUP_PARTS_MAX * BLOCK_PAGES, BACKUP_PARTS_MAX);
	step_to(w, 512, BLOCK_PAGES, 0);
	end(w);
}

static void
merge__that_fails_is_tried_one_by_one(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 100, 1, 0);
	(void)write_pages(w, 3, 1, 0);
	(void)write_pages(w, 4, 1, 0);
	(void)write_pages(w, 5, 1, 0);
	step_to(w, 100, 1, 0);
	(void)write_pages(w, 200, 1, 0);
	step_to(w, 3, 3, 3);
	fake_backup_fail_writes(world_backup(w), -EIO);
	step_to(w, 3, 1, 0); /* before the one that waits */
	assert_int_equal(world_stats(w).backup_errors, 1);
	assert_int_equal(world_stats(w).backup_merges_failed, 1);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	fake_backup_fail_writes(world_backup(w), 0);
	step_to(w, 4, 1, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	step_to(w, 5, 1, 0);
	assert_int_equal(world_stats(w).pages_degraded, 1); /* 4, which nobody else pays for */
	fake_backup_fail_writes(world_backup(w), 0);
	step_to(w, 200, 1, 0);
	assert_true(dw_is_backup(w, page(3)) && dw_is_backup(w, page(5)));
	assert_false(dw_is_backup(w, page(4)));
	end(w);
}

static void
drop__the_newer_takes_the_place_of_the_older(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);
	struct world_io *newest = NULL;

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	(void)write_pages(w, 50, 1, 0);
	for (uint32_t i = 0; i < 3; i++)
		newest = write_pages(w, 9, 1, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 3);
	assert_int_equal(world_stats(w).backup_writes_waiting, 2);
	step_to(w, 9, 1, 0);
	step_to(w, 50, 1, 0);
	assert_int_equal(dw_backup_version(w, page(9)), newest->version);
	end(w);
}

static void
drop__several_that_one_replaces(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 50, 1, 0);
	(void)write_pages(w, 10, 1, 0);
	(void)write_pages(w, 60, 1, 0);
	(void)write_pages(w, 8, 1, 0);
	(void)write_pages(w, 7, 5, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 2);
	step_to(w, 50, 1, 0);
	step_to(w, 7, 5, 0); /* where 10 was */
	step_to(w, 60, 1, 0);
	end(w);
}

static void
drop__not_before_the_newer_is_on_remote(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	dw_hold_ops(w, true);
	(void)write_pages(w, 9, 1, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 0);
	dw_step_op(w);
	assert_int_equal(world_stats(w).backup_writes_superseded, 1);
	dw_hold_ops(w, false);
	end(w);
}

static void
drop__not_what_has_other_pages_too(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 2, 0);
	(void)write_pages(w, 9, 1, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 0);
	step_to(w, 9, 2, 0);
	step_to(w, 9, 1, 0);
	end(w);
}

/* It could not wait at the place of the one: it waits for the other. */
static void
drop__not_while_the_newer_waits_for_another(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	step_to(w, 9, 1, 0);
	(void)write_pages(w, 10, 1, 0);
	(void)write_pages(w, 9, 2, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 0);
	step_to(w, 10, 1, 0);
	step_to(w, 9, 2, 0);
	end(w);
}

static void
drop__not_what_is_answered_by_the_backup(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);
	struct world_io *fua = write_pages(w, 9, 1, BACKEND_FUA);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	assert_int_equal(world_stats(w).backup_writes_superseded, 0);
	assert_false(fua->is_done);
	step_to(w, 9, 1, 0);
	end(w);
}

static void
flush__waits_for_what_took_the_place(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);
	struct world_io *fl, *newest;

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	fl = dw_start(w, BACKEND_FLUSH, 0, 0);
	(void)write_pages(w, 50, 1, 0);
	newest = write_pages(w, 9, 1, 0);
	step_to(w, 9, 1, 0);
	assert_false(fl->is_done);
	fake_backup_step(world_backup(w), 0);
	dw_settle_but_backup(w);
	assert_int_equal(dw_backup_version(w, page(9)), newest->version);
	assert_int_equal(fake_backup_pending(world_backup(w)), 2); /* 50, and the SYNC */
	fake_backup_step(world_backup(w), 0);
	dw_settle_but_backup(w);
	assert_true(fl->is_done && fl->status == 0);
	end(w);
}

/* Nothing of it is in flight: the daemon may go, the buffer is there. */
static void
lost_daemon__what_waits_gets_to_the_backup(void **state)
{
	struct world *w = busy_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)write_pages(w, 9, 1, 0);
	(void)write_pages(w, 10, 1, 0);
	(void)write_pages(w, 9, 1, 0);
	dw_lose(w, 0);
	step_to(w, 9, 2, 2);
	end(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit__the_others_wait_in_order),
		cmocka_unit_test(limit__reads_take_what_waits_from_its_buffer),
		cmocka_unit_test(merge__neighbours_become_one_operation),
		cmocka_unit_test(merge__at_both_ends_of_the_device),
		cmocka_unit_test(merge__no_more_than_an_operation_may_have),
		cmocka_unit_test(merge__that_fails_is_tried_one_by_one),
		cmocka_unit_test(drop__the_newer_takes_the_place_of_the_older),
		cmocka_unit_test(drop__several_that_one_replaces),
		cmocka_unit_test(drop__not_before_the_newer_is_on_remote),
		cmocka_unit_test(drop__not_what_has_other_pages_too),
		cmocka_unit_test(drop__not_while_the_newer_waits_for_another),
		cmocka_unit_test(drop__not_what_is_answered_by_the_backup),
		cmocka_unit_test(flush__waits_for_what_took_the_place),
		cmocka_unit_test(lost_daemon__what_waits_gets_to_the_backup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
