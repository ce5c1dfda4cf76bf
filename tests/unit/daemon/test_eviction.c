/* SPDX-License-Identifier: MIT */
/* Slabs taken back from clients: who is asked, who has to give, and what silence and lies are worth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core.h"
#include "unit/daemon/fixture.h"

#define HOST_SLABS 64u
#define MSEC FX_MSEC

/* How a client behaves; a real one is somewhere in between. */
enum manners {
	OBEYS,	 /* answers everything */
	SILENT,	 /* answers nothing */
	NO_DONE, /* answers CHECK_ACTIVITY only */
};

/* Everything but the daemon takes so much that @count slabs have to go. */
static void
want_back(struct fx *fx, uint32_t count)
{
	const struct daemon_stats stats = fx_stats(fx);
	const uint64_t headroom = FX_HEADROOM_BYTES / FX_SLAB_BYTES;
	const struct daemon_memory memory = {
		.total_bytes = HOST_SLABS * FX_SLAB_BYTES,
		.available_bytes = (headroom - count) * FX_SLAB_BYTES,
	};

	assert_true(count <= headroom && stats.slabs_max <= HOST_SLABS);
	daemon_host_memory(fx->daemon, &memory);
	fx_net(fx);
}

/* Plenty of memory again. */
static void
relieve(struct fx *fx)
{
	const struct daemon_memory memory = {HOST_SLABS * FX_SLAB_BYTES,
					     HOST_SLABS / 2 * FX_SLAB_BYTES, 0};

	daemon_host_memory(fx->daemon, &memory);
}

static uint32_t
answer(struct fx_client *c, const struct ctl_msg *request, uint64_t milli)
{
	struct ctl_msg msg = {.type = CTL_DONE, .request_id = request->request_id};

	if (request->type == CTL_CHECK_ACTIVITY) {
		msg.type = CTL_ACTIVITY;
		msg.u.activity.milli_pages_per_second = milli;
		msg.u.activity.slab = request->u.unmap.slab;
		msg.u.activity.generation = request->u.unmap.generation;
	} else {
		msg.u.unmap.slab = request->u.evict.slab;
		msg.u.unmap.generation = request->u.evict.generation;
	}
	return fx_send(c, msg);
}

/* The next request of the daemon's in the inbox; NULL: none. */
static const struct ctl_msg *
next_request(struct fx_client *c)
{
	while (!fx_inbox_is_empty(c)) {
		const struct ctl_msg *msg = &c->inbox[c->taken++ % FX_INBOX];

		if (msg->type == CTL_CHECK_ACTIVITY || msg->type == CTL_EVICT)
			return msg;
		assert_true(msg->type == CTL_FREE_MEM || msg->type == CTL_UNMAPPED);
	}
	return NULL;
}

/* Answers what has come; slab n is n pages per second busy.  Returns how many EVICTs there were. */
static uint32_t
behave(struct fx_client *c, enum manners manners)
{
	const struct ctl_msg *msg;
	uint32_t evicts = 0;

	while ((msg = next_request(c)) != NULL) {
		evicts += msg->type == CTL_EVICT;
		if (manners == OBEYS || (manners == NO_DONE && msg->type == CTL_CHECK_ACTIVITY))
			(void)answer(c, msg, UINT64_C(1000) * msg->u.unmap.slab);
	}
	fx_net(c->fx);
	return evicts;
}

static struct fx *
new_full(void)
{
	struct fx *fx = fx_new(0);

	fx->config.max_slabs_client = FX_SLABS;
	fx_start_full(fx);
	return fx;
}

/* A client that has slabs 1 to @count. */
static struct fx_client *
join_with(struct fx *fx, uint32_t count)
{
	struct fx_client *c = fx_join(fx);

	for (uint32_t i = 1; i <= count; i++)
		(void)fx_map_now(c, i, 7);
	return c;
}

static uint32_t
evicting(const struct fx *fx)
{
	fx_check_invariants(fx);
	return fx_stats(fx).slabs_evicting;
}

static void
batch__least_active_goes(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);
	const struct ctl_msg *msg;
	uint32_t asked[3], least;

	(void)state;
	want_back(fx, 1);
	/* One is wanted: three are asked about, all at once. */
	for (uint32_t i = 0; i < 3; i++) {
		msg = next_request(c);
		assert_non_null(msg);
		assert_int_equal(msg->type, CTL_CHECK_ACTIVITY);
		assert_int_equal(msg->u.unmap.generation, 7);
		assert_int_equal(msg->request_id, i + 1);
		asked[i] = msg->u.unmap.slab;
		(void)answer(c, msg, UINT64_C(1000) * asked[i]);
	}
	assert_null(next_request(c));
	least = asked[0] < asked[1] ? asked[0] : asked[1];
	least = least < asked[2] ? least : asked[2];
	assert_int_equal(evicting(fx), 1);
	fx_net(fx);
	msg = next_request(c);
	assert_non_null(msg);
	assert_int_equal(msg->type, CTL_EVICT);
	assert_int_equal(msg->u.evict.slab, least);
	assert_int_equal(msg->u.evict.generation, 7);
	assert_int_equal(msg->u.evict.deadline_ms, FX_EVICT_DEADLINE_NS / MSEC);
	assert_null(next_request(c));
	(void)answer(c, msg, 0);
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_mapped, FX_SLABS - 1);
	assert_int_equal(fx_stats(fx).slabs_empty, 1); /* dropped, not zeroed for the next */
	assert_int_equal(fx_stats(fx).evictions_total, 1);
	assert_int_equal(fx_stats(fx).evictions_forced_total, 0);
	assert_int_equal(fx_stats(fx).unmaps_total, 0);
	assert_int_equal(evicting(fx), 0);
	assert_null(next_request(c));
	/* Now it may be mapped again, by somebody else or there when there is room. */
	assert_null(pool_find(fx->daemon->pool, 0, least));
	fx_client_free(c);
	fx_free(fx);
}

/* What nobody has goes before anybody is asked. */
static void
batch__free_slabs_first(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS - 2);

	(void)state;
	want_back(fx, 2);
	assert_null(next_request(c));
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, 2);
	want_back(fx, 3);
	assert_int_equal(evicting(fx), 3);
	fx_client_free(c);
	fx_free(fx);
}

/* Everything has to go: no question who is idle. */
static void
batch__of_all(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, 3);

	(void)state;
	relieve(fx);
	for (int i = 0; i < 5; i++) {
		want_back(fx, 4);
		assert_true(behave(c, OBEYS) == 0 || fx_stats(fx).evictions_total == 3);
		fx_settle(fx);
	}
	assert_int_equal(fx_stats(fx).evictions_total, 3);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS);
	assert_int_equal(c->last_id, 1 + 3); /* HELLO and MAPs: the answers had the daemon's ids */
	fx_client_free(c);
	fx_free(fx);
}

/* Several owners are asked together, each for its own. */
static void
s5_each_owner_is_asked_for_its_own_slabs(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *a = join_with(fx, 4), *b = join_with(fx, 4);
	uint32_t evicts_a = 0, evicts_b = 0;

	(void)state;
	want_back(fx, 4);
	for (int i = 0; i < 4; i++) {
		evicts_a += behave(a, OBEYS);
		evicts_b += behave(b, OBEYS);
	}
	fx_settle(fx);
	assert_int_equal(evicts_a + evicts_b, 4);
	assert_int_equal(fx_stats(fx).evictions_total, 4);
	assert_int_equal(fx_stats(fx).slabs_mapped, 4);
	assert_int_equal(fx->daemon->slots[0].slab_count, 4 - evicts_a);
	assert_int_equal(fx->daemon->slots[1].slab_count, 4 - evicts_b);
	assert_non_null(a->conn);
	assert_non_null(b->conn);
	fx_client_free(a);
	fx_client_free(b);
	fx_free(fx);
}

/* A client that says nothing delays the others by nothing, and itself until the deadline only. */
static void
s8_silent_client_is_taken_from_at_the_deadline(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *dead = join_with(fx, 4), *c = join_with(fx, 4);
	uint64_t start_ns = fx->now_ns;

	(void)state;
	want_back(fx, 4);
	assert_int_equal(behave(dead, SILENT) + behave(c, OBEYS), 0);
	/* Half of the deadline for the activity: who is silent counts as idle. */
	assert_true(fx->next_ns <= start_ns + FX_EVICT_DEADLINE_NS / 2);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2 - 1);
	assert_int_equal(fx_stats(fx).slabs_mapped, 8);
	fx_sleep(fx, 1);
	(void)behave(c, OBEYS);
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).evictions_forced_total, 0);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2);
	assert_int_equal(fx_stats(fx).slabs_mapped, 4);
	assert_int_equal(fx_stats(fx).slabs_empty, 4);
	assert_true(fx_stats(fx).evictions_forced_total >= 2);
	assert_int_equal(fx->events[DAEMON_EVENT_MISBEHAVED], 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_MISBEHAVED], "has not given slab"));
	/* Its connection lives on; only its memory is gone. */
	assert_non_null(dead->conn);
	assert_int_equal(evicting(fx), 0);
	fx_client_free(dead);
	fx_client_free(c);
	fx_free(fx);
}

/* Revoked, not only forgotten: an access through the old grant fails, and ends its connection. */
static void
forced__access_ends(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct fx_client *other = join_with(fx, 2);
	struct ctl_mr_info info = fx_map_now(c, 9, 1);

	(void)state;
	for (int i = 0; i < 2; i++) {
		want_back(fx, 4);
		fx_sleep(fx, FX_EVICT_DEADLINE_NS);
	}
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS);
	assert_true(fx_io(c, TP_OP_READ, &info, 0) < 0);
	fx_settle(fx);
	assert_null(c->conn);
	assert_non_null(other->conn);
	fx_client_free(c);
	fx_client_free(other);
	fx_free(fx);
}

/* DONE after the deadline, ACTIVITY after the choice: over, no harm. */
static void
late__answers_are_ignored(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);
	struct ctl_msg checks[6], evicts[4];
	const struct ctl_msg *msg;
	unsigned n_checks = 0, n_evicts = 0;

	(void)state;
	want_back(fx, 4);
	while ((msg = next_request(c)) != NULL)
		checks[n_checks++] = *msg;
	assert_int_equal(n_checks, 6);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2);
	while ((msg = next_request(c)) != NULL)
		evicts[n_evicts++] = *msg;
	assert_int_equal(n_evicts, 4);
	for (unsigned i = 0; i < n_checks; i++)
		(void)answer(c, &checks[i], 1);
	fx_settle(fx);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2);
	assert_int_equal(fx_stats(fx).evictions_forced_total, 4);
	for (unsigned i = 0; i < n_evicts; i++)
		(void)answer(c, &evicts[i], 0);
	fx_settle(fx);
	assert_non_null(c->conn);
	assert_int_equal(fx_stats(fx).protocol_errors_total, 0);
	assert_int_equal(fx_stats(fx).slabs_mapped, 4);
	fx_client_free(c);
	fx_free(fx);
}

enum wrong { ID_NEVER_USED, ANOTHER_SLAB, ANOTHER_GENERATION, ANOTHER_TYPE, NOT_HELD, WRONGS };

/* What fits no request of the daemon's closes, once and without harm to others. */
static void
wrong__answer_closes(void **state)
{
	(void)state;
	for (int how = 0; how < WRONGS; how++) {
		struct fx *fx = new_full();
		struct fx_client *c = join_with(fx, 5), *other = join_with(fx, 3);
		struct ctl_msg msg = {.type = CTL_DONE, .request_id = 1};

		fx->config.extra_choices = 2;
		want_back(fx, 4);
		(void)behave(other, OBEYS);
		msg.request_id = next_request(c)->request_id;
		msg.u.unmap.generation = 7;
		for (uint32_t i = 1; i <= 5; i++)
			if (pool_find(fx->daemon->pool, 0, i)->evict_request_id == msg.request_id)
				msg.u.unmap.slab = i;
		if (how != ANOTHER_TYPE)
			msg.type = CTL_ACTIVITY;
		if (how == ID_NEVER_USED)
			msg.request_id = 1000;
		if (how == ANOTHER_SLAB)
			msg.u.unmap.slab = msg.u.unmap.slab % 5 + 1;
		if (how == ANOTHER_GENERATION)
			msg.u.unmap.generation++;
		if (how == NOT_HELD)
			msg.u.unmap.slab = 77;
		(void)fx_send(c, msg);
		fx_settle(fx);
		assert_null(c->conn);
		assert_int_equal(fx_stats(fx).protocol_errors_total, 1);
		assert_int_equal(fx->events[DAEMON_EVENT_LEFT], 1);
		/* What it had came back with it. */
		assert_int_equal(fx_stats(fx).slabs_mapped, 3);
		fx_sleep(fx, FX_EVICT_DEADLINE_NS);
		assert_int_equal(fx_stats(fx).slabs_mapped, 3);
		fx_client_free(c);
		fx_client_free(other);
		fx_free(fx);
	}
}

/* DONE for what it does not hold, and was never asked for. */
static void
wrong__done_unasked(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, 2), *other = join_with(fx, 2);

	(void)state;
	(void)fx_send(c, (struct ctl_msg){.type = CTL_DONE,
					  .request_id = 1,
					  .u.unmap = {.slab = 1, .generation = 7}});
	fx_settle(fx);
	assert_null(c->conn);
	assert_non_null(other->conn);
	assert_int_equal(fx_stats(fx).slabs_mapped, 2);
	fx_client_free(c);
	fx_client_free(other);
	fx_free(fx);
}

/* Busier than any link carries: that one goes first, and it is said once. */
static void
lie__counts_as_idle(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *liar = join_with(fx, 4), *c = join_with(fx, 4);
	const struct ctl_msg *msg;
	uint32_t lies = 0;

	(void)state;
	want_back(fx, 4);
	while ((msg = next_request(liar)) != NULL) {
		(void)answer(liar, msg, UINT64_MAX);
		lies++;
	}
	(void)behave(c, OBEYS);
	assert_true(lies >= 2);
	assert_int_equal(fx->events[DAEMON_EVENT_MISBEHAVED], 1);
	assert_int_equal(behave(liar, OBEYS), lies);
	fx_settle(fx);
	assert_non_null(liar->conn);
	fx_client_free(liar);
	fx_client_free(c);
	fx_free(fx);
}

/* UNMAP crosses the requests, in both steps: it counts as DONE, and is answered. */
static void
unmap__counts_as_done(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	want_back(fx, 2);
	msg = next_request(c);
	(void)fx_unmap(c, msg->u.unmap.slab, 7);
	fx_net(fx);
	assert_int_equal(evicting(fx), 1);
	while ((msg = next_request(c)) != NULL)
		assert_int_equal(msg->type, CTL_CHECK_ACTIVITY);
	fx_settle(fx);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS / 2);
	while (!fx_inbox_is_empty(c) && c->inbox[c->taken % FX_INBOX].type != CTL_EVICT)
		c->taken++;
	msg = fx_take(c, CTL_EVICT, 0);
	id = fx_unmap(c, msg->u.evict.slab, 7);
	fx_settle(fx);
	(void)fx_take_answer(c, CTL_UNMAPPED, id);
	assert_int_equal(evicting(fx), 0);
	assert_int_equal(fx_stats(fx).unmaps_total, 2);
	assert_int_equal(fx_stats(fx).evictions_total, 0);
	assert_int_equal(fx_stats(fx).slabs_empty, 2);
	fx_sleep(fx, FX_EVICT_DEADLINE_NS);
	assert_int_equal(fx_stats(fx).evictions_forced_total, 0);
	fx_client_free(c);
	fx_free(fx);
}

/* It dies in the middle: its slabs count, and no wait for it is left. */
static void
s8_client_dies_in_a_batch(void **state)
{
	(void)state;
	for (int step = 0; step < 2; step++) {
		struct fx *fx = new_full();
		struct fx_client *dead = join_with(fx, 4), *c = join_with(fx, 4);

		want_back(fx, 4);
		if (step == 1) {
			(void)behave(c, NO_DONE);
			(void)behave(dead, NO_DONE);
		}
		fake_net_cut(dead->conn, -104);
		fx_settle(fx);
		assert_null(dead->conn);
		while (evicting(fx) > 0 && behave(c, OBEYS) > 0)
			fx_settle(fx);
		fx_sleep(fx, FX_EVICT_DEADLINE_NS);
		(void)behave(c, OBEYS);
		fx_sleep(fx, FX_EVICT_DEADLINE_NS);
		assert_int_equal(evicting(fx), 0);
		assert_true(fx_stats(fx).slabs_mapped <= 4);
		assert_true(fx_stats(fx).slabs_empty >= 4);
		assert_non_null(c->conn);
		fx_client_free(dead);
		fx_client_free(c);
		fx_free(fx);
	}
}

/* The hog went away before the choice: nobody loses anything. */
static void
relieved__before_the_choice(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);

	(void)state;
	want_back(fx, 2);
	relieve(fx);
	assert_int_equal(behave(c, OBEYS), 0);
	fx_settle(fx);
	assert_int_equal(behave(c, OBEYS), 0);
	assert_int_equal(evicting(fx), 0);
	assert_int_equal(fx_stats(fx).slabs_mapped, FX_SLABS);
	/* And all can be drawn again. */
	assert_int_equal(pool_drawable(fx->daemon->pool), FX_SLABS);
	fx_client_free(c);
	fx_free(fx);
}

/* A need that grows gets its own batch at once. */
static void
grows__second_batch(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);

	(void)state;
	want_back(fx, 1);
	assert_int_equal(evicting(fx), 1);
	want_back(fx, 3);
	assert_int_equal(evicting(fx), 3);
	assert_int_equal(fx_stats(fx).eviction_batches_total, 2);
	want_back(fx, 3);
	assert_int_equal(evicting(fx), 3);
	for (int i = 0; i < 4; i++) {
		(void)behave(c, OBEYS);
		fx_settle(fx);
	}
	assert_int_equal(fx_stats(fx).slabs_mapped, FX_SLABS - 3);
	fx_client_free(c);
	fx_free(fx);
}

/* MAP of a slab that is being taken back is refused for now, not as a mistake. */
static void
map__of_what_goes(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, 1);
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	for (int i = 0; i < 2; i++) {
		want_back(fx, 4);
		fx_settle(fx);
	}
	msg = next_request(c);
	assert_int_equal(msg->type, CTL_EVICT);
	fake_net_hold(fx->net, FAKE_REVOKED, true);
	(void)answer(c, msg, 0);
	fx_net(fx);
	assert_int_equal(pool_count(fx->daemon->pool, POOL_SLAB_REVOKING), 1);
	id = fx_map(c, 1, 8);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_NO_MEMORY);
	fake_net_hold(fx->net, FAKE_REVOKED, false);
	fx_client_free(c);
	fx_free(fx);
}

/* More requests than a connection keeps: the others follow as answers come. */
static void
asks__are_bounded(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	uint32_t evicts = 0;

	(void)state;
	fx->config.max_slabs = HOST_SLABS;
	fx->config.max_slabs_client = HOST_SLABS;
	fx->config.headroom_bytes = HOST_SLABS * FX_SLAB_BYTES;
	fx_start_full(fx);
	c = join_with(fx, HOST_SLABS);
	daemon_host_memory(fx->daemon, &(struct daemon_memory){HOST_SLABS * FX_SLAB_BYTES, 0, 0});
	fx_net(fx);
	assert_int_equal(evicting(fx), HOST_SLABS);
	assert_int_equal(fx->daemon->slots[0].asks, EVICTION_ASKS_MAX);
	for (int i = 0; i < 10; i++) {
		evicts += behave(c, OBEYS);
		fx_settle(fx);
	}
	assert_int_equal(evicts, HOST_SLABS);
	assert_int_equal(fx_stats(fx).slabs_empty, HOST_SLABS);
	assert_int_equal(fx->daemon->slots[0].asks, 0);
	fx_client_free(c);
	fx_free(fx);
}

/* Each lent slab is drawn as often as any other. */
static void
draw__uniform(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = join_with(fx, FX_SLABS);
	unsigned drawn[FX_SLABS + 1] = {0};
	const struct ctl_msg *msg;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		want_back(fx, 1);
		relieve(fx);
		while ((msg = next_request(c)) != NULL) {
			drawn[msg->u.unmap.slab]++;
			(void)answer(c, msg, 0);
		}
		fx_net(fx);
		assert_int_equal(evicting(fx), 0);
	}
	for (uint32_t i = 1; i <= FX_SLABS; i++)
		assert_in_range(drawn[i], 2000 * 3 / FX_SLABS * 85 / 100,
				2000 * 3 / FX_SLABS * 115 / 100);
	fx_client_free(c);
	fx_free(fx);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(batch__least_active_goes),
		cmocka_unit_test(batch__free_slabs_first),
		cmocka_unit_test(batch__of_all),
		cmocka_unit_test(s5_each_owner_is_asked_for_its_own_slabs),
		cmocka_unit_test(s8_silent_client_is_taken_from_at_the_deadline),
		cmocka_unit_test(s8_client_dies_in_a_batch),
		cmocka_unit_test(forced__access_ends),
		cmocka_unit_test(late__answers_are_ignored),
		cmocka_unit_test(wrong__answer_closes),
		cmocka_unit_test(wrong__done_unasked),
		cmocka_unit_test(lie__counts_as_idle),
		cmocka_unit_test(unmap__counts_as_done),
		cmocka_unit_test(relieved__before_the_choice),
		cmocka_unit_test(grows__second_batch),
		cmocka_unit_test(map__of_what_goes),
		cmocka_unit_test(asks__are_bounded),
		cmocka_unit_test(draw__uniform),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
