/* SPDX-License-Identifier: MIT */
/* What the device says of time: when a request was posted, how long each daemon took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/histogram.h"
#include "device_world.h"

#define P (2 * PAGE_BYTES)

static struct slab_daemon_info
daemon_info(struct world *w, uint32_t index)
{
	struct slab_daemon_info info;

	assert_true(slab_device_get_daemon(world_device(w), index, &info));
	return info;
}

static void
posted__when_somebody_is_asked(void **state)
{
	struct world *w = dw_new(2, 1, SLAB_ACK_REMOTE);
	struct world_io *wio;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	/* Mapped: its daemon; a page that nobody ever wrote: nobody. */
	wio = dw_start(w, BACKEND_WRITE, 0, P);
	assert_int_equal(wio->io->posted_ns, world_now(w));
	wio = dw_start(w, BACKEND_READ, 0, P + PAGE_BYTES);
	assert_int_equal(wio->io->posted_ns, 0);
	wio = dw_start(w, BACKEND_TRIM, 0, P + 8 * PAGE_BYTES);
	assert_int_equal(wio->io->posted_ns, world_now(w));
	world_settle(w);
	world_hold_backup(w, false);
	world_settle(w);
	world_pass(w, 1000);
	wio = dw_start(w, BACKEND_FLUSH, 0, 0);
	assert_int_equal(wio->io->posted_ns, world_now(w));
	world_settle(w);
	world_free(w);
}

/* The second asks nobody before the first is done; the flush waits for both. */
static void
posted__behind_others(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_BOTH);
	struct world_io *first, *second, *flush;
	uint64_t begun_ns;

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	begun_ns = world_now(w);
	first = dw_start(w, BACKEND_WRITE, 0, P);
	dw_hold_ops(w, true);
	second = dw_start(w, BACKEND_WRITE, 0, P);
	flush = dw_start(w, BACKEND_FLUSH, 0, 0);
	world_advance(w);
	world_pass(w, 5000);
	assert_int_equal(first->io->posted_ns, begun_ns);
	assert_int_equal(second->io->posted_ns, 0);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(second->io->posted_ns, begun_ns + 5000);
	assert_int_equal(flush->io->posted_ns, 0);
	world_pass(w, 7000);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(flush->io->posted_ns, begun_ns + 12000);
	world_free(w);
}

static void
remote__each_daemon_has_its_own(void **state)
{
	struct world *w = dw_new(1, 2, SLAB_ACK_BOTH);
	struct slab_daemon_info info, other;
	uint64_t reads;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	info = daemon_info(w, 0);
	other = daemon_info(w, 1);
	if (info.slabs_mapped == 0) {
		info = daemon_info(w, 1);
		other = daemon_info(w, 0);
	}
	assert_int_equal(info.slabs_mapped, 1);
	assert_int_equal(other.read_times->count + other.write_times->count, 0);
	assert_true(info.write_times->count > 0);
	assert_int_equal(info.write_times->max_ns, 0);
	reads = info.read_times->count;

	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0, P);
	world_advance(w);
	world_pass(w, 3000000);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(info.read_times->count, reads + 1);
	assert_int_equal(info.read_times->max_ns, 3000000);
	assert_int_equal(other.read_times->count, 0);
	world_free(w);
}

/* An operation that failed says nothing of how long one takes; a daemon that returns is the same one. */
static void
remote__outlives_the_session(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_BOTH);
	struct slab_daemon_info info = daemon_info(w, 0);
	uint64_t reads;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_read(w, P), 0);
	reads = info.read_times->count;
	assert_true(reads > 0);
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_READ, 0, P);
	world_advance(w);
	dw_hold_ops(w, false);
	dw_lose(w, 0);
	world_hold_backup(w, false);
	world_settle(w);
	assert_ptr_equal(daemon_info(w, 0).read_times, info.read_times);
	assert_int_equal(info.read_times->count, reads);
	world_free(w);
}

/* Another portal in the same place does not get the numbers of the one before it. */
static void
remote__new_portal_starts_at_zero(void **state)
{
	const struct world_config c = {.n_slabs = 1,
				       .n_daemons = 2,
				       .slabs_per_daemon = 4,
				       .n_portals = 1,
				       .max_portals = 1};
	struct world *w = world_new(&c);

	(void)state;
	world_settle(w);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_true(daemon_info(w, 0).write_times->count > 0);
	/* Twice, so that the first place is taken again. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			slab_device_set_portals(world_device(w), &world_portals(w)[1 - i], 1), 0);
		world_run(w, 3 * NSEC_PER_SEC);
	}
	assert_string_equal(daemon_info(w, 0).address, world_portals(w)[0].address);
	assert_int_equal(daemon_info(w, 0).write_times->count, 0);
	world_free(w);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(posted__when_somebody_is_asked),
		cmocka_unit_test(posted__behind_others),
		cmocka_unit_test(remote__each_daemon_has_its_own),
		cmocka_unit_test(remote__outlives_the_session),
		cmocka_unit_test(remote__new_portal_starts_at_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
