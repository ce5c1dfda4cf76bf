/* SPDX-License-Identifier: MIT */
/* Portals that come and go while the device works. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)

/* @n_portals of @n_daemons are known at the start. */
static struct world *
members_world(uint32_t n_daemons, uint32_t n_portals, uint32_t max_portals)
{
	const struct world_config c = {
		.n_slabs = 2,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 4,
		.n_portals = n_portals,
		.max_portals = max_portals,
		.ack = SLAB_ACK_REMOTE,
		.can_zero = true,
		.can_discard = true,
		.migrate_rate = UINT64_C(1) << 30,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

/* From daemon @first on, @n of them. */
static void
set(struct world *w, uint32_t first, uint32_t n)
{
	assert_int_equal(slab_device_set_portals(world_device(w), world_portals(w) + first, n), 0);
}

static uint32_t
n_known(struct world *w)
{
	struct slab_daemon_info info;
	uint32_t n = 0;

	while (slab_device_get_daemon(world_device(w), n, &info))
		n++;
	return n;
}

static bool
is_up(struct world *w, uint32_t daemon)
{
	struct slab_daemon_info info;

	for (uint32_t i = 0; slab_device_get_daemon(world_device(w), i, &info); i++)
		if (strcmp(info.address, world_daemon(w, daemon)->address) == 0)
			return info.is_up;
	return false;
}

/* Slab 0 is mapped, and the backup refuses what is written to it from now on. */
static void
degrade(struct world *w)
{
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
}

static void
heal(struct world *w)
{
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
}

static void
add__is_connected_to_and_lends(void **state)
{
	struct world *w = members_world(3, 1, 3);

	(void)state;
	assert_int_equal(n_known(w), 1);
	set(w, 0, 3);
	world_settle(w);
	assert_int_equal(n_known(w), 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(is_up(w, i));
	fake_daemon_set_up(world_daemon(w, 0), false);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_settle(w);
	dw_map(w, 0); /* only an added one can have taken it */
	world_free(w);
}

static void
add__to_a_device_without_any(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	set(w, 0, 0);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	set(w, 1, 1);
	world_settle(w);
	dw_map(w, 0);
	world_free(w);
}

static void
add__twice_the_same_counts_once(void **state)
{
	struct world *w = members_world(2, 1, 3);
	struct slab_portal twice[3];

	(void)state;
	twice[0] = twice[1] = world_portals(w)[1];
	twice[2] = world_portals(w)[0];
	assert_int_equal(slab_device_set_portals(world_device(w), twice, 3), 0);
	world_settle(w);
	assert_int_equal(n_known(w), 2);
	assert_int_equal(world_daemon(w, 1)->n_hellos, 1);
	world_free(w);
}

static void
remove__loses_no_page(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	dw_map(w, 0);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(dw_write(w, (uint64_t)i * PAGE_BYTES), 0);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_false(is_up(w, 0));
	assert_int_equal(world_said(w, "has left"), 1);
	assert_int_equal(world_events(w, SLAB_EVENT_WARN), 0); /* it is no failure */
	assert_int_equal(world_stats(w).remote_failures, 0);
	assert_int_equal(world_stats(w).slabs_given_back, 1);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 0)), 0);
	assert_int_equal(world_stats(w).pages_lost, 0);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(dw_read(w, (uint64_t)i * PAGE_BYTES), 0);
	dw_map(w, 0); /* on the other one */
	assert_int_equal(fake_daemon_lent(world_daemon(w, 1)), 1);
	world_free(w);
}

static void
remove__with_operations_in_flight(void **state)
{
	struct world *w = members_world(2, 1, 2);
	struct world_io *reading, *writing;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	dw_hold_ops(w, true);
	reading = dw_start(w, BACKEND_READ, 0, P);
	writing = dw_start(w, BACKEND_WRITE, 0, P + PAGE_BYTES);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 2); /* they have their time */
	assert_false(reading->is_done);
	dw_hold_ops(w, false);
	world_run(w, NSEC_PER_SEC);
	assert_true(reading->is_done && writing->is_done);
	assert_int_equal(reading->status, 0);
	assert_int_equal(writing->status, 0);
	world_put_done(w);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

/* The daemon does not answer UNMAP: the deadline is shorter than that answer's. */
static void
remove__deadline(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	fake_net_hold(world_net(w), FAKE_REVOKED, true);
	set(w, 1, 1);
	world_run(w, 1900 * NSEC_PER_MSEC);
	assert_int_equal(n_known(w), 2);
	world_run(w, 200 * NSEC_PER_MSEC);
	assert_int_equal(world_said(w, "has not given back 1 slabs in time"), 1);
	fake_net_hold(world_net(w), FAKE_REVOKED, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static uint32_t
count_in(struct world *w, enum slab_state state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < world_device(w)->arena.n_slabs; i++)
		n += dw_slab_state(w, i) == state;
	return n;
}

/* A few slabs at a time, and each gets another place when it is used. */
static void
remove__slabs_go_one_after_the_other(void **state)
{
	const struct world_config c = {
		.n_slabs = 12,
		.n_daemons = 2,
		.slabs_per_daemon = 16,
		.n_portals = 1,
		.max_portals = 2,
		.ack = SLAB_ACK_REMOTE,
		.can_zero = true,
	};
	struct world *w = world_new(&c);

	(void)state;
	world_settle(w);
	for (uint32_t i = 0; i < 12; i++)
		dw_map(w, i);
	fake_net_hold(world_net(w), FAKE_REVOKED, true);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC / 2);
	assert_int_equal(count_in(w, SLAB_STATE_EVICTING), 8);
	assert_int_equal(count_in(w, SLAB_STATE_MAPPED), 4);
	assert_int_equal(dw_write(w, 11 * MIB), 0);
	assert_int_equal(dw_write(w, P), 0);
	fake_net_hold(world_net(w), FAKE_REVOKED, false);
	world_run(w, NSEC_PER_SEC / 2);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(world_stats(w).slabs_given_back, 12);
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(dw_read(w, i * MIB + MIB - PAGE_BYTES), 0);
		dw_map(w, i);
	}
	assert_int_equal(fake_daemon_lent(world_daemon(w, 1)), 12);
	world_free(w);
}

static void
remove__waits_for_pages_that_the_backup_refuses(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	degrade(w);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 2);
	assert_int_equal(world_said(w, "cannot leave yet"), 0);
	assert_int_equal(dw_read(w, P), 0);
	world_run(w, 10 * NSEC_PER_SEC);
	assert_int_equal(world_said(w, "cannot leave yet"), 1); /* after the deadline, once */
	assert_int_equal(n_known(w), 2);
	heal(w);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

/* The daemon that shall take them over answers too late: they stay as long as it takes. */
static void
remove__no_page_is_given_up_for_it(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	degrade(w);
	set(w, 0, 2);
	world_settle(w);
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	set(w, 1, 1);
	world_run(w, 6 * NSEC_PER_SEC);
	assert_int_equal(world_said(w, "cannot leave yet"), 1);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(dw_read(w, P), 0);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	heal(w);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

/* What was answered by the old home alone keeps it until the backup has it too (invariant 4). */
static void
remove__waits_for_the_backup(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	dw_map(w, 0);
	world_hold_backup(w, true);
	assert_int_equal(dw_write(w, P), 0);
	set(w, 0, 2);
	world_settle(w);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC * 3 / 2); /* longer than a move is given */
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MIGRATING);
	assert_int_equal(n_known(w), 2);
	world_hold_backup(w, false);
	world_run(w, NSEC_PER_SEC / 4);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
remove__no_new_slab_meanwhile(void **state)
{
	struct world *w = members_world(1, 1, 1);

	(void)state;
	degrade(w);
	set(w, 0, 0);
	assert_int_equal(dw_write(w, MIB + P), -EIO); /* refused by the backup, not mapped */
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	heal(w);
	assert_int_equal(n_known(w), 0);
	world_free(w);
}

static void
remove__lost_meanwhile(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	degrade(w);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC / 10);
	fake_backup_fail_writes(world_backup(w), 0);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_allow_read_errors(w);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_false(is_up(w, 0));
	world_free(w);
}

static void
remove__and_add_again_before_it_left(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	degrade(w);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC / 10);
	set(w, 0, 2);
	heal(w);
	world_run(w, 10 * NSEC_PER_SEC);
	assert_int_equal(n_known(w), 2);
	assert_int_equal(world_daemon(w, 0)->n_hellos, 1); /* never left */
	assert_int_equal(world_said(w, "cannot leave"), 0);
	assert_int_equal(world_stats(w).slabs_given_back, 1); /* it had begun */
	dw_map(w, 0);
	set(w, 1, 1); /* the second time is as the first */
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	world_free(w);
}

static void
remove__and_add_again_while_its_session_ends(void **state)
{
	struct world *w = members_world(1, 1, 1);

	(void)state;
	fake_net_hold(world_net(w), FAKE_DOWN, true);
	set(w, 0, 0);
	world_settle(w);
	assert_false(is_up(w, 0));
	set(w, 0, 1);
	world_settle(w);
	fake_net_hold(world_net(w), FAKE_DOWN, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_true(is_up(w, 0));
	assert_int_equal(world_daemon(w, 0)->n_hellos, 2);
	world_free(w);
}

static void
remove__while_it_connects(void **state)
{
	static const enum fake_kind held[] = {FAKE_UP, FAKE_MESSAGE};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world *w = members_world(2, 1, 2);

		fake_net_hold(world_net(w), held[i], true);
		set(w, 0, 2);
		world_settle(w);
		assert_false(is_up(w, 1));
		set(w, 0, 1);
		fake_net_hold(world_net(w), held[i], false);
		world_run(w, NSEC_PER_SEC);
		assert_int_equal(n_known(w), 1);
		assert_true(is_up(w, 0));
		assert_int_equal(world_events(w, SLAB_EVENT_WARN), 0);
		world_free(w);
	}
}

static void
remove__while_it_cannot_be_reached(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	fake_daemon_set_up(world_daemon(w, 1), false);
	set(w, 0, 2);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(n_known(w), 2);
	set(w, 0, 1);
	world_run(w, NSEC_PER_SEC / 10);
	assert_int_equal(n_known(w), 1);
	world_free(w);
}

static void
remove__while_a_slab_is_mapped(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	set(w, 1, 1);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	dw_map(w, 0);
	assert_int_equal(fake_daemon_lent(world_daemon(w, 1)), 1);
	world_free(w);
}

static void
set__what_is_refused_changes_nothing(void **state)
{
	struct world *w = members_world(3, 1, 2);
	struct slab_device *d = world_device(w);
	struct slab_portal bad[2] = {world_portals(w)[1], {NULL, "d1:1"}};
	char long_address[SLAB_ADDRESS_BYTES_MAX + 1];
	struct tp *other = fake_tp_new(world_net(w));

	(void)state;
	assert_int_equal(slab_device_set_portals(d, world_portals(w), 3), -ENOSPC);
	assert_int_equal(slab_device_set_portals(d, bad, 2), -EINVAL);
	memset(long_address, 'x', sizeof(long_address));
	long_address[SLAB_ADDRESS_BYTES_MAX] = '\0';
	bad[1] = (struct slab_portal){world_portals(w)[0].tp, long_address};
	assert_int_equal(slab_device_set_portals(d, bad, 2), -EINVAL);
	fake_tp_refuse_register(other, -ENOMEM);
	bad[1] = (struct slab_portal){other, world_daemon(w, 1)->address};
	assert_int_equal(slab_device_set_portals(d, bad, 2), -ENOMEM);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 1);
	assert_true(is_up(w, 0));
	fake_tp_end(other);
	world_free(w);
}

static void
set__too_many_transports(void **state)
{
	struct world *w = members_world(1, 1, 8);
	struct slab_portal portals[DEVICE_TPS_MAX + 1];

	(void)state;
	for (uint32_t i = 0; i <= DEVICE_TPS_MAX; i++)
		portals[i] = (struct slab_portal){fake_tp_new(world_net(w)), "d0:1"};
	assert_int_equal(slab_device_set_portals(world_device(w), portals, DEVICE_TPS_MAX + 1),
			 -EINVAL);
	for (uint32_t i = 0; i <= DEVICE_TPS_MAX; i++)
		fake_tp_end(portals[i].tp); /* none has a region */
	world_settle(w);
	assert_int_equal(n_known(w), 1);
	world_free(w);
}

static void
set__not_while_stopping(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	assert_int_equal(world_stop(w), 0);
	assert_int_equal(slab_device_set_portals(world_device(w), world_portals(w), 2), -ESHUTDOWN);
	world_free(w);
}

static void
set__waits_for_a_slot(void **state)
{
	struct world *w = members_world(3, 1, 1);

	(void)state;
	degrade(w); /* on 0, which cannot leave */
	set(w, 1, 1);
	world_settle(w);
	fake_net_hold(world_net(w), FAKE_DOWN, true); /* nor can 1 */
	set(w, 2, 1);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(n_known(w), 2);
	assert_false(is_up(w, 2));
	fake_net_hold(world_net(w), FAKE_DOWN, false);
	world_run(w, NSEC_PER_SEC);
	assert_true(is_up(w, 2));
	assert_true(is_up(w, 0));
	heal(w);
	assert_int_equal(n_known(w), 1);
	assert_true(is_up(w, 2));
	world_free(w);
}

static void
stop__while_one_leaves(void **state)
{
	struct world *w = members_world(2, 1, 2);

	(void)state;
	degrade(w);
	set(w, 1, 1);
	world_run(w, NSEC_PER_SEC / 10);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(world_stop(w), 0);
	world_check_backup(w);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(add__is_connected_to_and_lends),
		cmocka_unit_test(add__to_a_device_without_any),
		cmocka_unit_test(add__twice_the_same_counts_once),
		cmocka_unit_test(remove__loses_no_page),
		cmocka_unit_test(remove__with_operations_in_flight),
		cmocka_unit_test(remove__deadline),
		cmocka_unit_test(remove__slabs_go_one_after_the_other),
		cmocka_unit_test(remove__waits_for_pages_that_the_backup_refuses),
		cmocka_unit_test(remove__no_page_is_given_up_for_it),
		cmocka_unit_test(remove__waits_for_the_backup),
		cmocka_unit_test(remove__no_new_slab_meanwhile),
		cmocka_unit_test(remove__lost_meanwhile),
		cmocka_unit_test(remove__and_add_again_before_it_left),
		cmocka_unit_test(remove__and_add_again_while_its_session_ends),
		cmocka_unit_test(remove__while_it_connects),
		cmocka_unit_test(remove__while_it_cannot_be_reached),
		cmocka_unit_test(remove__while_a_slab_is_mapped),
		cmocka_unit_test(set__what_is_refused_changes_nothing),
		cmocka_unit_test(set__too_many_transports),
		cmocka_unit_test(set__not_while_stopping),
		cmocka_unit_test(set__waits_for_a_slot),
		cmocka_unit_test(stop__while_one_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
