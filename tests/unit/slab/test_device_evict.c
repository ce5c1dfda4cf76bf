/* SPDX-License-Identifier: MIT */
/* A slab goes back to its daemon, asked or not: nothing is lost, nothing is touched afterwards. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)
#define Q (3 * PAGE_BYTES)
#define LONG_MS 60000u

/* One slab that is mapped, with P and Q remote and on the backup. */
static struct world *
world_mapped(uint32_t n_daemons)
{
	struct world *w = dw_new(1, n_daemons, SLAB_ACK_REMOTE);

	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, Q), 0);
	assert_true(dw_is_remote(w, P) && dw_is_backup(w, P));
	return w;
}

static struct fake_daemon *
lender(struct world *w)
{
	return world_daemon(w, world_device(w)->arena.slabs[0].daemon);
}

static void
evict__an_idle_slab_is_done_at_once(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(lender(w)->done_id, 1);
	assert_int_equal(fake_daemon_lent(lender(w)), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).evictions, 1);
	assert_int_equal(world_stats(w).slabs_mapped, 0);
	world_daemon(w, 0)->is_full = true;
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
evict__the_slab_can_be_mapped_again(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	assert_true(dw_is_remote(w, P));
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 2);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
done__not_before_reads_and_writes_in_flight_end(void **state)
{
	static const enum backend_kind kinds[] = {BACKEND_READ, BACKEND_WRITE};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world *w = world_mapped(1);
		struct world_io *io;

		dw_hold_ops(w, true);
		io = dw_start(w, kinds[i], 0, P);
		world_settle(w);
		fake_daemon_evict(lender(w), 0, LONG_MS);
		world_settle(w);
		assert_int_equal(lender(w)->n_dones, 0);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
		dw_hold_ops(w, false);
		world_settle(w);
		assert_int_equal(lender(w)->n_dones, 1);
		assert_true(io->is_done && io->status == 0);
		world_put(io);
		assert_int_equal(dw_read(w, P), 0);
		world_free(w);
	}
}

static void
d3__done_waits_for_answered_writes_to_reach_the_backup(void **state)
{
	struct world *w = world_mapped(1);
	struct world_io *wr;

	(void)state;
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(wr->is_done); /* by its remote copy */
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_true(dw_is_remote(w, P)); /* still read from there */
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(dw_backup_version(w, P), wr->version);
	world_free(w);
}

static void
done__not_before_degraded_pages_are_repaired(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_int_equal(dw_read(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
done__not_before_a_promotion_in_flight_ends(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	assert_int_equal(dw_write(w, P), 0); /* on the backup only: it made the slab be mapped */
	world_settle(w);
	dw_hold_ops(w, true);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), 1);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 0);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_false(dw_is_remote(w, P));
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
done__again_when_it_cannot_be_queued(void **state)
{
	struct world *w = world_mapped(1);
	struct tp_conn *conn = lender(w)->conn;
	struct ctl_msg msg = {.type = CTL_CHECK_ACTIVITY};

	(void)state;
	fake_conn_set_deaf(conn, true); /* our queue fills up with answers */
	for (uint32_t i = 0; i < TP_SEND_QUEUE_MAX + 8; i++) {
		msg.request_id = ++lender(w)->n_requests;
		msg.u.unmap = (struct ctl_unmap){0, fake_daemon_find(lender(w), 0)->generation};
		fake_daemon_send(lender(w), &msg);
		world_settle(w);
	}
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
	fake_conn_set_deaf(conn, false);
	world_run(w, 20 * NSEC_PER_MSEC);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(lender(w)->n_activities, TP_SEND_QUEUE_MAX);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
meanwhile__writes_go_to_the_backup_alone(void **state)
{
	struct world *w = world_mapped(1);
	struct world_io *rd;

	(void)state;
	dw_hold_ops(w, true);
	rd = dw_start(w, BACKEND_READ, 0, Q); /* keeps the slab from being done */
	world_settle(w);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(dw_write(w, P), 0);
	assert_false(dw_is_remote(w, P));
	assert_true(dw_is_backup(w, P));
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(fake_net_pending(world_net(w), FAKE_OP, NULL), 1); /* the read of Q */
	assert_int_equal(world_do(w, BACKEND_TRIM, P, PAGE_BYTES), 0);
	assert_int_equal(dw_read(w, P), 0);
	dw_hold_ops(w, false);
	world_settle(w);
	assert_true(rd->is_done && rd->status == 0);
	assert_int_equal(lender(w)->n_dones, 1);
	world_free(w);
}

/* P is degraded, the slab is on its way back, the backup refuses. */
static struct world *
world_stuck(uint32_t deadline_ms)
{
	struct world *w = world_mapped(1);

	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_daemon_evict(lender(w), 0, deadline_ms);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
	return w;
}

static void
meanwhile__a_degraded_page_is_replaced_and_not_lost(void **state)
{
	struct world *w = world_stuck(LONG_MS);

	(void)state;
	assert_int_equal(dw_write(w, P), 0); /* to the daemon, in need */
	assert_true(dw_is_remote(w, P));
	assert_int_equal(world_stats(w).pages_degraded, 1);
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(dw_write(w, Q), -EIO); /* has an older copy on the backup: as ever */
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(lender(w)->n_dones, 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
meanwhile__no_done_while_the_write_over_a_degraded_page_is_undecided(void **state)
{
	struct world *w = world_stuck(LONG_MS);
	struct world_io *wr;

	(void)state;
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_int_equal(world_stats(w).pages_degraded, 0);
	assert_int_equal(lender(w)->n_dones, 0);
	world_hold_backup(w, false);
	world_settle(w);
	assert_true(wr->is_done && wr->status == 0);
	assert_int_equal(world_stats(w).pages_degraded, 1);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(lender(w)->n_dones, 1);
	world_free(w);
}

static void
deadline__what_only_the_daemon_had_is_lost(void **state)
{
	struct world *w = world_stuck(1000);

	(void)state;
	world_run(w, NSEC_PER_SEC + 100 * NSEC_PER_MSEC);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_FAILED);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_int_equal(world_stats(w).evictions_late, 1);
	assert_int_equal(world_said(w, "takes its memory back"), 1);
	fake_daemon_revoke(fake_daemon_find(lender(w), 0));
	world_allow_read_errors(w);
	assert_int_equal(dw_read(w, P), -EIO);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(world_stats(w).remote_failures, 0); /* the session goes on */
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	dw_map(w, 0);
	world_free(w);
}

static void
deadline__what_is_in_a_buffer_is_not_lost(void **state)
{
	struct world *w = world_mapped(1);
	struct world_io *wr;

	(void)state;
	world_hold_backup(w, true);
	wr = dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(wr->is_done);
	fake_daemon_evict(lender(w), 0, 1000);
	world_run(w, NSEC_PER_SEC + 100 * NSEC_PER_MSEC);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	fake_daemon_revoke(fake_daemon_find(lender(w), 0));
	assert_int_equal(dw_read(w, P), 0);
	fake_backup_fail_writes(world_backup(w), -EIO); /* late, and refused */
	world_hold_backup(w, false);
	world_run(w, NSEC_PER_SEC);
	assert_int_equal(dw_read(w, P), 0);
	fake_backup_fail_writes(world_backup(w), 0);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).pages_lost, 0);
	assert_int_equal(dw_backup_version(w, P), wr->version);
	world_free(w);
}

static void
deadline__near_it_reads_leave_the_daemon_alone(void **state)
{
	struct world *w = world_stuck(1000);
	uint64_t from_remote;

	(void)state;
	assert_int_equal(dw_read(w, Q), 0);
	from_remote = world_stats(w).pages_read_remote;
	assert_true(from_remote > 0);
	world_run(w, 900 * NSEC_PER_MSEC);
	assert_int_equal(dw_read(w, Q), 0);
	assert_int_equal(world_stats(w).pages_read_remote, from_remote);
	fake_backup_fail_writes(world_backup(w), 0);
	world_allow_read_errors(w);
	world_free(w);
}

/* EVICT between any two steps of a request: no operation meets memory that is given up. */
static void
d5__nothing_touches_the_slab_after_done(void **state)
{
	(void)state;
	for (uint32_t steps = 0; steps < 12; steps++)
		for (uint32_t kind = BACKEND_READ; kind <= BACKEND_WRITE; kind++) {
			struct world *w = world_mapped(1);

			dw_hold_ops(w, true);
			(void)dw_start(w, (enum backend_kind)kind, 0, P);
			(void)dw_start(w, BACKEND_WRITE, 0, P);
			(void)dw_start(w, BACKEND_READ, 0, Q);
			fake_daemon_evict(lender(w), 0, LONG_MS);
			for (uint32_t i = 0; i < steps; i++) {
				world_advance(w);
				(void)fake_net_step(world_net(w));
				if (i % 3 == 2)
					(void)fake_net_step_kind(world_net(w), FAKE_OP, NULL);
			}
			(void)dw_start(w, BACKEND_READ, 0, P);
			(void)dw_start(w, BACKEND_WRITE, 0, Q);
			dw_hold_ops(w, false);
			world_settle(w);
			assert_int_equal(world_pending(w), 0);
			assert_int_equal(world_stats(w).remote_failures, 0);
			assert_int_equal(world_daemon(w, 0)->n_dones, 1);
			world_check_remote(w);
			world_free(w);
		}
}

static void
evict__of_what_is_not_held_is_not_answered(void **state)
{
	struct world *w = world_mapped(1);
	struct fake_daemon *f = lender(w);
	const uint32_t generation = fake_daemon_find(f, 0)->generation;
	const struct ctl_evict which[] = {
		{0, generation + 1, 1000},
		{0, generation - 1, 1000},
		{1, generation, 1000},
		{UINT32_MAX, generation, 1000},
	};

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct ctl_msg msg = {.type = CTL_EVICT, .request_id = ++f->n_requests};

		msg.u.evict = which[i];
		fake_daemon_send(f, &msg);
		msg.type = CTL_CHECK_ACTIVITY;
		msg.request_id = ++f->n_requests;
		fake_daemon_send(f, &msg);
	}
	world_settle(w);
	assert_int_equal(f->n_dones, 0);
	assert_int_equal(f->n_activities, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

/* Found by fuzz_device: such an EVICT was taken for the device's own wish, and answered by UNMAP. */
static void
evict__without_request_id_ends_the_session(void **state)
{
	const enum ctl_type types[] = {CTL_EVICT, CTL_CHECK_ACTIVITY};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world *w = world_mapped(1);
		struct fake_daemon *f = lender(w);
		struct ctl_msg msg = {.type = types[i]};

		msg.u.evict = (struct ctl_evict){0, fake_daemon_find(f, 0)->generation, 1000};
		fake_daemon_send(f, &msg);
		world_settle(w);
		assert_int_equal(f->n_dones + f->n_activities + f->n_unmaps, 0);
		assert_int_equal(world_stats(w).remote_failures, 1);
		assert_int_equal(world_said(w, "a request without request id"), 1);
		assert_int_equal(dw_read(w, P), 0);
		world_free(w);
	}
}

static void
evict__twice_is_done_once(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(lender(w)->done_id, 2);
	world_free(w);
}

static void
evict__while_the_slab_is_being_mapped_is_not_answered(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct fake_daemon *f = world_daemon(w, 0);
	struct ctl_msg msg = {.type = CTL_EVICT, .request_id = 1, .u.evict = {0, 1, 1000}};

	(void)state;
	f->n_requests = 1;
	fake_net_hold(world_net(w), FAKE_GRANTED, true);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	fake_daemon_send(f, &msg);
	world_settle(w);
	fake_net_hold(world_net(w), FAKE_GRANTED, false);
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPED);
	assert_int_equal(f->n_dones, 0);
	fake_daemon_evict(f, 0, 1000); /* and then it is */
	world_settle(w);
	assert_int_equal(f->n_dones, 1);
	world_free(w);
}

static void
lost__at_every_step(void **state)
{
	(void)state;
	for (uint32_t step = 0; step < 4; step++) {
		struct world *w = world_mapped(1);

		if (step == 0)
			world_hold_backup(w, true);
		if (step == 1 || step == 2)
			dw_hold_ops(w, true);
		if (step < 3)
			(void)dw_start(w, step == 1 ? BACKEND_READ : BACKEND_WRITE, 0, P);
		world_settle(w);
		if (step == 3) {
			world_daemon(w, 0)->lie = LIE_MUTE;
			assert_true(slab_evict_begin(world_device(w), 0, 0));
		} else {
			fake_daemon_evict(lender(w), 0, LONG_MS);
		}
		world_settle(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
		fake_daemon_set_up(world_daemon(w, 0), false);
		world_daemon_kill(w, 0, -ECONNRESET);
		dw_hold_ops(w, false);
		dw_settle_but_backup(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
		assert_true(list_is_empty(&world_device(w)->evicting));
		world_hold_backup(w, false);
		world_settle(w);
		assert_int_equal(dw_read(w, P), 0);
		assert_int_equal(world_stats(w).slabs_mapped, 0);
		world_check_counters(w);
		world_daemon(w, 0)->lie = LIE_NONE;
		fake_daemon_set_up(world_daemon(w, 0), true);
		world_run(w, 3 * NSEC_PER_SEC);
		dw_map(w, 0);
		world_free(w);
	}
}

static void
lost__with_degraded_pages(void **state)
{
	struct world *w = world_stuck(LONG_MS);

	(void)state;
	dw_lose(w, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_FAILED);
	assert_int_equal(world_stats(w).pages_lost, 1);
	assert_true(list_is_empty(&world_device(w)->evicting));
	world_hold_backup(w, false);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(dw_write(w, P), 0);
	world_free(w);
}

static void
stop__during_an_eviction(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	fake_backup_fail_writes(world_backup(w), -EIO);
	assert_int_equal(dw_write(w, P), 0);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	fake_backup_fail_writes(world_backup(w), 0);
	assert_int_equal(world_stop(w), 0);
	world_check_backup(w);
	world_free(w);
}

static void
stop__while_unmap_is_not_answered(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	world_daemon(w, 0)->lie = LIE_MUTE;
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	world_settle(w);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_EVICTING);
	assert_int_equal(world_stop(w), 0);
	world_free(w);
}

static void
give_back__unmaps(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	assert_false(slab_evict_begin(world_device(w), 0, 0));
	world_settle(w);
	assert_int_equal(lender(w)->n_unmaps, 1);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_int_equal(fake_daemon_lent(lender(w)), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).slabs_given_back, 1);
	assert_false(slab_evict_begin(world_device(w), 0, 0));
	assert_int_equal(dw_read(w, P), 0);
	dw_map(w, 0);
	world_free(w);
}

static void
give_back__crossed_by_an_evict(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	/* On the wire both ways: the daemon takes UNMAP for the answer. */
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	world_advance(w);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	/* Before UNMAP was sent: DONE instead. */
	dw_map(w, 0);
	world_hold_backup(w, true);
	(void)dw_start(w, BACKEND_WRITE, 0, P);
	world_settle(w);
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	world_settle(w);
	fake_daemon_evict(lender(w), 0, LONG_MS);
	world_settle(w);
	world_hold_backup(w, false);
	world_settle(w);
	assert_int_equal(lender(w)->n_dones, 1);
	assert_int_equal(lender(w)->n_unmaps, 1);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_free(w);
}

static void
give_back__refused_or_not_answered(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	fake_net_hold(world_net(w), FAKE_REVOKED, true);
	fake_daemon_revoke(fake_daemon_find(lender(w), 0)); /* it takes it by force */
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	world_settle(w);
	assert_int_equal(lender(w)->n_unmaps, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_net_hold(world_net(w), FAKE_REVOKED, false);
	world_settle(w);
	dw_map(w, 0);
	fake_net_hold(world_net(w), FAKE_REVOKED, true);
	assert_true(slab_evict_begin(world_device(w), 0, 0));
	world_run(w, 9 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "no answer to UNMAP"), 1);
	fake_net_hold(world_net(w), FAKE_REVOKED, false);
	world_run(w, 3 * NSEC_PER_SEC);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
unmapped__that_was_not_asked_ends_the_session(void **state)
{
	static const uint32_t ids[] = {0, 1, 0x40000001, 0x40000002, 0x7fffffff};

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		struct world *w = world_mapped(1);
		const struct ctl_msg msg = {.type = CTL_UNMAPPED, .request_id = ids[i]};

		fake_daemon_send(lender(w), &msg);
		world_settle(w);
		assert_int_equal(world_stats(w).remote_failures, 1);
		assert_int_equal(dw_read(w, P), 0);
		world_free(w);
	}
}

static void
map__right_after_done_is_refused_and_tried_again(void **state)
{
	struct world *w = world_mapped(1);
	struct fake_daemon *f = lender(w);

	(void)state;
	fake_net_hold(world_net(w), FAKE_REVOKED, true);
	fake_daemon_evict(f, 0, LONG_MS);
	world_settle(w);
	assert_int_equal(f->n_dones, 1);
	world_device(w)->remotes[0].slabs_free = 1;
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	assert_int_equal(world_stats(w).maps_refused, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_net_hold(world_net(w), FAKE_REVOKED, false);
	world_settle(w);
	world_device(w)->remotes[0].slabs_free = 1; /* the daemon says so with FREE_MEM */
	dw_map(w, 0);
	world_free(w);
}

static void
check_activity__is_answered_with_the_pages_per_second(void **state)
{
	struct world *w = world_mapped(1);

	(void)state;
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(dw_read(w, P), 0);
	fake_daemon_check_activity(lender(w), 0);
	world_settle(w);
	assert_int_equal(lender(w)->n_activities, 1);
	assert_int_equal(lender(w)->activity.slab, 0);
	assert_int_equal(lender(w)->activity.generation,
			 fake_daemon_find(lender(w), 0)->generation);
	/* 53 pages in the running period, weighed with 0.2. */
	assert_int_equal(lender(w)->activity.milli_pages_per_second, 10600);
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(evict__an_idle_slab_is_done_at_once),
		cmocka_unit_test(evict__the_slab_can_be_mapped_again),
		cmocka_unit_test(done__not_before_reads_and_writes_in_flight_end),
		cmocka_unit_test(d3__done_waits_for_answered_writes_to_reach_the_backup),
		cmocka_unit_test(d5__nothing_touches_the_slab_after_done),
		cmocka_unit_test(done__not_before_degraded_pages_are_repaired),
		cmocka_unit_test(done__not_before_a_promotion_in_flight_ends),
		cmocka_unit_test(done__again_when_it_cannot_be_queued),
		cmocka_unit_test(meanwhile__writes_go_to_the_backup_alone),
		cmocka_unit_test(meanwhile__a_degraded_page_is_replaced_and_not_lost),
		cmocka_unit_test(
			meanwhile__no_done_while_the_write_over_a_degraded_page_is_undecided),
		cmocka_unit_test(deadline__what_only_the_daemon_had_is_lost),
		cmocka_unit_test(deadline__what_is_in_a_buffer_is_not_lost),
		cmocka_unit_test(deadline__near_it_reads_leave_the_daemon_alone),
		cmocka_unit_test(evict__of_what_is_not_held_is_not_answered),
		cmocka_unit_test(evict__without_request_id_ends_the_session),
		cmocka_unit_test(evict__twice_is_done_once),
		cmocka_unit_test(evict__while_the_slab_is_being_mapped_is_not_answered),
		cmocka_unit_test(lost__at_every_step),
		cmocka_unit_test(lost__with_degraded_pages),
		cmocka_unit_test(stop__during_an_eviction),
		cmocka_unit_test(stop__while_unmap_is_not_answered),
		cmocka_unit_test(give_back__unmaps),
		cmocka_unit_test(give_back__crossed_by_an_evict),
		cmocka_unit_test(give_back__refused_or_not_answered),
		cmocka_unit_test(unmapped__that_was_not_asked_ends_the_session),
		cmocka_unit_test(map__right_after_done_is_refused_and_tried_again),
		cmocka_unit_test(check_activity__is_answered_with_the_pages_per_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
