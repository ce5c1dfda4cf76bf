/* SPDX-License-Identifier: MIT */
/* A host that runs short of memory: what the daemon gives back, refuses, and says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "unit/daemon/fixture.h"

#define HOST_SLABS 64u

/* A host of that size in slabs where everything but the daemon uses @others of them. */
static void
tell(struct fx *fx, uint32_t others)
{
	const struct daemon_stats stats = fx_stats(fx);
	const uint32_t used = others + FX_SLABS - stats.slabs_empty;
	const struct daemon_memory memory = {
		.total_bytes = HOST_SLABS * FX_SLAB_BYTES,
		.available_bytes = used < HOST_SLABS ? (HOST_SLABS - used) * FX_SLAB_BYTES : 0,
	};

	daemon_host_memory(fx->daemon, &memory);
	fx_settle(fx);
	fx_check_invariants(fx);
}

static void
grow__ahead_of_demand(void **state)
{
	struct fx *fx = fx_new(0);
	const uint32_t room = HOST_SLABS - (uint32_t)(FX_HEADROOM_BYTES / FX_SLAB_BYTES) - 1;

	(void)state;
	fx_start(fx);
	tell(fx, room - 3);
	assert_int_equal(fx_stats(fx).slabs_free, 3);
	assert_int_equal(fx_stats(fx).slabs_target, 3);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_POOL_READY], "3 of 8 slabs are filled"));
	for (int i = 0; i < 20; i++)
		tell(fx, room - 6); /* the average comes near it */
	assert_int_equal(fx_stats(fx).slabs_free, 5);
	for (int i = 0; i < 20; i++)
		tell(fx, 0);
	assert_int_equal(fx_stats(fx).slabs_free, FX_SLABS);
	assert_int_equal(fx->events[DAEMON_EVENT_SHORT], 0);
	fx_free(fx);
}

static void
short__free_slabs_go_first(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	(void)fx_map_now(c, 0, 1);
	(void)fx_map_now(c, 1, 1);
	/* Two slabs above the headroom, then three below it. */
	tell(fx, HOST_SLABS - FX_SLABS - 4 - 2);
	assert_int_equal(fx_stats(fx).slabs_free, 6);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 3);
	assert_int_equal(fx_stats(fx).slabs_free, 3);
	assert_int_equal(fx_stats(fx).slabs_empty, 3);
	assert_int_equal(fx_stats(fx).slabs_mapped, 2);
	assert_true(fx_stats(fx).is_short);
	assert_int_equal(fx->events[DAEMON_EVENT_SHORT], 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_SHORT], "3 slabs have to go"));
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 3);
	assert_int_equal(fx_stats(fx).slabs_empty, 3);
	assert_false(fx_stats(fx).is_short);
	assert_int_equal(fx->events[DAEMON_EVENT_SHORT], 1);
	assert_int_equal(fx->events[DAEMON_EVENT_RELIEVED], 1);
	fx_client_free(c);
	fx_free(fx);
}

/* Nothing is lent that is on its way to the host, or would be at once. */
static void
s4_slab_that_goes_is_not_lent(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 3);
	assert_int_equal(fx_stats(fx).slabs_free, 5);
	id = fx_send(c, (struct ctl_msg){.type = CTL_QUERY_MEM});
	fx_net(fx);
	msg = fx_take_answer(c, CTL_FREE_MEM, id);
	assert_int_equal(msg->u.free_mem.free_slabs, 0);
	id = fx_map(c, 0, 1);
	fx_net(fx);
	fx_take_refused(c, id, CTL_REASON_NO_MEMORY);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 3);
	(void)fx_map_now(c, 0, 1);
	fx_client_free(c);
	fx_free(fx);
}

/* A slab that comes back while the host is short goes to the host, not to the next client. */
static void
short__unmapped_slab_is_dropped(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	for (uint32_t i = 0; i < FX_SLABS_CLIENT; i++)
		(void)fx_map_now(c, i, 1);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 4);
	assert_int_equal(fx_stats(fx).slabs_empty, 3);
	(void)fx_unmap(c, 0, 1);
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_empty, 4);
	fx_client_free(c);
	fx_free(fx);
}

/* Whoever asked in between knows another number than the others. */
static void
short__who_asked_is_told_again(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	fx_sleep(fx, 1000 * FX_MSEC);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 1);
	msg = fx_take(c, CTL_FREE_MEM, 0);
	assert_int_equal(msg->u.free_mem.free_slabs, 0);
	tell(fx, 0);
	id = fx_send(c, (struct ctl_msg){.type = CTL_QUERY_MEM});
	fx_net(fx);
	msg = fx_take(c, CTL_FREE_MEM, id);
	assert_int_equal(msg->u.free_mem.free_slabs, FX_SLABS_CLIENT);
	tell(fx, HOST_SLABS - 4);
	fx_sleep(fx, 100 * FX_MSEC);
	msg = fx_take(c, CTL_FREE_MEM, 0);
	assert_int_equal(msg->u.free_mem.free_slabs, 0);
	fx_client_free(c);
	fx_free(fx);
}

/* Slabs that nobody has count as available: else all full pools would look alike. */
static void
usage__of_the_host(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	const struct ctl_msg *msg;
	uint32_t id;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	(void)fx_map_now(c, 0, 1);
	assert_int_equal(fx_stats(fx).usage_permille, 1000 / FX_SLABS);
	tell(fx, HOST_SLABS / 2);
	id = fx_send(c, (struct ctl_msg){.type = CTL_QUERY_MEM});
	fx_net(fx);
	msg = fx_take_answer(c, CTL_FREE_MEM, id);
	assert_int_equal(msg->u.free_mem.usage_permille, 1000 * (HOST_SLABS / 2 + 1) / HOST_SLABS);
	/* Without waiting for the next look at the host. */
	(void)fx_map_now(c, 1, 1);
	assert_int_equal(fx_stats(fx).usage_permille, 1000 * (HOST_SLABS / 2 + 2) / HOST_SLABS);
	fx_client_free(c);
	assert_int_equal(fx_stats(fx).usage_permille, 1000 * (HOST_SLABS / 2) / HOST_SLABS);
	fx_free(fx);
}

/* Of a pool that grows between two looks nothing is used. */
static void
usage__while_the_pool_fills(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;

	(void)state;
	fx_start(fx);
	daemon_host_memory(fx->daemon, &(struct daemon_memory){HOST_SLABS * FX_SLAB_BYTES,
							       HOST_SLABS / 2 * FX_SLAB_BYTES, 0});
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_free, FX_SLABS);
	assert_int_equal(fx_stats(fx).usage_permille, 500);
	c = fx_join(fx);
	(void)fx_map_now(c, 1, 1);
	assert_int_equal(fx_stats(fx).usage_permille, 500 + 1000 / HOST_SLABS);
	fx_client_free(c);
	fx_free(fx);
}

/* Its last client leaves: the headroom is kept all the same. */
static void
s2_headroom_is_kept_when_every_client_has_left(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;

	(void)state;
	fx_start_full(fx);
	c = fx_join(fx);
	(void)fx_map_now(c, 0, 1);
	fx_client_free(c);
	assert_int_equal(fx_stats(fx).clients, 0);
	tell(fx, HOST_SLABS - FX_SLABS - 4 + 3);
	assert_int_equal(fx_stats(fx).slabs_empty, 3);
	for (int i = 0; i < 40; i++)
		tell(fx, 0);
	assert_int_equal(fx_stats(fx).slabs_free, FX_SLABS);
	fx_free(fx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grow__ahead_of_demand),
		cmocka_unit_test(short__free_slabs_go_first),
		cmocka_unit_test(s4_slab_that_goes_is_not_lent),
		cmocka_unit_test(short__unmapped_slab_is_dropped),
		cmocka_unit_test(short__who_asked_is_told_again),
		cmocka_unit_test(usage__of_the_host),
		cmocka_unit_test(usage__while_the_pool_fills),
		cmocka_unit_test(s2_headroom_is_kept_when_every_client_has_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
