/* SPDX-License-Identifier: MIT */
/* A daemon that is told to stop: everything asked back, nothing lent, an end in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core.h"
#include "unit/daemon/fixture.h"

#define DRAIN_NS (10000 * FX_MSEC)

static struct fx *
new_full(void)
{
	struct fx *fx = fx_new(0);

	fx_start_full(fx);
	return fx;
}

static void
done(struct fx_client *c, const struct ctl_msg *evict)
{
	(void)fx_send(c, (struct ctl_msg){.type = CTL_DONE,
					  .request_id = evict->request_id,
					  .u.unmap = {.slab = evict->u.evict.slab,
						      .generation = evict->u.evict.generation}});
}

static void
drain__everything_is_asked_back(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	const struct ctl_msg *msg;

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		(void)fx_map_now(c, i, 5);
	fx_drain(fx, DRAIN_NS);
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS - 3);
	for (int i = 0; i < 3; i++) {
		assert_false(fx->stopped);
		assert_non_null(c->conn);
		msg = fx_take_answer(c, CTL_EVICT, 0);
		assert_int_equal(msg->u.evict.deadline_ms, DRAIN_NS / FX_MSEC);
		done(c, msg);
		fx_net(fx);
	}
	fx_settle(fx);
	assert_null(c->conn);
	assert_true(fx->stopped);
	assert_int_equal(fx_stats(fx).evictions_total, 3);
	assert_int_equal(fx_stats(fx).evictions_forced_total, 0);
	fx_client_free(c);
	fx_free(fx);
}

static void
drain__nothing_is_lent(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx), *late;
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	(void)fx_map_now(c, 0, 5);
	fx_drain(fx, DRAIN_NS);
	/* A host with plenty of memory changes nothing about it. */
	daemon_host_memory(fx->daemon, &(struct daemon_memory){1 << 30, 1 << 30, 0});
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS - 1);
	id = fx_send(c, (struct ctl_msg){.type = CTL_QUERY_MEM});
	fx_net(fx);
	(void)fx_take_answer(c, CTL_EVICT, 0);
	msg = fx_take_answer(c, CTL_FREE_MEM, id);
	assert_int_equal(msg->u.free_mem.free_slabs, 0);
	id = fx_map(c, 1, 5);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_STOPPING);
	late = fx_connect(fx);
	id = fx_send(late, fx_hello(late));
	fx_net(fx);
	fx_take_refused(late, id, CTL_REASON_STOPPING);
	fx_client_free(late);
	fx_client_free(c);
	fx_settle(fx);
	assert_true(fx->stopped);
	fx_free(fx);
}

/* A grant that is under way when the drain begins is asked back too. */
static void
drain__map_under_way(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	uint32_t id;

	(void)state;
	fake_net_hold(fx->net, FAKE_GRANTED, true);
	id = fx_map(c, 0, 5);
	fx_net(fx);
	fx_drain(fx, DRAIN_NS);
	fx_settle(fx);
	assert_false(fx->stopped);
	fake_net_hold(fx->net, FAKE_GRANTED, false);
	fx_settle(fx);
	(void)fx_take_answer(c, CTL_MR_INFO, id);
	done(c, fx_take_answer(c, CTL_EVICT, 0));
	fx_settle(fx);
	assert_true(fx->stopped);
	fx_client_free(c);
	fx_free(fx);
}

static void
drain__silent_client(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	(void)fx_map_now(c, 0, 5);
	fx_drain(fx, 4000 * FX_MSEC);
	fx_sleep(fx, 0);
	fx_sleep(fx, 4000 * FX_MSEC - 1);
	assert_false(fx->stopped);
	assert_non_null(c->conn);
	fx_sleep(fx, 1);
	assert_null(c->conn);
	assert_true(fx->stopped);
	fx_client_free(c);
	fx_free(fx);
}

static void
drain__hurried(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	(void)fx_map_now(c, 0, 5);
	fx_drain(fx, DRAIN_NS);
	fx_settle(fx);
	assert_false(fx->stopped);
	fx_stop(fx);
	fx_settle(fx);
	assert_true(fx->stopped);
	assert_null(c->conn);
	fx_client_free(c);
	fx_free(fx);
}

static void
drain__nobody_there(void **state)
{
	struct fx *fx = new_full();

	(void)state;
	fx_drain(fx, DRAIN_NS);
	fx_settle(fx);
	assert_true(fx->stopped);
	fx_free(fx);
}

/* A batch that began before waits for its answers; what it spares has to go too. */
static void
drain__during_a_batch(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	const struct ctl_msg *msg;

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		(void)fx_map_now(c, i, 5);
	daemon_host_memory(fx->daemon, &(struct daemon_memory){100 * FX_SLAB_BYTES, 0, 0});
	fx_net(fx);
	assert_int_equal(fx_stats(fx).slabs_evicting, 1);
	fx_drain(fx, DRAIN_NS);
	fx_net(fx);
	assert_int_equal(fx_stats(fx).slabs_evicting, 3);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2);
	assert_int_equal(fx_stats(fx).slabs_evicting, 5);
	while (!fx->stopped) {
		msg = &c->inbox[c->taken++ % FX_INBOX];
		assert_true(c->taken <= c->received);
		if (msg->type == CTL_EVICT)
			done(c, msg);
		fx_settle(fx);
	}
	assert_int_equal(fx_stats(fx).evictions_total, 5);
	fx_client_free(c);
	fx_free(fx);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(drain__everything_is_asked_back),
		cmocka_unit_test(drain__nothing_is_lent),
		cmocka_unit_test(drain__map_under_way),
		cmocka_unit_test(drain__silent_client),
		cmocka_unit_test(drain__hurried),
		cmocka_unit_test(drain__nobody_there),
		cmocka_unit_test(drain__during_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
