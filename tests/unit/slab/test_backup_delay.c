/* SPDX-License-Identifier: MIT */
/* Writes that nobody waits for are kept from the backup while requests keep coming, and no longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define SLABS 4u
#define DELAY_NS (20 * NSEC_PER_MSEC)
/* Requests that come so often leave no quiet moment. */
#define BUSY_NS (100 * NSEC_PER_USEC)
#define QUIET_NS (200 * NSEC_PER_USEC)
/* Nobody writes there. */
#define ELSEWHERE (3 * MIB + 100 * PAGE_BYTES)

static uint64_t
page(uint32_t n)
{
	return (uint64_t)n * PAGE_BYTES;
}

/* Mapped slabs, and a backup that shows what it was given. */
static struct world *
new_world(enum slab_ack ack)
{
	const struct world_config c = {
		.n_slabs = SLABS,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.ack = ack,
		.can_zero = true,
		.can_discard = true,
		.backup_delay_ns = DELAY_NS,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	for (uint32_t slab = 0; slab < SLABS; slab++)
		dw_map(w, slab);
	world_run(w, NSEC_PER_SEC);
	world_hold_backup(w, true);
	assert_int_equal(fake_backup_pending(world_backup(w)), 0);
	return w;
}

static uint32_t
given(struct world *w)
{
	return fake_backup_pending(world_backup(w));
}

static struct world_io *
start_write(struct world *w, uint32_t n, uint32_t flags)
{
	struct world_io *wio = dw_start(w, BACKEND_WRITE, flags, page(n));

	dw_settle_but_backup(w);
	return wio;
}

/* Requests keep coming for @ns. */
static void
keep_busy(struct world *w, uint64_t ns)
{
	for (uint64_t passed = 0; passed < ns; passed += BUSY_NS) {
		assert_int_equal(dw_read(w, ELSEWHERE), 0);
		world_pass(w, BUSY_NS);
		dw_settle_but_backup(w);
	}
}

static void
end(struct world *w)
{
	world_hold_backup(w, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(world_pending(w), 0);
	world_put_done(w);
	world_check_backup(w);
	world_free(w);
}

static void
delay__until_no_request_comes(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);
	struct world_io *wio = start_write(w, 0, 0);

	(void)state;
	assert_true(wio->is_done);
	world_pass(w, QUIET_NS - 1);
	dw_settle_but_backup(w);
	assert_int_equal(given(w), 0);
	world_pass(w, 1);
	/* By itself: it had said that it wants to be called then. */
	dw_settle_but_backup(w);
	assert_int_equal(given(w), 1);
	end(w);
}

static void
delay__says_when_it_is_over(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)start_write(w, 0, 0);
	assert_int_equal(slab_device_advance(world_device(w), world_now(w)),
			 world_now(w) + QUIET_NS);
	end(w);
}

static void
delay__is_bounded(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)start_write(w, 0, 0);
	keep_busy(w, DELAY_NS - 2 * BUSY_NS);
	assert_int_equal(given(w), 0);
	(void)start_write(w, 1000, 0);
	keep_busy(w, 2 * BUSY_NS);
	/* The other one's time is not over. */
	assert_int_equal(given(w), 1);
	assert_int_equal(fake_backup_op(world_backup(w), 0)->offset_bytes, page(0));
	end(w);
}

static void
delay__is_that_of_the_first_of_a_page(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)start_write(w, 0, 0);
	for (int i = 0; i < 4; i++) {
		keep_busy(w, DELAY_NS / 5);
		(void)start_write(w, 0, 0);
	}
	assert_int_equal(given(w), 0);
	keep_busy(w, DELAY_NS / 5);
	assert_int_equal(given(w), 1);
	assert_int_equal(world_stats(w).backup_writes_dropped, 4);
	end(w);
}

static void
delay__not_where_an_answer_waits(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);

	(void)state;
	(void)start_write(w, 0, 0);
	assert_int_equal(given(w), 0);
	(void)start_write(w, 1000, BACKEND_FUA);
	assert_int_equal(given(w), 2);
	end(w);
	w = new_world(SLAB_ACK_BOTH);
	(void)start_write(w, 0, 0);
	assert_int_equal(given(w), 1);
	end(w);
}

static void
delay__not_where_no_daemon_takes_it(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);
	struct world_io *wio;

	(void)state;
	dw_hold_ops(w, true);
	wio = start_write(w, 0, 0);
	assert_int_equal(given(w), 0);
	dw_lose(w, 0);
	dw_hold_ops(w, false); /* it fails */
	dw_settle_but_backup(w);
	assert_false(wio->is_done);
	assert_int_equal(given(w), 1);
	(void)start_write(w, 1000, 0);
	assert_int_equal(given(w), 2);
	end(w);
}

static void
delay__not_where_a_flush_waits(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);
	struct world_io *flush;

	(void)state;
	(void)start_write(w, 0, 0);
	flush = world_submit(w, BACKEND_FLUSH, 0, 0, 0);
	assert_non_null(flush);
	dw_settle_but_backup(w);
	assert_int_equal(given(w), 1);
	fake_backup_step(world_backup(w), 0); /* the write */
	dw_settle_but_backup(w);
	fake_backup_step(world_backup(w), 0); /* the sync */
	dw_settle_but_backup(w);
	assert_true(flush->is_done);
	/* It is over with it. */
	(void)start_write(w, 0, 0);
	assert_int_equal(given(w), 0);
	end(w);
}

static void
delay__not_where_buffers_are_few(void **state)
{
	struct world *w = new_world(SLAB_ACK_REMOTE);
	const struct buffer_pool *pool = &world_device(w)->pool;
	uint32_t n = 0;

	(void)state;
	while (pool->n_free - 1 >= pool->n_pages / 8 * 5) {
		(void)start_write(w, n, 0);
		world_put_done(w);
		n += 2; /* no neighbours */
	}
	assert_int_equal(given(w), 0);
	(void)start_write(w, n, 0);
	assert_true(given(w) > 0);
	end(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delay__until_no_request_comes),
		cmocka_unit_test(delay__says_when_it_is_over),
		cmocka_unit_test(delay__is_bounded),
		cmocka_unit_test(delay__is_that_of_the_first_of_a_page),
		cmocka_unit_test(delay__not_where_an_answer_waits),
		cmocka_unit_test(delay__not_where_no_daemon_takes_it),
		cmocka_unit_test(delay__not_where_a_flush_waits),
		cmocka_unit_test(delay__not_where_buffers_are_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
