/* SPDX-License-Identifier: MIT */
/* What made the paper's code hang or fail (L1 to L7), where the device core answers for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)

static bool
is_up(struct world *w, uint32_t daemon)
{
	struct slab_daemon_info info;

	assert_true(slab_device_get_daemon(world_device(w), daemon, &info));
	return info.is_up;
}

/* The end of a connection is told by a callback: it notes that, and frees nothing in use. */
static void
l5_work_inside_a_callback(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *write;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	write = dw_start(w, BACKEND_WRITE, 0, P);
	dw_settle_but_backup(w);
	assert_true(write->is_done && write->status == 0);
	world_put_done(w);
	world_daemon_kill(w, 0, -ECONNRESET);
	(void)fake_net_run(world_net(w)); /* every callback, and no turn of the core */
	assert_false(is_up(w, 0));
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_INCOMING, NULL), 0);
	assert_int_equal(world_device(w)->n_in_use, 1); /* the backup still reads its buffer */
	world_hold_backup(w, false);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_device(w)->n_in_use, 0);
	assert_true(is_up(w, 0));
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
l6_a_failed_post_is_no_error_while_the_other_copy_is_queued(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct world_io *write;

	(void)state;
	dw_map(w, 0);
	fake_net_fail(world_net(w), FAKE_OP, -EIO);
	world_hold_backup(w, true);
	write = dw_start(w, BACKEND_WRITE, 0, P);
	dw_settle_but_backup(w);
	assert_false(write->is_done);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(write->is_done && write->status == 0);
	world_put_done(w);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
l7_a_failed_daemon_rejoins(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (int i = 0; i < 3; i++) {
		dw_map(w, 0);
		dw_lose(w, 0);
		world_hold_backup(w, false);
		world_run(w, 5 * NSEC_PER_SEC);
		assert_false(is_up(w, 0));
		fake_daemon_set_up(world_daemon(w, 0), true);
		world_run(w, 2 * NSEC_PER_SEC);
		assert_true(is_up(w, 0));
	}
	world_free(w);
}

static void
l7_teardown_with_work_under_way(void **state)
{
	struct world *w = dw_new(2, 2, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	for (uint32_t i = 0; i < 20; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, MIB + i * PAGE_BYTES);
	assert_int_equal(world_stop(w), 0);
	world_check_backup(w);
	world_free(w); /* asserts that nothing is left */
}

static void
l7_several_devices_in_one_process(void **state)
{
	struct world *a = dw_new(1, 1, SLAB_ACK_REMOTE), *b = dw_new(1, 1, SLAB_ACK_BOTH);

	(void)state;
	dw_map(a, 0);
	dw_map(b, 0);
	dw_lose(a, 0);
	world_hold_backup(a, false);
	assert_int_equal(dw_write(b, P), 0);
	assert_true(dw_is_remote(b, P));
	world_free(a);
	assert_int_equal(dw_read(b, P), 0);
	world_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(l5_work_inside_a_callback),
		cmocka_unit_test(l6_a_failed_post_is_no_error_while_the_other_copy_is_queued),
		cmocka_unit_test(l7_a_failed_daemon_rejoins),
		cmocka_unit_test(l7_teardown_with_work_under_way),
		cmocka_unit_test(l7_several_devices_in_one_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
