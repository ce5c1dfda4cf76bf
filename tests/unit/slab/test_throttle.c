/* SPDX-License-Identifier: MIT */
/* A backup that is slower than the writers: their answers are held, reads go on, nobody is forgotten. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define SLABS 4u
/* Block writes that use up the write buffers, and some more. */
#define WRITES_MAX 30u

struct burst {
	struct world *w;
	struct world_io *writes[WRITES_MAX];
	uint32_t n;
};

static uint64_t
at(uint32_t write)
{
	return (uint64_t)write * BLOCK_BYTES;
}

static bool
is_short(struct world *w)
{
	const struct buffer_pool *pool = &world_device(w)->pool;

	return pool->n_free < pool->n_pages / 2;
}

static struct world_io *
burst_write(struct burst *b)
{
	struct world_io *wio = world_submit(b->w, BACKEND_WRITE, 0, at(b->n), BLOCK_BYTES);

	assert_non_null(wio);
	b->writes[b->n++] = wio;
	dw_settle_but_backup(b->w);
	return wio;
}

/* Writes blocks until the answer of the last one is held.  Nothing gets to the backup. */
static void
burst_begin(struct burst *b, uint32_t n_daemons)
{
	b->w = dw_new(SLABS, n_daemons, SLAB_ACK_REMOTE);
	b->n = 0;
	for (uint32_t slab = 0; slab < SLABS; slab++)
		dw_map(b->w, slab);
	world_hold_backup(b->w, true);
	while (burst_write(b)->is_done)
		assert_false(is_short(b->w));
	assert_true(is_short(b->w));
	assert_int_equal(world_stats(b->w).answers_held, 1);
}

static void
burst_end(struct burst *b)
{
	world_hold_backup(b->w, false);
	world_settle(b->w);
	assert_int_equal(world_pending(b->w), 0);
	world_put_done(b->w);
	assert_int_equal(dw_flush(b->w), 0);
	world_check_backup(b->w);
	world_free(b->w);
}

static void
held__while_less_than_half_is_free_and_reads_go_on(void **state)
{
	struct burst b;

	(void)state;
	burst_begin(&b, 1);
	assert_false(burst_write(&b)->is_done);
	assert_false(burst_write(&b)->is_done);
	for (uint32_t i = 0; i < b.n; i++)
		assert_int_equal(world_do(b.w, BACKEND_READ, at(i), BLOCK_BYTES), 0);
	assert_int_equal(world_pending(b.w), 3);
	assert_int_equal(world_stats(b.w).answers_held, 3);
	burst_end(&b);
}

static void
held__goes_in_order_when_there_is_room(void **state)
{
	struct burst b;
	struct world_io *second;

	(void)state;
	burst_begin(&b, 1);
	second = burst_write(&b);
	world_put_done(b.w);
	fake_backup_step(world_backup(b.w), 0); /* the first write: one block is free again */
	dw_settle_but_backup(b.w);
	assert_true(is_short(b.w));
	assert_false(b.writes[b.n - 2]->is_done || second->is_done);
	fake_backup_step(world_backup(b.w), 0);
	dw_settle_but_backup(b.w);
	assert_false(is_short(b.w));
	assert_true(b.writes[b.n - 2]->is_done && second->is_done);
	burst_end(&b);
}

static void
held__goes_when_the_backup_has_it(void **state)
{
	struct burst b;
	struct world_io *held, *other;

	(void)state;
	burst_begin(&b, 1);
	held = b.writes[b.n - 1];
	other = burst_write(&b);
	fake_backup_step(world_backup(b.w), b.n - 2);
	dw_settle_but_backup(b.w);
	assert_true(held->is_done && held->status == 0);
	assert_true(is_short(b.w));
	assert_false(other->is_done);
	burst_end(&b);
}

static void
held__goes_when_it_is_superseded(void **state)
{
	struct burst b;
	struct world_io *older, *newer;

	(void)state;
	burst_begin(&b, 1);
	older = dw_start(b.w, BACKEND_WRITE, 0, 0); /* waits for the first write of the page */
	dw_settle_but_backup(b.w);
	assert_false(older->is_done);
	newer = dw_start(b.w, BACKEND_WRITE, 0, 0);
	dw_settle_but_backup(b.w);
	assert_int_equal(world_stats(b.w).backup_writes_superseded, 1);
	assert_true(older->is_done && older->status == 0);
	assert_false(newer->is_done);
	burst_end(&b);
}

static void
held__goes_when_the_backup_refuses_it(void **state)
{
	struct burst b;

	(void)state;
	burst_begin(&b, 1);
	fake_backup_fail_writes(world_backup(b.w), -EIO);
	fake_backup_step(world_backup(b.w), b.n - 1); /* degraded */
	dw_settle_but_backup(b.w);
	assert_true(b.writes[b.n - 1]->is_done && b.writes[b.n - 1]->status == 0);
	assert_false(burst_write(&b)->is_done);
	dw_lose(b.w, 0);
	assert_false(b.writes[b.n - 1]->is_done);
	world_allow_read_errors(b.w);
	fake_backup_step(world_backup(b.w), b.n - 2); /* kept: its buffer is the only copy */
	dw_settle_but_backup(b.w);
	assert_int_equal(world_device(b.w)->n_kept, 1);
	assert_true(b.writes[b.n - 1]->is_done && b.writes[b.n - 1]->status == 0);
	fake_backup_fail_writes(world_backup(b.w), 0);
	world_hold_backup(b.w, false);
	world_run(b.w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_pending(b.w), 0);
	world_put_done(b.w);
	world_free(b.w);
}

static void
wait__is_measured_while_an_answer_is_held(void **state)
{
	struct burst b;
	uint64_t ns;

	(void)state;
	burst_begin(&b, 1);
	ns = world_stats(b.w).backup_wait_ns;
	world_pass(b.w, 70 * NSEC_PER_MSEC);
	dw_settle_but_backup(b.w);
	world_pass(b.w, 30 * NSEC_PER_MSEC);
	dw_settle_but_backup(b.w);
	assert_int_equal(world_stats(b.w).backup_wait_ns - ns, 100 * NSEC_PER_MSEC);
	world_hold_backup(b.w, false);
	world_settle(b.w);
	world_pass(b.w, 50 * NSEC_PER_MSEC);
	world_settle(b.w);
	assert_int_equal(world_stats(b.w).backup_wait_ns - ns, 100 * NSEC_PER_MSEC);
	burst_end(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(held__while_less_than_half_is_free_and_reads_go_on),
		cmocka_unit_test(held__goes_in_order_when_there_is_room),
		cmocka_unit_test(held__goes_when_the_backup_has_it),
		cmocka_unit_test(held__goes_when_it_is_superseded),
		cmocka_unit_test(held__goes_when_the_backup_refuses_it),
		cmocka_unit_test(wait__is_measured_while_an_answer_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
