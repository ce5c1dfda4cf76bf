/* SPDX-License-Identifier: MIT */
/* Daemons that hang, in part or for a while: probes, suspicion, and control dead. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_world.h"
#include "wire/bytes.h"

#define HEDGE_NS (50 * NSEC_PER_MSEC)
#define PROBE_NS (500 * NSEC_PER_MSEC)
#define CONTROL_NS (10 * NSEC_PER_SEC)
#define P (2 * PAGE_BYTES)

static struct world *
health_world(uint32_t n_slabs, uint64_t hedge_ns, bool has_epoch_page)
{
	const struct world_config c = {
		.n_slabs = n_slabs,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.hedge_ns = hedge_ns,
		.probe_ns = PROBE_NS,
		.control_timeout_ns = CONTROL_NS,
		.can_zero = true,
		.can_discard = true,
	};
	struct world *w = world_new(&c);

	world_daemon(w, 0)->has_epoch_page = has_epoch_page;
	world_settle(w);
	return w;
}

static enum slab_daemon_state
state_of(struct world *w)
{
	struct slab_daemon_info info;

	assert_true(slab_device_get_daemon(world_device(w), 0, &info));
	assert_true(info.is_up == (info.state != SLAB_DAEMON_DOWN));
	return info.state;
}

/* The link is there no more, and nobody says so. */
static void
cut_silently(struct world *w)
{
	struct tp_conn *conn = world_daemon(w, 0)->conn;

	dw_hold_ops(w, true);
	fake_conn_set_deaf(conn, true);
	fake_conn_set_deaf(fake_conn_peer(conn), true);
	fake_daemon_set_up(world_daemon(w, 0), false);
}

static void
probe__reads_the_epoch_when_nothing_else_does(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);
	uint64_t n;

	(void)state;
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).probes, 0); /* holds no slab: PING will do */
	dw_map(w, 0);
	world_run(w, 5 * NSEC_PER_SEC);
	n = world_stats(w).probes;
	assert_in_range(n, 8, 10);
	for (int i = 0; i < 100; i++) { /* pages are as good a sign */
		assert_int_equal(dw_read(w, MIB - PAGE_BYTES), 0);
		world_run(w, 50 * NSEC_PER_MSEC);
	}
	assert_in_range(world_stats(w).probes, n, n + 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	world_free(w);
}

static void
probe__another_epoch_is_another_memory(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);

	(void)state;
	dw_map(w, 0);
	put_le64(world_daemon(w, 0)->epoch_page, FAKE_DAEMON_EPOCH + 1);
	world_run(w, 2 * PROBE_NS);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "its epoch is another one"), 1);
	assert_int_equal(dw_read(w, MIB - PAGE_BYTES), 0); /* from the backup */
	put_le64(world_daemon(w, 0)->epoch_page, FAKE_DAEMON_EPOCH);
	world_free(w);
}

static void
probe__not_answered_in_time(void **state)
{
	struct world *w = health_world(1, 0, true);

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true); /* PONGs still come */
	world_run(w, PROBE_NS + 1800 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_daemon_set_up(world_daemon(w, 0), false);
	world_run(w, 400 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "its epoch could not be read in time"), 1);
	dw_hold_ops(w, false);
	world_free(w);
}

/* A link that is lost says nothing, and an idle connection has no operation that could fail. */
static void
l1_link_loss_without_an_event_while_idle(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);

	(void)state;
	dw_map(w, 0);
	cut_silently(w);
	world_run(w, PROBE_NS + 2500 * NSEC_PER_MSEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_read(w, MIB - PAGE_BYTES), 0);
	dw_hold_ops(w, false);
	world_free(w);
}

/* What is under way is answered from the backup, what comes later at once, and no write fails. */
static void
l1_power_off_with_requests_under_way(void **state)
{
	struct world *w = health_world(1, 0, true);
	struct world_io *read, *write;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	cut_silently(w);
	read = dw_start(w, BACKEND_READ, 0, P);
	write = dw_start(w, BACKEND_WRITE, 0, 2 * P);
	world_run(w, 2500 * NSEC_PER_MSEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
	dw_hold_ops(w, false); /* the transport takes them back */
	world_settle(w);
	assert_true(read->is_done && read->status == 0);
	assert_true(write->is_done && write->status == 0);
	world_put_done(w);
	assert_int_equal(dw_read(w, 2 * P), 0);
	world_free(w);
}

static void
suspect__reads_go_to_the_backup_until_something_completes(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);
	uint64_t n_backup;
	struct world_io *write;

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	dw_hold_ops(w, true);
	write = dw_start(w, BACKEND_WRITE, 0, 4 * P);
	world_run(w, HEDGE_NS - 20 * NSEC_PER_MSEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	world_run(w, 40 * NSEC_PER_MSEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_SUSPECT);
	assert_int_equal(world_stats(w).suspicions, 1);
	n_backup = world_stats(w).pages_read_backup;
	assert_int_equal(dw_read(w, P), 0); /* while operations are held */
	assert_int_equal(world_stats(w).pages_read_backup, n_backup + 1);
	dw_step_op(w);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(write->is_done);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	dw_hold_ops(w, false);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_backup, n_backup + 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

/* Else every write, and what waits for its page, would wait for a daemon that is gone. */
static void
suspect__writes_go_to_the_backup_alone(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);
	unsigned n_ops;

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, 4 * P);
	world_run(w, 2 * HEDGE_NS);
	assert_int_equal(state_of(w), SLAB_DAEMON_SUSPECT);
	n_ops = fake_net_pending(world_net(w), FAKE_OP, NULL);
	for (int i = 0; i < 2; i++) { /* the second waits for nothing of the first */
		assert_int_equal(dw_write(w, P), 0);
		assert_int_equal(dw_read(w, P), 0);
	}
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), n_ops);
	assert_false(dw_is_remote(w, P));
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	assert_true(dw_is_remote(w, P) && dw_is_backup(w, P));
	world_put_done(w);
	world_free(w);
}

/* Not only at the period's end, when everything is tried again. */
static void
suspect__once_it_is_over_slabs_map_at_once(void **state)
{
	struct world *w = health_world(2, HEDGE_NS, true);

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, 4 * P);
	world_run(w, 2 * HEDGE_NS);
	assert_int_equal(state_of(w), SLAB_DAEMON_SUSPECT);
	assert_int_equal(dw_write(w, MIB), 0); /* there is nobody who could be asked */
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	dw_step_op(w);
	world_hold_backup(w, false);
	dw_hold_ops(w, false);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	dw_map(w, 1);
	world_free(w);
}

static void
suspect__what_only_the_daemon_has_is_still_read_there(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);
	struct world_io *stuck, *read;

	(void)state;
	dw_map(w, 0);
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0); /* degraded */
	assert_false(dw_is_backup(w, P));
	fake_backup_fail_writes(world_backup(w), 0);
	world_hold_backup(w, true);
	dw_hold_ops(w, true);
	stuck = dw_start(w, BACKEND_WRITE, 0, 4 * P);
	world_run(w, 2 * HEDGE_NS);
	assert_int_equal(state_of(w), SLAB_DAEMON_SUSPECT);
	read = dw_start(w, BACKEND_READ, 0, P);
	world_run(w, HEDGE_NS);
	assert_false(read->is_done);
	dw_hold_ops(w, false);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(read->is_done && read->status == 0 && stuck->is_done);
	world_free(w);
}

/* A core that sleeps too long after a PING notices late that nobody answers. */
static void
ping__its_deadline_begins_with_it(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);
	uint64_t next_ns = 0;

	(void)state;
	world_daemon(w, 0)->lie = LIE_PING_MUTE;
	for (int i = 0; i < 200 && world_daemon(w, 0)->n_pings == 0; i++) {
		world_pass(w, 10 * NSEC_PER_MSEC);
		next_ns = slab_device_advance(world_device(w), world_now(w));
		(void)fake_net_run(world_net(w));
	}
	assert_int_equal(world_daemon(w, 0)->n_pings, 1);
	assert_in_range(next_ns, world_now(w) + 1, world_now(w) + HEDGE_NS);
	world_free(w);
}

static void
control_dead__its_slabs_are_used_on_and_no_new_ones_mapped(void **state)
{
	struct world *w = health_world(2, HEDGE_NS, true);
	struct fake_daemon *f = world_daemon(w, 0);
	uint32_t n_maps;

	(void)state;
	dw_map(w, 0);
	n_maps = f->n_maps;
	f->lie = LIE_PING_MUTE;
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	assert_int_equal(world_said(w, "does not answer PING"), 1);
	assert_int_equal(dw_write(w, P), 0);
	assert_true(dw_is_remote(w, P));
	assert_int_equal(dw_write(w, MIB), 0);
	assert_int_equal(f->n_maps, n_maps);
	world_run(w, CONTROL_NS - NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	fake_daemon_set_up(f, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
control_dead__ends_with_the_answer(void **state)
{
	struct world *w = health_world(2, HEDGE_NS, true);
	struct fake_daemon *f = world_daemon(w, 0);
	struct tp_conn *ours = fake_conn_peer(f->conn);

	(void)state;
	dw_map(w, 0);
	fake_conn_set_deaf(ours, true);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	fake_conn_set_deaf(ours, false);
	world_settle(w);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	assert_int_equal(world_said(w, "answers PING again"), 1);
	dw_map(w, 1);
	world_run(w, 2 * CONTROL_NS);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
control_dead__once_it_is_over_slabs_map_at_once(void **state)
{
	struct world *w = health_world(2, HEDGE_NS, true);
	struct tp_conn *ours = fake_conn_peer(world_daemon(w, 0)->conn);

	(void)state;
	dw_map(w, 0);
	fake_conn_set_deaf(ours, true);
	world_run(w, 4 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	assert_int_equal(dw_write(w, MIB), 0);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	fake_conn_set_deaf(ours, false);
	world_settle(w);
	assert_int_equal(state_of(w), SLAB_DAEMON_UP);
	dw_map(w, 1);
	world_free(w);
}

/* Neither PONG nor completions: as dead as can be. */
static void
control_dead__not_with_dead_memory(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);

	(void)state;
	dw_map(w, 0);
	cut_silently(w);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
	assert_int_equal(world_said(w, "does not answer PING"), 0);
	dw_hold_ops(w, false);
	world_free(w);
}

/* Memory that dies later is noticed by the next probe, not by control_timeout. */
static void
control_dead__memory_dies_too(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, true);

	(void)state;
	dw_map(w, 0);
	world_daemon(w, 0)->lie = LIE_PING_MUTE;
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	cut_silently(w);
	world_run(w, PROBE_NS + 2500 * NSEC_PER_MSEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
	dw_hold_ops(w, false);
	world_free(w);
}

static void
control_dead__not_without_slabs_or_without_an_epoch_page(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct world *w = health_world(1, HEDGE_NS, i == 0);

		if (i == 1)
			dw_map(w, 0);
		world_daemon(w, 0)->lie = LIE_PING_MUTE;
		fake_daemon_set_up(world_daemon(w, 0), false);
		world_run(w, 3 * NSEC_PER_SEC);
		assert_int_equal(state_of(w), SLAB_DAEMON_DOWN);
		assert_int_equal(world_said(w, "no answer to PING in time"), 1);
		world_free(w);
	}
}

/* A stream of pages does not hide that PING is not answered. */
static void
control_dead__under_load(void **state)
{
	struct world *w = health_world(1, HEDGE_NS, false);

	(void)state;
	dw_map(w, 0);
	world_daemon(w, 0)->lie = LIE_PING_MUTE;
	for (int i = 0; i < 300 && state_of(w) == SLAB_DAEMON_UP; i++) {
		assert_int_equal(dw_write(w, P), 0);
		world_run(w, 10 * NSEC_PER_MSEC);
	}
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	world_free(w);
}

/* A MAP that the hanging daemon got before it hung is PING's matter; one that is
 * not answered by a daemon that answers PING ends the session. */
static void
control_dead__map_waits(void **state)
{
	struct world *w = health_world(2, HEDGE_NS, true);
	struct fake_daemon *f = world_daemon(w, 0);

	(void)state;
	dw_map(w, 0);
	f->lie = LIE_MUTE;
	assert_int_equal(dw_write(w, MIB), 0);
	world_run(w, 9 * NSEC_PER_SEC);
	assert_int_equal(state_of(w), SLAB_DAEMON_CONTROL_DEAD);
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_daemon_set_up(f, false);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(world_said(w, "no answer to PING for too long"), 1);
	assert_int_equal(dw_slab_state(w, 1), SLAB_STATE_UNMAPPED);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe__reads_the_epoch_when_nothing_else_does),
		cmocka_unit_test(probe__another_epoch_is_another_memory),
		cmocka_unit_test(probe__not_answered_in_time),
		cmocka_unit_test(l1_link_loss_without_an_event_while_idle),
		cmocka_unit_test(l1_power_off_with_requests_under_way),
		cmocka_unit_test(suspect__reads_go_to_the_backup_until_something_completes),
		cmocka_unit_test(suspect__once_it_is_over_slabs_map_at_once),
		cmocka_unit_test(suspect__writes_go_to_the_backup_alone),
		cmocka_unit_test(suspect__what_only_the_daemon_has_is_still_read_there),
		cmocka_unit_test(ping__its_deadline_begins_with_it),
		cmocka_unit_test(control_dead__its_slabs_are_used_on_and_no_new_ones_mapped),
		cmocka_unit_test(control_dead__ends_with_the_answer),
		cmocka_unit_test(control_dead__once_it_is_over_slabs_map_at_once),
		cmocka_unit_test(control_dead__not_with_dead_memory),
		cmocka_unit_test(control_dead__memory_dies_too),
		cmocka_unit_test(control_dead__not_without_slabs_or_without_an_epoch_page),
		cmocka_unit_test(control_dead__under_load),
		cmocka_unit_test(control_dead__map_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
