/* SPDX-License-Identifier: MIT */
/* What the monitor makes of a host: growth ahead of demand, and slabs given back in time. */
#include "daemon/monitor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/rng.h"
#include "daemon/daemon.h"

#define MIB (UINT64_C(1) << 20)
#define SLAB (64 * MIB)
#define TOTAL (64 * 1024 * MIB)
#define HEADROOM (8 * 1024 * MIB)
#define MAX_SLABS 1024u

/* A host where slabs come and go at once. */
struct host {
	struct monitor monitor;
	uint64_t total_bytes;
	uint64_t others_bytes;
	uint32_t psi_centi;
	struct monitor_slabs slabs;
	uint32_t target;
};

static struct host
host_new(uint64_t headroom_bytes)
{
	struct host h = {.total_bytes = TOTAL, .slabs.max = MAX_SLABS};

	monitor_init(&h.monitor, &(struct monitor_config){.slab_bytes = SLAB,
							  .headroom_bytes = headroom_bytes,
							  .beta_milli = 200,
							  .psi_limit_centi = 1000});
	return h;
}

static uint64_t
available(const struct host *h)
{
	const uint64_t used = h->others_bytes + h->slabs.held * SLAB;

	return h->total_bytes > used ? h->total_bytes - used : 0;
}

static uint32_t
look(struct host *h)
{
	const struct daemon_memory memory = {h->total_bytes, available(h), h->psi_centi};

	h->target = monitor_target(&h->monitor, &memory, &h->slabs);
	assert_true(h->target <= h->slabs.max);
	return h->target;
}

/* A period whose end finds everything done. */
static void
period(struct host *h)
{
	h->slabs.held = look(h);
	h->slabs.free = h->slabs.held;
}

/* As many slabs as leave the headroom, and a sixteenth of it against changing back and forth. */
static void
grow__to_the_headroom(void **state)
{
	struct host h = host_new(HEADROOM);

	(void)state;
	h.others_bytes = 16 * 1024 * MIB;
	period(&h);
	assert_int_equal(h.slabs.held, (TOTAL - 16 * 1024 * MIB - HEADROOM - HEADROOM / 16) / SLAB);
	for (int i = 0; i < 20; i++) {
		const uint32_t before = h.slabs.held;

		period(&h);
		assert_int_equal(h.slabs.held, before);
		assert_false(h.monitor.is_short);
	}
}

static void
grow__to_the_maximum(void **state)
{
	struct host h = host_new(HEADROOM);

	(void)state;
	h.slabs.max = 10;
	period(&h);
	assert_int_equal(h.slabs.held, 10);
	period(&h);
	assert_int_equal(h.slabs.held, 10);
}

/* What is being filled takes memory that still looks free. */
static void
grow__counts_what_is_being_filled(void **state)
{
	struct host h = host_new(HEADROOM);
	struct daemon_memory memory = {.total_bytes = TOTAL};

	(void)state;
	h.slabs.held = 6;
	h.slabs.filling = 2;
	memory.available_bytes = HEADROOM + HEADROOM / 16 + 3 * SLAB;
	assert_int_equal(monitor_target(&h.monitor, &memory, &h.slabs), 7);
	memory.available_bytes = HEADROOM + HEADROOM / 16 + SLAB;
	assert_int_equal(monitor_target(&h.monitor, &memory, &h.slabs), 6);
}

/* The average alone would take seconds to see it. */
static void
shrink__at_once(void **state)
{
	struct host h = host_new(HEADROOM);

	(void)state;
	period(&h);
	period(&h);
	h.others_bytes = 6 * 1024 * MIB;
	period(&h);
	assert_true(h.monitor.is_short);
	assert_true(available(&h) >= HEADROOM);
	assert_true(available(&h) < HEADROOM + SLAB);
	period(&h);
	assert_false(h.monitor.is_short);
}

/* Slabs on their way out are counted once. */
static void
shrink__target_stays_while_slabs_go(void **state)
{
	struct host h = host_new(HEADROOM);
	uint32_t target;

	(void)state;
	period(&h);
	h.others_bytes = 6 * 1024 * MIB;
	target = look(&h);
	assert_int_equal(look(&h), target);
	h.slabs.held -= 3;
	assert_int_equal(look(&h), target);
}

static void
shrink__nothing_left(void **state)
{
	struct host h = host_new(HEADROOM);

	(void)state;
	period(&h);
	h.others_bytes = 2 * TOTAL;
	/* A headroom a period: how far beyond its memory a host is does not show. */
	for (int i = 0; i < 7; i++)
		period(&h);
	assert_int_equal(h.slabs.held, 0);
	period(&h);
	assert_int_equal(h.slabs.held, 0);
}

/* Memory that a program has just given back is not lent out for some periods. */
static void
grow__slowly_after_a_shortage(void **state)
{
	struct host h = host_new(HEADROOM);
	uint32_t before, full;

	(void)state;
	period(&h);
	full = h.slabs.held;
	h.others_bytes = 30 * 1024 * MIB;
	for (int i = 0; i < 20; i++)
		period(&h);
	before = h.slabs.held;
	h.others_bytes = 0;
	period(&h);
	assert_true(h.slabs.held >= before);
	assert_true(h.slabs.held < before + (full - before) / 4);
	for (int i = 0; i < 40; i++)
		period(&h);
	assert_in_range(h.slabs.held, full - 1, full);
}

static void
headroom__auto_is_an_eighth(void **state)
{
	struct host h = host_new(DAEMON_HEADROOM_AUTO);

	(void)state;
	period(&h);
	assert_int_equal(h.monitor.headroom_bytes, HEADROOM);
}

static void
headroom__none(void **state)
{
	struct host h = host_new(0);

	(void)state;
	h.psi_centi = 10000;
	period(&h);
	assert_int_equal(h.slabs.held, MAX_SLABS - 1);
	h.others_bytes = TOTAL;
	period(&h);
	assert_int_equal(h.slabs.held, MAX_SLABS - 1);
}

/* A smaller limit than before, as of a control group: its own average, its own headroom. */
static void
total__changes(void **state)
{
	struct host h = host_new(DAEMON_HEADROOM_AUTO);

	(void)state;
	h.others_bytes = 30 * 1024 * MIB;
	period(&h);
	h.others_bytes = 0;
	h.slabs.held = 4;
	h.total_bytes = 1024 * MIB;
	period(&h);
	assert_int_equal(h.slabs.held, (1024 - 128 - 64) / 64);
}

static void
psi__free_slabs_only(void **state)
{
	struct host h = host_new(HEADROOM);

	(void)state;
	period(&h);
	h.slabs.free = 5;
	h.psi_centi = 1000;
	assert_int_equal(look(&h), h.slabs.held);
	h.psi_centi = 1001;
	assert_int_equal(look(&h), h.slabs.held - 3);
	assert_true(h.monitor.is_pressed);
	h.slabs.free = 0;
	assert_int_equal(look(&h), h.slabs.held);
	/* No growth either. */
	h.others_bytes = 0;
	h.slabs.held -= 20;
	assert_int_equal(look(&h), h.slabs.held);
	h.psi_centi = 0;
	assert_true(look(&h) > h.slabs.held);
	/* With plenty of memory the pressure is somebody else's. */
	h.slabs.held = 10;
	h.psi_centi = 10000;
	assert_true(look(&h) > h.slabs.held);
	assert_false(h.monitor.is_pressed);
}

/* What is used beyond the host's memory does not show: each period a headroom of it goes. */
static uint64_t
periods_to_recover(const struct host *h)
{
	const uint64_t used = h->others_bytes + h->slabs.held * SLAB;

	if (used <= h->total_bytes || h->monitor.config.headroom_bytes == 0)
		return 1;
	return 2 + (used - h->total_bytes) / h->monitor.config.headroom_bytes;
}

/* Whatever a host does: a headroom comes back each period, and slabs do not come and go
 * while nothing changes. */
static void
random__hosts(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct rng rng = rng_of(seed, 1);
		struct host h = host_new(rng_below(&rng, 64) * 256 * MIB);

		h.slabs.max = 1 + rng_below(&rng, MAX_SLABS);
		for (int i = 0; i < 50; i++) {
			if (rng_percent(&rng, 30))
				h.others_bytes = rng_next(&rng) % (TOTAL + TOTAL / 4);
			h.psi_centi = rng_percent(&rng, 10) ? rng_below(&rng, 10001) : 0;
			for (uint64_t n = periods_to_recover(&h); n > 0; n--)
				period(&h);
			assert_true(h.slabs.held == 0 || available(&h) >= h.monitor.headroom_bytes);
		}
		h.psi_centi = 0;
		for (int i = 0; i < 100; i++)
			period(&h);
		for (int i = 0; i < 5; i++) {
			const uint32_t before = h.slabs.held;

			period(&h);
			assert_int_equal(h.slabs.held, before);
		}
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(grow__to_the_headroom),
		cmocka_unit_test(grow__to_the_maximum),
		cmocka_unit_test(grow__counts_what_is_being_filled),
		cmocka_unit_test(shrink__at_once),
		cmocka_unit_test(shrink__target_stays_while_slabs_go),
		cmocka_unit_test(shrink__nothing_left),
		cmocka_unit_test(grow__slowly_after_a_shortage),
		cmocka_unit_test(headroom__auto_is_an_eighth),
		cmocka_unit_test(headroom__none),
		cmocka_unit_test(total__changes),
		cmocka_unit_test(psi__free_slabs_only),
		cmocka_unit_test(random__hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
