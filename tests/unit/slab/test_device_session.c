/* SPDX-License-Identifier: MIT */
/* Sessions with daemons that refuse, lie, are mute or slow; and the mapping of slabs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_world.h"

#define P (2 * PAGE_BYTES)

static struct slab_daemon_info
info_of(struct world *w, uint32_t daemon)
{
	struct slab_daemon_info info;

	assert_true(slab_device_get_daemon(world_device(w), daemon, &info));
	return info;
}

static struct world *
psk_world(const char *psk, const char *daemon_psk)
{
	const struct world_config c = {
		.n_slabs = 1,
		.n_daemons = 1,
		.slabs_per_daemon = 4,
		.can_zero = true,
		.psk = psk,
		.daemon_psk = daemon_psk,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

static void
hello__refused_with_each_reason(void **state)
{
	static const uint32_t reasons[] = {CTL_REASON_VERSION,
					   CTL_REASON_SLAB_SIZE,
					   CTL_REASON_AUTH,
					   CTL_REASON_CLIENTS,
					   CTL_REASON_PROTOCOL,
					   CTL_REASON_STOPPING,
					   4711};
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct fake_daemon *f = world_daemon(w, 0);

	(void)state;
	for (uint32_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		f->refuse_reason = reasons[i];
		if (i == 0)
			world_daemon_kill(w, 0, -ECONNRESET);
		world_run(w, 5 * NSEC_PER_SEC);
		assert_false(info_of(w, 0).is_up);
		assert_int_equal(info_of(w, 0).last_error,
				 reasons[i] == CTL_REASON_AUTH ? -EACCES : -ECONNREFUSED);
		assert_int_equal(world_said(w, ctl_reason_name(reasons[i])), 1); /* once */
		assert_int_equal(dw_write(w, P), 0); /* served from the backup */
	}
	f->refuse_reason = 0;
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(info_of(w, 0).is_up);
	assert_int_equal(info_of(w, 0).last_error, 0);
	world_free(w);
}

static void
hello__psk(void **state)
{
	static const char a[] = "a secret of enough length", b[] = "another of enough length";
	static const struct {
		const char *ours, *theirs, *said;
	} cases[] = {
		{a, a, NULL},
		{NULL, NULL, NULL},
		{a, b, "its psk differs"},
		{a, NULL, "it did not prove the psk"},
		{NULL, b, "it asks for a psk"},
	};

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = psk_world(cases[i].ours, cases[i].theirs);

		assert_int_equal(info_of(w, 0).is_up, !cases[i].said);
		if (cases[i].said) {
			world_run(w, 3 * NSEC_PER_SEC);
			assert_int_equal(world_said(w, cases[i].said), 1);
			assert_int_equal(info_of(w, 0).last_error, -EACCES);
		}
		assert_int_equal(dw_write(w, P), 0);
		world_settle(w);
		assert_int_equal(dw_slab_state(w, 0),
				 cases[i].said ? SLAB_STATE_UNMAPPED : SLAB_STATE_MAPPED);
		world_free(w);
	}
}

static void
hello__wrong_answers(void **state)
{
	static const struct {
		enum fake_daemon_lie lie;
		const char *said;
	} cases[] = {
		{LIE_SLAB_SIZE, "its slab size differs"},
		{LIE_VERSION, "cannot be decoded"},
		{LIE_HELLO_GARBAGE, "cannot be decoded"},
		{LIE_HELLO_PONG, "does not fit the session"},
		{LIE_MUTE, "cannot connect: Connection timed out"},
	};
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		world_daemon(w, 0)->lie = cases[i].lie;
		world_daemon_kill(w, 0, -ECONNRESET);
		world_run(w, 8 * NSEC_PER_SEC);
		assert_false(info_of(w, 0).is_up);
		assert_true(world_said(w, cases[i].said) >= 1);
		world_daemon(w, 0)->lie = LIE_NONE;
		world_run(w, 6 * NSEC_PER_SEC);
		assert_true(info_of(w, 0).is_up);
	}
	world_free(w);
}

static void
retry__pauses_double_up_to_the_most(void **state)
{
	static const uint64_t pauses_ms[] = {100, 200, 400, 800, 1000, 1000};
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct fake_daemon *f = world_daemon(w, 0);
	uint32_t n;

	(void)state;
	f->refuse_reason = CTL_REASON_CLIENTS;
	world_daemon_kill(w, 0, -ECONNRESET);
	world_settle(w);
	n = f->n_hellos;
	for (uint32_t i = 0; i < sizeof(pauses_ms) / sizeof(pauses_ms[0]); i++) {
		world_run(w, (pauses_ms[i] - 10) * NSEC_PER_MSEC);
		assert_int_equal(f->n_hellos, n + i);
		world_run(w, 10 * NSEC_PER_MSEC);
		assert_int_equal(f->n_hellos, n + i + 1);
	}
	/* A session that proved itself with a PONG starts from the shortest again. */
	f->refuse_reason = 0;
	world_run(w, 3 * NSEC_PER_SEC);
	assert_true(info_of(w, 0).is_up);
	n = f->n_hellos;
	world_daemon_kill(w, 0, -ECONNRESET);
	world_run(w, 120 * NSEC_PER_MSEC);
	assert_int_equal(f->n_hellos, n + 1);
	world_free(w);
}

static void
retry__pauses_grow_when_it_fails_right_after_welcome(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	const struct ctl_msg pong = {.type = CTL_PONG, .request_id = 1};
	struct fake_daemon *f = world_daemon(w, 0);
	const uint32_t n = f->n_hellos;

	(void)state;
	for (uint32_t i = 0; i < 600; i++) { /* 6 s */
		if (info_of(w, 0).is_up)
			fake_daemon_send(f, &pong);
		world_run(w, 10 * NSEC_PER_MSEC);
	}
	assert_in_range(f->n_hellos - n, 6, 10); /* not 60: 100 ms, 200, 400, 800, 1000, ... */
	world_free(w);
}

static void
ping__waits_behind_pages_of_a_slow_link(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	for (uint32_t i = 0; i < 5; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, P + i * PAGE_BYTES);
	fake_conn_set_deaf(world_daemon(w, 0)->conn, true); /* a PING goes out, and is stuck */
	for (uint32_t i = 0; i < 5; i++) {
		world_run(w, 1500 * NSEC_PER_MSEC);
		dw_step_op(w);
		world_hold_backup(w, false);
	}
	assert_int_equal(world_stats(w).remote_failures, 0);
	fake_daemon_set_up(world_daemon(w, 0), false);
	world_run(w, 2500 * NSEC_PER_MSEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	dw_hold_ops(w, false);
	world_free(w);
}

static void
ops__have_a_longest_age_however_it_moves(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	dw_hold_ops(w, true);
	for (uint32_t i = 0; i < 30; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, i * PAGE_BYTES);
	fake_daemon_set_up(world_daemon(w, 0), false);
	for (uint32_t i = 0; i < 25 && world_stats(w).remote_failures == 0; i++) {
		world_run(w, 1500 * NSEC_PER_MSEC);
		if (world_stats(w).remote_failures == 0)
			dw_step_op(w);
		world_hold_backup(w, false);
	}
	assert_int_equal(world_stats(w).remote_failures, 1); /* after 32 s, not 45 */
	dw_hold_ops(w, false);
	world_free(w);
}

static void
retry__a_daemon_that_is_away_is_said_once(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_lose(w, 0);
	world_hold_backup(w, false);
	world_run(w, 10 * NSEC_PER_SEC);
	assert_true(world_said(w, "d0:1") <= 3); /* connected, lost, cannot connect */
	fake_daemon_set_up(world_daemon(w, 0), true);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_said(w, "connected,"), 2);
	world_free(w);
}

static void
connect__failing_at_once_is_retried(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	struct remote *r = &world_device(w)->remotes[0];
	char address[SLAB_ADDRESS_BYTES_MAX];

	(void)state;
	memcpy(address, r->address, sizeof(address));
	memcpy(r->address, "no port", sizeof("no port")); /* tp_connect() itself refuses */
	world_daemon_kill(w, 0, -ECONNRESET);
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(world_said(w, "Invalid argument"), 1);
	memcpy(r->address, address, sizeof(address));
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(info_of(w, 0).is_up);
	world_free(w);
}

static void
up__messages_that_do_not_fit_end_the_session(void **state)
{
	static const struct ctl_msg messages[] = {
		{.type = CTL_PONG, .request_id = 1},
		{.type = CTL_WELCOME, .request_id = 1},
		{.type = CTL_QUERY_MEM, .request_id = 1},
		{.type = CTL_MR_INFO, .request_id = 1, .u.mr_info = {.generation = 1}},
		{.type = CTL_MR_INFO, .request_id = 7, .u.mr_info = {.slab = 99999}},
		{.type = CTL_REFUSED, .request_id = 0, .u.refused = {.reason = 1}},
		{.type = CTL_REFUSED, .request_id = 1, .u.refused = {.reason = 1}},
		{.type = CTL_REFUSED, .request_id = 99999, .u.refused = {.reason = 1}},
	};
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		fake_daemon_send(world_daemon(w, 0), &messages[i]);
		world_settle(w);
		assert_false(info_of(w, 0).is_up);
		assert_int_equal(info_of(w, 0).last_error, -EPROTO);
		assert_int_equal(world_stats(w).remote_failures, i + 1);
		world_run(w, 5 * NSEC_PER_SEC);
		assert_true(info_of(w, 0).is_up);
	}
	world_free(w);
}

static void
ping__mute_daemon_is_lost_in_time(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	world_run(w, 20 * NSEC_PER_SEC); /* PINGs are answered */
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_daemon(w, 0)->lie = LIE_MUTE;
	world_run(w, 2600 * NSEC_PER_MSEC); /* ping_ns + op_timeout_ns */
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "no answer to PING"), 1);
	world_free(w);
}

static void
map__first_write_maps(void **state)
{
	struct world *w = dw_new(4, 2, SLAB_ACK_REMOTE);

	(void)state;
	assert_int_equal(world_do(w, BACKEND_TRIM, 0, PAGE_BYTES), 0);
	assert_int_equal(world_daemon(w, 0)->n_maps + world_daemon(w, 1)->n_maps, 0);
	dw_map(w, 0);
	dw_map(w, 1);
	assert_int_equal(info_of(w, 0).slabs_mapped, 1);
	assert_int_equal(info_of(w, 1).slabs_mapped, 1);
	assert_int_equal(info_of(w, 1).slabs_free, 3);
	assert_int_equal(world_stats(w).slabs_mapped, 2);
	assert_int_equal(world_stats(w).maps_total, 2);
	assert_false(slab_device_get_daemon(world_device(w), 2, NULL));
	world_free(w);
}

static void
map__refused_is_not_asked_again_before_free_mem(void **state)
{
	struct world *w = dw_new(2, 1, SLAB_ACK_REMOTE);
	struct fake_daemon *f = world_daemon(w, 0);
	const struct ctl_msg free_mem = {.type = CTL_FREE_MEM, .u.free_mem = {.free_slabs = 4}};

	(void)state;
	f->is_full = true;
	assert_int_equal(dw_write(w, P), 0);
	world_settle(w);
	assert_int_equal(world_stats(w).maps_refused, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_write(w, MIB), 0);
	assert_int_equal(f->n_maps, 1);
	assert_true(info_of(w, 0).is_up);
	f->is_full = false;
	fake_daemon_send(f, &free_mem);
	world_settle(w);
	dw_map(w, 0);
	world_free(w);
}

static void
map__lying_mr_info_ends_the_session(void **state)
{
	static const enum fake_daemon_lie lies[] = {LIE_MR_LENGTH, LIE_MR_GENERATION,
						    LIE_MR_OVERFLOW, LIE_MR_SLAB, LIE_GARBAGE};
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	for (uint32_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		world_daemon(w, 0)->lie = lies[i];
		assert_int_equal(dw_write(w, P), 0);
		world_settle(w);
		assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
		assert_int_equal(world_stats(w).remote_failures, i + 1);
		assert_int_equal(world_stats(w).slabs_mapped, 0);
		world_daemon(w, 0)->lie = LIE_NONE;
		world_run(w, 5 * NSEC_PER_SEC);
	}
	dw_map(w, 0);
	assert_int_equal(dw_read(w, P), 0);
	world_free(w);
}

static void
map__unanswered_while_pongs_go_on(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	world_daemon(w, 0)->lie = LIE_MAP_MUTE;
	assert_int_equal(dw_write(w, P), 0);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_MAPPING);
	/* 8 s, a PONG, 2 s in which it may have woken up, and another PONG. */
	world_run(w, 9 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).remote_failures, 0);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(world_said(w, "no answer to MAP"), 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	world_free(w);
}

static void
map__a_flood_of_first_writes_does_not_fill_the_connection(void **state)
{
	const struct world_config c = {
		.n_slabs = 100,
		.n_daemons = 1,
		.slabs_per_daemon = 16,
		.can_zero = true,
	};
	struct world *w = world_new(&c);

	(void)state;
	world_daemon(w, 0)->claimed_free = 1000;
	world_settle(w);
	for (uint64_t i = 0; i < 100; i++)
		(void)dw_start(w, BACKEND_WRITE, 0, i * MIB);
	world_advance(w);
	assert_int_equal(world_device(w)->remotes[0].maps_pending, MAPS_PENDING_MAX);
	world_settle(w);
	world_put_done(w);
	assert_int_equal(world_stats(w).remote_failures, 0);
	assert_int_equal(world_stats(w).slabs_mapped, 16);
	world_free(w);
}

static void
map__a_connection_that_takes_nothing_fails(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	fake_conn_set_deaf(world_daemon(w, 0)->conn, true);
	fake_daemon_set_up(world_daemon(w, 0), false);
	assert_int_equal(dw_write(w, P), 0); /* MAP is never delivered */
	world_run(w, 5 * NSEC_PER_SEC);
	assert_int_equal(world_stats(w).remote_failures, 1);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	world_free(w);
}

static void
map__generation_rises_and_wraps_past_zero(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);
	const struct arena_slab *s = &world_device(w)->arena.slabs[0];

	(void)state;
	world_device(w)->runs[0].generation = UINT32_MAX - 1;
	dw_map(w, 0);
	assert_int_equal(s->generation, UINT32_MAX);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_run(w, 2 * NSEC_PER_SEC);
	dw_map(w, 0);
	assert_int_equal(s->generation, 1);
	world_free(w);
}

static void
lost__a_daemon_returns_empty(void **state)
{
	struct world *w = dw_new(1, 1, SLAB_ACK_REMOTE);

	(void)state;
	dw_map(w, 0);
	assert_int_equal(dw_write(w, P), 0);
	world_daemon_kill(w, 0, -ECONNRESET);
	world_run(w, 2 * NSEC_PER_SEC);
	assert_true(info_of(w, 0).is_up);
	assert_int_equal(dw_slab_state(w, 0), SLAB_STATE_UNMAPPED);
	dw_map(w, 0);
	assert_false(dw_is_remote(w, P)); /* the new memory has not got it */
	assert_int_equal(dw_read(w, P), 0);
	assert_int_equal(world_stats(w).pages_read_backup, 1);
	world_settle(w);
	assert_true(dw_is_remote(w, P)); /* promoted */
	assert_int_equal(dw_remote_version(w, 0, P), dw_backup_version(w, P));
	world_free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello__refused_with_each_reason),
		cmocka_unit_test(hello__psk),
		cmocka_unit_test(hello__wrong_answers),
		cmocka_unit_test(retry__pauses_double_up_to_the_most),
		cmocka_unit_test(retry__pauses_grow_when_it_fails_right_after_welcome),
		cmocka_unit_test(ping__waits_behind_pages_of_a_slow_link),
		cmocka_unit_test(ops__have_a_longest_age_however_it_moves),
		cmocka_unit_test(retry__a_daemon_that_is_away_is_said_once),
		cmocka_unit_test(connect__failing_at_once_is_retried),
		cmocka_unit_test(up__messages_that_do_not_fit_end_the_session),
		cmocka_unit_test(ping__mute_daemon_is_lost_in_time),
		cmocka_unit_test(map__first_write_maps),
		cmocka_unit_test(map__refused_is_not_asked_again_before_free_mem),
		cmocka_unit_test(map__lying_mr_info_ends_the_session),
		cmocka_unit_test(map__unanswered_while_pongs_go_on),
		cmocka_unit_test(map__a_flood_of_first_writes_does_not_fill_the_connection),
		cmocka_unit_test(map__a_connection_that_takes_nothing_fails),
		cmocka_unit_test(map__generation_rises_and_wraps_past_zero),
		cmocka_unit_test(lost__a_daemon_returns_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
