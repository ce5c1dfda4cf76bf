/* SPDX-License-Identifier: MIT */
/* The pool alone: filling ahead, retries, losses, zeroing, the end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/pool.h"
#include "lib/fake_slab_memory.h"
#include "lib/fake_transport.h"

#define SLOTS 6u
#define SLAB_BYTES 4096u

struct world {
	struct fake_net *net;
	struct tp *tp;
	struct slab_memory *memory;
	struct pool *pool;
	unsigned ready;
	unsigned failed;
	enum slab_memory_request failed_request;
	uint64_t next_ns;
};

static void
touched_cb(void *arg)
{
	(void)arg;
}

static void
ready_cb(void *arg)
{
	((struct world *)arg)->ready++;
}

static void
failed_cb(void *arg, enum slab_memory_request request, uint32_t slot, int status)
{
	struct world *w = arg;

	assert_true(slot < SLOTS && status < 0);
	w->failed++;
	w->failed_request = request;
}

static int
set_up(void **state)
{
	static struct world w;
	struct pool_events events = {&w, touched_cb, ready_cb, failed_cb};

	w = (struct world){.net = fake_net_new(0)};
	w.tp = fake_tp_new(w.net);
	w.memory = fake_slab_memory_new(SLAB_BYTES, SLOTS, &w.tp, 1);
	assert_int_equal(pool_new(SLOTS, w.memory, &events, &w.pool), 0);
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	(void)pool_free(w->pool);
	(void)fake_slab_memory_free(w->memory);
	(void)fake_tp_end(w->tp);
	(void)fake_net_free(w->net);
	return 0;
}

static void
advance(struct world *w, uint64_t now_ns)
{
	w->next_ns = UINT64_MAX;
	pool_advance(w->pool, now_ns, &w->next_ns);
}

static void
fill(struct world *w)
{
	advance(w, 1);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
}

static void
advance__fills_a_few_at_a_time(void **state)
{
	struct world *w = *state;

	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	advance(w, 1);
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_FILL),
			 POOL_REQUESTS_MAX);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FILLING), POOL_REQUESTS_MAX);
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_int_equal(w->ready, 0);
		assert_true(fake_slab_memory_step(w->memory, 0));
		assert_true(fake_slab_memory_pending(w->memory) <= POOL_REQUESTS_MAX);
	}
	assert_int_equal(w->ready, 1);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
}

static void
fill__failed_is_retried_later(void **state)
{
	struct world *w = *state;

	advance(w, 1);
	assert_true(fake_slab_memory_step(w->memory, -ENOMEM));
	assert_true(fake_slab_memory_step(w->memory, -ENOMEM));
	assert_int_equal(w->failed, 1);
	assert_int_equal(w->failed_request, SLAB_MEMORY_FILL);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	advance(w, 1000);
	assert_true(w->next_ns > 1000 && w->next_ns != UINT64_MAX);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	advance(w, w->next_ns - 1);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	advance(w, w->next_ns);
	assert_int_equal(fake_slab_memory_pending(w->memory), POOL_REQUESTS_MAX);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
	assert_int_equal(w->ready, 1);
	assert_int_equal(w->failed, 1);
}

static void
take__until_none_is_left(void **state)
{
	struct world *w = *state;
	struct pool_slab *s[SLOTS];

	assert_null(pool_take(w->pool, NULL, 0, 0, 1));
	fill(w);
	for (uint32_t i = 0; i < SLOTS; i++) {
		s[i] = pool_take(w->pool, NULL, i % 2, i / 2, 7);
		assert_non_null(s[i]);
		assert_int_equal(s[i]->state, POOL_SLAB_GRANTING);
	}
	assert_null(pool_take(w->pool, NULL, 5, 5, 1));
	for (uint32_t i = 0; i < SLOTS; i++)
		assert_ptr_equal(pool_find(w->pool, i % 2, i / 2), s[i]);
	assert_null(pool_find(w->pool, 0, SLOTS));
	assert_null(pool_find(w->pool, 2, 0));
	pool_untake(w->pool, s[3]);
	assert_null(pool_find(w->pool, 1, 1));
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	assert_ptr_equal(pool_take(w->pool, NULL, 9, 9, 1), s[3]);
	for (uint32_t i = 0; i < SLOTS; i++)
		pool_reclaim(w->pool, s[i]);
	fake_slab_memory_run(w->memory);
}

static void
reclaim__zeroes_before_free(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	fill(w);
	s = pool_take(w->pool, NULL, 0, 0, 1);
	pool_granted(w->pool, s);
	pool_revoking(w->pool, s);
	fake_slab_memory_bytes(w->memory, s->slot)[100] = 1;
	pool_reclaim(w->pool, s);
	assert_int_equal(s->state, POOL_SLAB_ZEROING);
	assert_null(pool_find(w->pool, 0, 0));
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS - 1);
	assert_true(fake_slab_memory_step(w->memory, 0));
	assert_int_equal(s->state, POOL_SLAB_FREE);
	assert_true(fake_slab_memory_is_zero(w->memory, s->slot));
}

static void
reclaim__zeroing_comes_before_filling(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	advance(w, 1);
	assert_true(fake_slab_memory_step(w->memory, 0));
	s = pool_take(w->pool, NULL, 0, 0, 1);
	assert_non_null(s);
	pool_reclaim(w->pool, s);
	assert_int_equal(s->state, POOL_SLAB_DIRTY);
	assert_true(fake_slab_memory_step(w->memory, 0));
	assert_int_equal(s->state, POOL_SLAB_ZEROING);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
}

static void
zero__failed_loses_the_slab(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	fill(w);
	s = pool_take(w->pool, NULL, 0, 0, 1);
	pool_reclaim(w->pool, s);
	assert_true(fake_slab_memory_step(w->memory, -EIO));
	assert_int_equal(s->state, POOL_SLAB_LOST);
	assert_int_equal(w->failed_request, SLAB_MEMORY_ZERO);
	for (uint32_t i = 0; i < SLOTS - 1; i++)
		assert_ptr_not_equal(pool_take(w->pool, NULL, 1, i, 1), s);
	assert_null(pool_take(w->pool, NULL, 1, SLOTS, 1));
}

/* Memory that cannot be lent again was given back, and none came instead: as a FILL that failed. */
static void
zero__without_memory_empties_the_slot(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	fill(w);
	s = pool_take(w->pool, NULL, 0, 0, 1);
	pool_reclaim(w->pool, s);
	assert_true(fake_slab_memory_step(w->memory, -ENOMEM));
	assert_int_equal(s->state, POOL_SLAB_EMPTY);
	assert_int_equal(w->failed, 1);
	assert_int_equal(w->failed_request, SLAB_MEMORY_FILL);
	advance(w, 1000);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0);
	advance(w, w->next_ns);
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_FILL), 1);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
}

/* Slabs of nobody go, those to be zeroed first; what is lent stays and counts as beyond the target. */
static void
target__lower(void **state)
{
	struct world *w = *state;
	struct pool_slab *lent[3];

	fill(w);
	for (uint32_t i = 0; i < 3; i++) {
		lent[i] = pool_take(w->pool, NULL, 0, i, 1);
		pool_granted(w->pool, lent[i]);
	}
	pool_set_target(w->pool, 1);
	assert_int_equal(pool_held(w->pool), SLOTS);
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_DROP), 2);
	assert_int_equal(pool_excess(w->pool), SLOTS - 1 - 2);
	/* The third is free still, but on its way out. */
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), 1);
	assert_int_equal(pool_ready(w->pool), 0);
	assert_null(pool_take(w->pool, NULL, 1, 0, 1));
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_EMPTY), 3);
	assert_int_equal(pool_excess(w->pool), 2);
	pool_reclaim(w->pool, lent[0]);
	assert_int_equal(lent[0]->state, POOL_SLAB_DROPPING);
	pool_reclaim(w->pool, lent[1]);
	assert_int_equal(lent[1]->state, POOL_SLAB_DROPPING);
	assert_int_equal(pool_excess(w->pool), 0);
	/* That one may stay, zeroed. */
	pool_reclaim(w->pool, lent[2]);
	fake_slab_memory_run(w->memory);
	assert_int_equal(lent[2]->state, POOL_SLAB_FREE);
	assert_int_equal(pool_ready(w->pool), 1);
	assert_int_equal(pool_held(w->pool), 1);
}

static void
target__higher(void **state)
{
	struct world *w = *state;

	pool_set_target(w->pool, 2);
	assert_int_equal(fake_slab_memory_pending(w->memory), 0); /* not before the first turn */
	advance(w, 1);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), 2);
	assert_int_equal(w->ready, 1);
	pool_set_target(w->pool, 5);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), 5);
	pool_set_target(w->pool, SLOTS);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_FREE), SLOTS);
	assert_int_equal(w->ready, 1);
}

/* A slab that is being filled when the target falls is dropped when that is done. */
static void
target__lower_while_filling(void **state)
{
	struct world *w = *state;

	advance(w, 1);
	pool_set_target(w->pool, 0);
	assert_int_equal(pool_excess(w->pool), 2);
	fake_slab_memory_run(w->memory);
	assert_int_equal(pool_count(w->pool, POOL_SLAB_EMPTY), SLOTS);
}

static void
stop__drops_everything(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	fill(w);
	s = pool_take(w->pool, NULL, 0, 0, 1);
	pool_granted(w->pool, s);
	pool_stop(w->pool);
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_DROP),
			 POOL_REQUESTS_MAX);
	assert_null(pool_take(w->pool, NULL, 3, 3, 1));
	fake_slab_memory_run(w->memory);
	assert_false(pool_is_stopped(w->pool));
	pool_reclaim(w->pool, s);
	assert_int_equal(s->state, POOL_SLAB_DROPPING);
	fake_slab_memory_run(w->memory);
	assert_true(pool_is_stopped(w->pool));
	assert_int_equal(pool_count(w->pool, POOL_SLAB_EMPTY), SLOTS);
}

static void
stop__while_filling_and_zeroing(void **state)
{
	struct world *w = *state;
	struct pool_slab *s;

	advance(w, 1);
	assert_true(fake_slab_memory_step(w->memory, 0));
	s = pool_take(w->pool, NULL, 0, 0, 1);
	pool_reclaim(w->pool, s);
	assert_true(fake_slab_memory_step(w->memory, 0));
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_ZERO), 1);
	assert_int_equal(fake_slab_memory_pending_of(w->memory, SLAB_MEMORY_FILL), 1);
	pool_stop(w->pool);
	assert_false(pool_is_stopped(w->pool));
	fake_slab_memory_run(w->memory);
	assert_true(pool_is_stopped(w->pool));
	assert_int_equal(w->ready, 0);
}

static void
stop__lost_memory_does_not_hold_it_up(void **state)
{
	struct world *w = *state;

	fill(w);
	pool_stop(w->pool);
	assert_true(fake_slab_memory_step(w->memory, -EBUSY));
	assert_int_equal(w->failed_request, SLAB_MEMORY_DROP);
	fake_slab_memory_run(w->memory);
	assert_true(pool_is_stopped(w->pool));
	assert_int_equal(pool_count(w->pool, POOL_SLAB_LOST), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(advance__fills_a_few_at_a_time),
		TEST(fill__failed_is_retried_later),
		TEST(take__until_none_is_left),
		TEST(reclaim__zeroes_before_free),
		TEST(reclaim__zeroing_comes_before_filling),
		TEST(zero__failed_loses_the_slab),
		TEST(zero__without_memory_empties_the_slot),
		TEST(target__lower),
		TEST(target__higher),
		TEST(target__lower_while_filling),
		TEST(stop__drops_everything),
		TEST(stop__while_filling_and_zeroing),
		TEST(stop__lost_memory_does_not_hold_it_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
