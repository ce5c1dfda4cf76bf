/* SPDX-License-Identifier: MIT */
/* Slabs lent and taken back: every refusal, every death, and that nobody reads another's bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "unit/daemon/fixture.h"

static struct fx *
new_full(void)
{
	struct fx *fx = fx_new(0);

	fx_start_full(fx);
	return fx;
}

static void
assert_counts(const struct fx *fx, uint32_t slabs_free, uint32_t mapped, uint32_t pending)
{
	struct daemon_stats stats = fx_stats(fx);

	assert_int_equal(stats.slabs_free, slabs_free);
	assert_int_equal(stats.slabs_mapped, mapped);
	assert_int_equal(stats.slabs_pending, pending);
}

static void
map__then_read_write(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct ctl_mr_info info = fx_map_now(c, 3, 9);
	struct daemon_client_info client;

	(void)state;
	assert_counts(fx, FX_SLABS - 1, 1, 0);
	assert_true(daemon_get_client(fx->daemon, 0, &client));
	assert_int_equal(client.slabs, 1);
	assert_int_equal(fx_io(c, TP_OP_READ, &info, 0), 0);
	for (size_t i = 0; i < sizeof(c->buf); i++)
		assert_int_equal(c->buf[i], 0);
	memset(c->buf, 0x5a, sizeof(c->buf));
	assert_int_equal(fx_io(c, TP_OP_WRITE, &info, 4096), 0);
	memset(c->buf, 0, sizeof(c->buf));
	assert_int_equal(fx_io(c, TP_OP_READ, &info, 4096), 0);
	assert_int_equal(c->buf[4095], 0x5a);
	fx_client_free(c);
	fx_free(fx);
}

/* A MAP that is refused changes no count and lends nothing. */
static void
s11_refused_map_counts_nothing(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct fx_client *other = fx_join(fx);
	uint32_t id;

	(void)state;
	(void)fx_map_now(c, 3, 9);
	/* The slab is mapped, whatever the generation. */
	id = fx_map(c, 3, 9);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_BAD_SLAB);
	id = fx_map(c, 3, 10);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_BAD_SLAB);
	/* Another client's slab 3 is another slab. */
	(void)fx_map_now(other, 3, 9);
	for (uint32_t i = 1; i < FX_SLABS_CLIENT; i++)
		(void)fx_map_now(c, 100 + i, 1);
	id = fx_map(c, 200, 1);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_QUOTA);
	/* 8 slabs: 5 for c, 3 for the other, no 4th. */
	(void)fx_map_now(other, 0, 1);
	(void)fx_map_now(other, UINT32_MAX, UINT32_MAX);
	id = fx_map(other, 1, 1);
	fx_net(fx);
	fx_take_refused(other, id, CTL_REASON_NO_MEMORY);
	assert_non_null(c->conn);
	assert_non_null(other->conn);
	assert_int_equal(fx_stats(fx).refused_total, 4);
	assert_int_equal(fx_stats(fx).maps_total, FX_SLABS);
	assert_counts(fx, 0, FX_SLABS, 0);
	fx_client_free(c);
	fx_client_free(other);
	assert_counts(fx, FX_SLABS, 0, 0);
	fx_free(fx);
}

static void
map__generation_0(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	(void)fx_map(c, 1, 0);
	fx_settle(fx);
	assert_null(c->conn);
	assert_int_equal(fx_stats(fx).protocol_errors_total, 1);
	fx_client_free(c);
	fx_free(fx);
}

static void
s3_early_client_is_served_when_the_pool_fills(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	uint32_t id;

	(void)state;
	fx_start(fx);
	c = fx_join(fx);
	id = fx_map(c, 1, 1);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_NO_MEMORY);
	/* s11: what was refused is counted nowhere. */
	assert_int_equal(fx_stats(fx).slabs_mapped, 0);
	fx_settle(fx);
	(void)fx_map_now(c, 1, 1);
	assert_counts(fx, FX_SLABS - 1, 1, 0);
	fx_client_free(c);
	fx_free(fx);
}

static void
map__transport_refuses_the_grant(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	uint32_t id;

	(void)state;
	fake_tp_refuse_grants(fx->server, -ENOMEM);
	id = fx_map(c, 1, 1);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_NO_MEMORY);
	assert_counts(fx, FX_SLABS, 0, 0);
	fake_tp_refuse_grants(fx->server, 0);
	(void)fx_map_now(c, 1, 1);
	fx_client_free(c);
	fx_free(fx);
}

static void
map__grant_fails_later(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	uint32_t map_id, unmap_id;

	(void)state;
	fake_net_fail(fx->net, FAKE_GRANTED, -EIO);
	map_id = fx_map(c, 1, 1);
	fx_net(fx);
	fx_take_refused(c, map_id, CTL_REASON_NO_MEMORY);
	assert_counts(fx, FX_SLABS - 1, 0, 1);
	fx_settle(fx);
	assert_counts(fx, FX_SLABS, 0, 0);
	/* With an UNMAP waiting for it. */
	fake_net_fail(fx->net, FAKE_GRANTED, -EIO);
	map_id = fx_map(c, 1, 1);
	unmap_id = fx_unmap(c, 1, 1);
	fx_net(fx);
	fx_take_refused(c, map_id, CTL_REASON_NO_MEMORY);
	fx_take_refused(c, unmap_id, CTL_REASON_BAD_SLAB);
	assert_non_null(c->conn);
	fx_client_free(c);
	fx_free(fx);
}

static void
unmap__revokes_then_answers_then_zeroes(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct ctl_mr_info info = fx_map_now(c, 3, 9);
	const struct ctl_msg *msg;
	struct tp_conn *server_end = fake_conn_peer(c->conn);
	uint32_t id;

	(void)state;
	fake_net_hold(fx->net, FAKE_REVOKED, true);
	id = fx_unmap(c, 3, 9);
	fx_settle(fx);
	assert_counts(fx, FX_SLABS - 1, 0, 1);
	/* Not revoked yet: the access is good, and there is no answer. */
	assert_int_equal(fx_io(c, TP_OP_READ, &info, 0), 0);
	assert_int_equal(fake_slab_memory_pending(fx->memory), 0);
	assert_int_equal(fake_conn_grants(server_end), 1);
	/* It is going: neither a second UNMAP nor a MAP. */
	fx_take_refused(c, (fx_unmap(c, 3, 9), fx_settle(fx), 0), CTL_REASON_BAD_SLAB);
	fx_take_refused(c, (fx_map(c, 3, 10), fx_settle(fx), 0), CTL_REASON_BAD_SLAB);
	assert_true(fake_net_step_kind(fx->net, FAKE_REVOKED, NULL));
	assert_int_equal(fake_slab_memory_pending_of(fx->memory, SLAB_MEMORY_ZERO), 1);
	assert_int_equal(fake_conn_grants(server_end), 0);
	fx_net(fx);
	msg = fx_take_answer(c, CTL_UNMAPPED, id);
	assert_int_equal(msg->u.unmap.slab, 3);
	assert_int_equal(msg->u.unmap.generation, 9);
	assert_counts(fx, FX_SLABS - 1, 0, 1);
	/* An access now fails, and ends this connection only. */
	assert_int_equal(fx_io(c, TP_OP_READ, &info, 0), -EACCES);
	fx_settle(fx);
	assert_null(c->conn);
	assert_counts(fx, FX_SLABS, 0, 0);
	assert_int_equal(fx_stats(fx).unmaps_total, 1);
	fx_client_free(c);
	fx_free(fx);
}

static void
unmap__refused(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct fx_client *other = fx_join(fx);
	uint32_t id;

	(void)state;
	(void)fx_map_now(c, 3, 9);
	id = fx_unmap(c, 4, 9);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_BAD_SLAB);
	id = fx_unmap(c, 3, 8);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_BAD_SLAB);
	id = fx_unmap(other, 3, 9);
	fx_net(fx);
	fx_take_refused(other, id, CTL_REASON_BAD_SLAB);
	assert_counts(fx, FX_SLABS - 1, 1, 0);
	fx_client_free(c);
	fx_client_free(other);
	fx_free(fx);
}

static void
unmap__before_granted(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	uint32_t map_id, unmap_id;

	(void)state;
	fake_net_hold(fx->net, FAKE_GRANTED, true);
	map_id = fx_map(c, 3, 9);
	unmap_id = fx_unmap(c, 3, 9);
	fx_settle(fx);
	(void)fx_take(c, CTL_FREE_MEM, 0);
	assert_true(fx_inbox_is_empty(c));
	fake_net_hold(fx->net, FAKE_GRANTED, false);
	fx_settle(fx);
	(void)fx_take_answer(c, CTL_MR_INFO, map_id);
	(void)fx_take_answer(c, CTL_UNMAPPED, unmap_id);
	assert_counts(fx, FX_SLABS, 0, 0);
	/* And the same slab again. */
	(void)fx_map_now(c, 3, 10);
	fx_client_free(c);
	fx_free(fx);
}

static void
unmap__revocation_fails(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	(void)fx_map_now(c, 3, 9);
	fake_net_fail(fx->net, FAKE_REVOKED, -EIO);
	fake_net_hold(fx->net, FAKE_DOWN, true);
	(void)fx_unmap(c, 3, 9);
	fx_settle(fx);
	/* The slab stays with the client until down(). */
	assert_counts(fx, FX_SLABS - 1, 0, 1);
	assert_int_equal(fake_slab_memory_pending(fx->memory), 0);
	fake_net_hold(fx->net, FAKE_DOWN, false);
	fx_settle(fx);
	assert_null(c->conn);
	assert_counts(fx, FX_SLABS, 0, 0);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "cannot revoke slab 3"));
	fx_client_free(c);
	fx_free(fx);
}

/* daemon-1: what one client wrote is gone before the next one maps the slab. */
static void
s7_next_client_reads_zeros(void **state)
{
	struct fx *fx = new_full();

	(void)state;
	for (unsigned way = 0; way < 3; way++) {
		struct fx_client *c = fx_join(fx);
		struct ctl_mr_info info[FX_SLABS];

		for (uint32_t i = 0; i < FX_SLABS_CLIENT; i++) {
			info[i] = fx_map_now(c, i, 1);
			memset(c->buf, 0xa0 + (int)i, sizeof(c->buf));
			assert_int_equal(fx_io(c, TP_OP_WRITE, &info[i], 0), 0);
			assert_int_equal(fx_io(c, TP_OP_WRITE, &info[i], 4096), 0);
		}
		for (uint32_t i = 0; i < FX_SLABS_CLIENT && way == 0; i++)
			(void)fx_unmap(c, i, 1);
		if (way == 1)
			fake_net_cut(c->conn, -ECONNRESET);
		fx_net(fx);
		fx_client_free(c);
		assert_counts(fx, FX_SLABS, 0, 0);
		for (uint32_t slot = 0; slot < FX_SLABS; slot++)
			assert_true(fake_slab_memory_is_zero(fx->memory, slot));
		c = fx_join(fx);
		for (uint32_t i = 0; i < FX_SLABS_CLIENT; i++) {
			info[i] = fx_map_now(c, i, 1);
			assert_int_equal(fx_io(c, TP_OP_READ, &info[i], 4096), 0);
			for (size_t b = 0; b < sizeof(c->buf); b++)
				assert_int_equal(c->buf[b], 0);
		}
		fx_client_free(c);
	}
	fx_free(fx);
}

/* A slab that waits to be zeroed, or is being zeroed, is nobody's. */
static void
zeroing__takes_its_time(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct fx_client *other = fx_join(fx);
	uint32_t id;

	(void)state;
	for (uint32_t i = 0; i < FX_SLABS_CLIENT; i++)
		(void)fx_map_now(c, i, 1);
	for (uint32_t i = 0; i < FX_SLABS - FX_SLABS_CLIENT; i++)
		(void)fx_map_now(other, i, 1);
	tp_close(c->conn);
	fx_net(fx);
	assert_counts(fx, 0, FX_SLABS - FX_SLABS_CLIENT, FX_SLABS_CLIENT);
	id = fx_map(other, 77, 1);
	fx_net(fx);
	fx_take_refused(other, id, CTL_REASON_NO_MEMORY);
	assert_true(fake_slab_memory_step(fx->memory, 0));
	(void)fx_map_now(other, 77, 2);
	fx_client_free(c);
	fx_client_free(other);
	fx_free(fx);
}

/* Whatever ends one connection, the others keep theirs, and their slabs. */
static void
s1_failed_client_ends_alone(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *other = fx_join(fx);
	struct ctl_mr_info info = fx_map_now(other, 1, 1), mine;

	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		struct fx_client *c = fx_join(fx);

		mine = fx_map_now(c, 2, 1);
		if (way == 0)
			fake_net_cut(c->conn, -ETIMEDOUT);
		if (way == 1)
			fx_send_bytes(c, "what is this", strlen("what is this"));
		if (way == 2)
			(void)fx_send(c, (struct ctl_msg){.type = CTL_PONG});
		if (way == 3) {
			mine.rkey ^= 1;
			assert_true(fx_io(c, TP_OP_READ, &mine, 0) < 0);
		}
		fx_settle(fx);
		assert_null(c->conn);
		fx_client_free(c);
		assert_int_equal(fx_io(other, TP_OP_READ, &info, 0), 0);
		assert_counts(fx, FX_SLABS - 1, 1, 0);
	}
	fx_client_free(other);
	fx_free(fx);
}

/* After a client has gone nothing of its access is left, and the host gets the memory. */
static void
s6_memory_really_goes_back(void **state)
{
	struct fx *fx = new_full();

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct fx_client *c = fx_join(fx);
		struct tp_conn *end = fake_conn_peer(c->conn);

		(void)fx_map_now(c, 1, 1);
		assert_true(fake_conn_grants(end) > 0);
		fake_net_cut(c->conn, -ECONNRESET);
		fx_client_free(c);
		assert_counts(fx, FX_SLABS, 0, 0);
	}
	/* A registration that was left would make the DROP fail. */
	daemon_host_memory(fx->daemon, &(struct daemon_memory){100 * FX_SLAB_BYTES, 0, 0});
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_HEADROOM_BYTES / FX_SLAB_BYTES);
	assert_int_equal(fx_stats(fx).slabs_lost, 0);
	fx_free(fx);
}

/* The client dies while its slab is granting, granted, revoking: it comes back each time. */
static void
death__in_each_slab_state(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 4; at++) {
		for (unsigned way = 0; way < 3; way++) {
			struct fx *fx = new_full();
			struct fx_client *c = fx_join(fx);
			struct tp_conn *server_end = fake_conn_peer(c->conn);

			if (at == 0)
				fake_net_hold(fx->net, FAKE_GRANTED, true);
			(void)fx_map(c, 3, 9);
			fx_net(fx);
			if (at >= 2) {
				fake_net_hold(fx->net, FAKE_REVOKED, at == 2);
				(void)fx_unmap(c, 3, 9);
				fx_net(fx);
			}
			assert_counts(fx, FX_SLABS - 1, at == 1, at != 1);
			if (way == 0)
				fake_net_cut(c->conn, -ETIMEDOUT);
			else if (way == 1)
				tp_close(c->conn);
			else
				tp_close(server_end);
			/* The server's own end is not down: nothing may be zeroed yet. */
			assert_int_equal(fake_slab_memory_pending(fx->memory), at == 3);
			fx_client_free(c);
			assert_counts(fx, FX_SLABS, 0, 0);
			assert_int_equal(fx_stats(fx).connections, 0);
			fx_free(fx);
		}
	}
}

static void
death__silent_client_gives_back_everything(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	for (uint32_t i = 0; i < FX_SLABS_CLIENT; i++)
		(void)fx_map_now(c, i, 1);
	fx_sleep(fx, FX_CLIENT_TIMEOUT_NS);
	assert_null(c->conn);
	assert_counts(fx, FX_SLABS, 0, 0);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "5 slabs back"));
	fx_client_free(c);
	fx_free(fx);
}

/* granted() and revoked() may still come between tp_close() and down(). */
static void
death__grant_ends_while_closing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 40; seed++) {
		struct fx *fx = fx_new(seed);
		struct fx_client *c;

		fx_start_full(fx);
		c = fx_join(fx);
		(void)fx_map_now(c, 1, 1);
		fake_net_hold(fx->net, FAKE_GRANTED, true);
		fake_net_hold(fx->net, FAKE_REVOKED, true);
		(void)fx_unmap(c, 1, 1);
		(void)fx_map(c, 2, 1);
		(void)fx_map(c, 3, 1);
		(void)fx_unmap(c, 3, 1);
		fx_net(fx);
		tp_close(c->conn);
		fake_net_hold(fx->net, FAKE_GRANTED, false);
		fake_net_hold(fx->net, FAKE_REVOKED, false);
		fx_client_free(c);
		assert_counts(fx, FX_SLABS, 0, 0);
		fx_free(fx);
	}
}

static void
free_mem__asked(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	for (uint32_t mapped = 0; mapped <= FX_SLABS_CLIENT; mapped++) {
		id = fx_send(c, (struct ctl_msg){.type = CTL_QUERY_MEM});
		fx_net(fx);
		msg = fx_take_answer(c, CTL_FREE_MEM, id);
		assert_int_equal(msg->u.free_mem.free_slabs, FX_SLABS_CLIENT - mapped);
		assert_int_equal(msg->u.free_mem.total_slabs, FX_SLABS);
		if (mapped < FX_SLABS_CLIENT)
			(void)fx_map_now(c, mapped, 1);
	}
	fx_client_free(c);
	fx_free(fx);
}

static void
free_mem__pushed_at_a_bounded_rate(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c, *late;

	(void)state;
	fx_start(fx);
	c = fx_join(fx);
	late = fx_connect(fx);
	assert_true(fx_inbox_is_empty(c));
	/* The pool fills: the first change goes out at once, the others together. */
	assert_true(fake_slab_memory_step(fx->memory, 0));
	fx_net(fx);
	assert_int_equal(fx_take(c, CTL_FREE_MEM, 0)->u.free_mem.free_slabs, 1);
	fx_settle(fx);
	assert_true(fx_inbox_is_empty(c));
	fx_sleep(fx, 99 * FX_MSEC);
	assert_true(fx_inbox_is_empty(c));
	assert_int_equal(fx->next_ns, fx->now_ns + 1 * FX_MSEC);
	fx_sleep(fx, 1 * FX_MSEC);
	assert_int_equal(fx_take(c, CTL_FREE_MEM, 0)->u.free_mem.free_slabs, FX_SLABS_CLIENT);
	/* No change, no message. */
	fx_sleep(fx, 1000 * FX_MSEC);
	assert_true(fx_inbox_is_empty(c));
	/* Nobody is told anything before WELCOME. */
	assert_true(fx_inbox_is_empty(late));
	fx_client_free(late);
	fx_client_free(c);
	fx_free(fx);
}

static void
free_mem__tells_of_others(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *a = fx_join(fx);
	struct fx_client *b = fx_join(fx);

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		(void)fx_map_now(a, i, 1);
	fx_sleep(fx, 200 * FX_MSEC);
	b->taken = b->received - 1;
	assert_int_equal(fx_take(b, CTL_FREE_MEM, 0)->u.free_mem.free_slabs, 4);
	fx_client_free(a);
	fx_sleep(fx, 200 * FX_MSEC);
	b->taken = b->received - 1;
	assert_int_equal(fx_take(b, CTL_FREE_MEM, 0)->u.free_mem.free_slabs, FX_SLABS_CLIENT);
	fx_client_free(b);
	fx_free(fx);
}

static void
memory__host_has_none_for_a_while(void **state)
{
	struct fx *fx = fx_new(0);

	(void)state;
	fx_start(fx);
	(void)daemon_advance(fx->daemon, fx->now_ns);
	while (fake_slab_memory_step(fx->memory, -ENOMEM))
		continue;
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS);
	assert_int_equal(fx->events[DAEMON_EVENT_MEMORY_FAILED], 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_MEMORY_FAILED], "Cannot allocate"));
	assert_int_equal(fx->events[DAEMON_EVENT_POOL_READY], 0);
	fx_sleep(fx, 60000 * FX_MSEC);
	assert_counts(fx, FX_SLABS, 0, 0);
	assert_int_equal(fx->events[DAEMON_EVENT_POOL_READY], 1);
	fx_free(fx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map__then_read_write),
		cmocka_unit_test(s11_refused_map_counts_nothing),
		cmocka_unit_test(map__generation_0),
		cmocka_unit_test(s3_early_client_is_served_when_the_pool_fills),
		cmocka_unit_test(map__transport_refuses_the_grant),
		cmocka_unit_test(map__grant_fails_later),
		cmocka_unit_test(unmap__revokes_then_answers_then_zeroes),
		cmocka_unit_test(unmap__refused),
		cmocka_unit_test(unmap__before_granted),
		cmocka_unit_test(unmap__revocation_fails),
		cmocka_unit_test(s7_next_client_reads_zeros),
		cmocka_unit_test(s1_failed_client_ends_alone),
		cmocka_unit_test(s6_memory_really_goes_back),
		cmocka_unit_test(zeroing__takes_its_time),
		cmocka_unit_test(death__in_each_slab_state),
		cmocka_unit_test(death__silent_client_gives_back_everything),
		cmocka_unit_test(death__grant_ends_while_closing),
		cmocka_unit_test(free_mem__asked),
		cmocka_unit_test(free_mem__pushed_at_a_bounded_rate),
		cmocka_unit_test(free_mem__tells_of_others),
		cmocka_unit_test(memory__host_has_none_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
