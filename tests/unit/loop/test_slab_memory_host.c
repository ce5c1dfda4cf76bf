/* SPDX-License-Identifier: MIT */
/* Real memory on the real helper thread, under transports that only note what they are given. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "daemon/slab_memory.h"
#include "loop/slab_memory_host.h"
#include "loop/worker.h"
#include "transport/transport.h"

#define SLAB_BYTES (UINT64_C(4) << 20)
#define SLOTS 3u
#define TPS 2u
#define ALL ((1u << SLOTS) - 1)

struct spy_tp {
	struct tp tp;
	unsigned regions;
	int refuse_register;
	int refuse_release;
	/* of a lender */
	unsigned memories;
	bool refuse_memory;
	bool is_spent;
	uint64_t held_bytes;
};

struct spy_region {
	struct tp_base base;
	uint8_t *bytes;
};

struct world {
	struct ev_loop *loop;
	struct worker *worker;
	struct spy_tp tps[TPS + 1]; /* the memory is not told of the last one */
	struct slab_memory *memory;
	unsigned waiting;
	int status[SLOTS];
};

static int
spy_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
	     struct tp_region **ret_region)
{
	struct spy_tp *spy = container_of(tp, struct spy_tp, tp);
	struct spy_region *rg;

	if (!lend || length_bytes != SLAB_BYTES || spy->refuse_register)
		return spy->refuse_register ? spy->refuse_register : -EINVAL;
	rg = calloc(1, sizeof(*rg));
	if (!rg)
		return -ENOMEM;
	rg->base.tp = tp;
	rg->bytes = base;
	spy->regions++;
	*ret_region = (struct tp_region *)(void *)rg;
	return 0;
}

static int
spy_release(struct tp_region *region)
{
	struct spy_tp *spy = container_of(tp_of(region), struct spy_tp, tp);

	if (spy->refuse_release)
		return spy->refuse_release;
	spy->regions--;
	free(region);
	return 0;
}

static const struct tp_ops SPY_OPS = {
	.name = "spy",
	.region_register = spy_register,
	.region_release = spy_release,
};

/* A transport that lends only memory of its own, once. */
static int
lender_memory_new(struct tp *tp, size_t length_bytes, bool huge, void **ret_base)
{
	struct spy_tp *spy = container_of(tp, struct spy_tp, tp);
	void *p = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	(void)huge;
	if (spy->refuse_memory || p == MAP_FAILED)
		return -EMFILE;
	spy->memories++;
	*ret_base = p;
	return 0;
}

static void
lender_memory_free(struct tp *tp, void *base)
{
	container_of(tp, struct spy_tp, tp)->memories--;
	assert_int_equal(munmap(base, SLAB_BYTES), 0);
}

static bool
lender_region_is_spent(const struct tp_region *region)
{
	return container_of(tp_of(region), struct spy_tp, tp)->is_spent;
}

static uint64_t
lender_memory_held(struct tp *tp)
{
	return container_of(tp, struct spy_tp, tp)->held_bytes;
}

static const struct tp_ops LENDER_OPS = {
	.name = "lender",
	.region_register = spy_register,
	.region_release = spy_release,
	.memory_new = lender_memory_new,
	.memory_free = lender_memory_free,
	.region_is_spent = lender_region_is_spent,
	.memory_held = lender_memory_held,
};

static void
done_cb(void *arg, enum slab_memory_request request, uint32_t slot, int status)
{
	struct world *w = arg;

	assert_in_range(request, SLAB_MEMORY_FILL, SLAB_MEMORY_DROP);
	w->status[slot] = status;
	if (--w->waiting == 0)
		ev_break(w->loop, EVBREAK_ALL);
}

static int
set_up_with(void **state, const struct tp_ops *second)
{
	static struct world w;
	struct tp *tps[TPS];

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO)};
	for (unsigned i = 0; i <= TPS; i++)
		w.tps[i].tp.ops = i == 1 ? second : &SPY_OPS;
	for (unsigned i = 0; i < TPS; i++)
		tps[i] = &w.tps[i].tp;
	assert_int_equal(worker_new(w.loop, &w.worker), 0);
	assert_int_equal(slab_memory_host_new(w.worker, SLAB_BYTES, SLOTS, tps, TPS, &w.memory), 0);
	w.memory->ops->set_done(w.memory, done_cb, &w);
	*state = &w;
	return 0;
}

static int
set_up(void **state)
{
	return set_up_with(state, &SPY_OPS);
}

static int
set_up_lender(void **state)
{
	return set_up_with(state, &LENDER_OPS);
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	w->memory = slab_memory_host_free(w->memory);
	w->worker = worker_free(w->worker);
	ev_loop_destroy(w->loop);
	return 0;
}

/* The request for each slot of @slots (bits), all at once. */
static void
request(struct world *w, enum slab_memory_request kind, unsigned slots, int expected)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots & (1u << i)) {
			w->waiting++;
			w->status[i] = 1;
			w->memory->ops->start(w->memory, kind, i);
		}
	}
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->waiting, 0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots & (1u << i))
			assert_int_equal(w->status[i], expected);
	}
}

static uint8_t *
bytes_of(struct world *w, uint32_t slot, unsigned tp)
{
	struct tp_region *rg = w->memory->ops->region(w->memory, slot, &w->tps[tp].tp);

	assert_non_null(rg);
	assert_ptr_equal(tp_of(rg), &w->tps[tp].tp);
	return ((struct spy_region *)(void *)rg)->bytes;
}

static void
assert_zero(const uint8_t *bytes)
{
	for (uint64_t i = 0; i < SLAB_BYTES; i++) {
		if (bytes[i] != 0)
			fail_msg("byte %llu is %u", (unsigned long long)i, bytes[i]);
	}
}

static void
fill__zeroed_and_registered_with_each_transport(void **state)
{
	struct world *w = *state;

	request(w, SLAB_MEMORY_FILL, ALL, 0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		uint8_t *bytes = bytes_of(w, i, 0);

		assert_ptr_equal(bytes_of(w, i, 1), bytes);
		assert_int_equal((uintptr_t)bytes % (2u << 20), 0);
		assert_null(w->memory->ops->region(w->memory, i, &w->tps[TPS].tp));
		assert_zero(bytes);
	}
	request(w, SLAB_MEMORY_DROP, ALL, 0);
	assert_int_equal(w->tps[0].regions + w->tps[1].regions, 0);
}

static void
fill__every_page_is_there(void **state)
{
	struct world *w = *state;
	unsigned char resident[SLAB_BYTES / 4096];

	request(w, SLAB_MEMORY_FILL, 1, 0);
	assert_int_equal(mincore(bytes_of(w, 0, 0), SLAB_BYTES, resident), 0);
	for (size_t i = 0; i < sizeof(resident); i++)
		assert_true(resident[i] & 1);
	request(w, SLAB_MEMORY_DROP, 1, 0);
}

static void
zero__clears_every_byte(void **state)
{
	struct world *w = *state;

	request(w, SLAB_MEMORY_FILL, 3, 0);
	memset(bytes_of(w, 0, 0), 0xa5, SLAB_BYTES);
	memset(bytes_of(w, 1, 0), 0x5a, SLAB_BYTES);
	request(w, SLAB_MEMORY_ZERO, 1, 0);
	assert_zero(bytes_of(w, 0, 0));
	assert_int_equal(bytes_of(w, 1, 0)[SLAB_BYTES - 1], 0x5a);
	request(w, SLAB_MEMORY_DROP, 3, 0);
	/* What another process or slot gets next is zero as well. */
	request(w, SLAB_MEMORY_FILL, ALL, 0);
	assert_zero(bytes_of(w, 1, 0));
	request(w, SLAB_MEMORY_DROP, ALL, 0);
}

static void
fill__refused_registration_leaves_the_slot_empty(void **state)
{
	struct world *w = *state;

	w->tps[1].refuse_register = -ENOMEM;
	request(w, SLAB_MEMORY_FILL, 1, -ENOMEM);
	assert_int_equal(w->tps[0].regions, 0);
	w->tps[1].refuse_register = 0;
	request(w, SLAB_MEMORY_FILL, 1, 0);
	request(w, SLAB_MEMORY_DROP, 1, 0);
}

static void
drop__refused_keeps_the_memory(void **state)
{
	struct world *w = *state;
	struct spy_region *rg;
	uint8_t *bytes;

	request(w, SLAB_MEMORY_FILL, 1, 0);
	bytes = bytes_of(w, 0, 1);
	rg = (struct spy_region *)(void *)w->memory->ops->region(w->memory, 0, &w->tps[1].tp);
	w->tps[1].refuse_release = -EBUSY;
	request(w, SLAB_MEMORY_DROP, 1, -EBUSY);
	/* A device could still write: it must not hit somebody else's memory. */
	bytes[SLAB_BYTES - 1] = 1;
	assert_int_equal(bytes[SLAB_BYTES - 1], 1);
	free(rg);
	assert_int_equal(munmap(bytes, SLAB_BYTES), 0);
}

static void
new__more_than_the_address_space(void **state)
{
	struct world *w = *state;
	struct slab_memory *m;
	struct tp *tp = &w->tps[0].tp;

	assert_int_equal(slab_memory_host_new(w->worker, UINT64_C(1) << 50, 1, &tp, 1, &m), 0);
	m->ops->set_done(m, done_cb, w);
	w->waiting = 1;
	m->ops->start(m, SLAB_MEMORY_FILL, 0);
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->status[0], -ENOMEM);
	assert_null(slab_memory_host_free(m));
	assert_null(slab_memory_host_free(NULL));
}

/* What was lent once is given back, and other memory takes its place; what was not is zeroed. */
static void
zero__replaces_what_is_spent(void **state)
{
	struct world *w = *state;
	uint8_t *before;

	request(w, SLAB_MEMORY_FILL, ALL, 0);
	assert_int_equal(w->tps[1].memories, SLOTS);
	before = bytes_of(w, 0, 1);
	assert_ptr_equal(bytes_of(w, 0, 0), before); /* the others lend the same */
	memset(before, 0xa5, SLAB_BYTES);
	request(w, SLAB_MEMORY_ZERO, 1, 0);
	assert_ptr_equal(bytes_of(w, 0, 1), before);
	assert_zero(before);
	memset(before, 0xa5, SLAB_BYTES);
	w->tps[1].is_spent = true;
	request(w, SLAB_MEMORY_ZERO, 1, 0);
	assert_zero(bytes_of(w, 0, 1));
	assert_int_equal(w->tps[1].memories, SLOTS);
	assert_int_equal(w->tps[0].regions, SLOTS);
	/* No other memory: the slot is empty, and can be filled again. */
	w->tps[1].refuse_memory = true;
	request(w, SLAB_MEMORY_ZERO, 1, -ENOMEM);
	assert_int_equal(w->tps[1].memories, SLOTS - 1);
	assert_int_equal(w->tps[0].regions, SLOTS - 1);
	w->tps[1].refuse_memory = false;
	request(w, SLAB_MEMORY_FILL, 1, 0);
	request(w, SLAB_MEMORY_DROP, ALL, 0);
	assert_int_equal(w->tps[1].memories, 0);
}

/* Memory that clients keep counts: all together are never more than the slots. */
static void
fill__not_beyond_what_is_held(void **state)
{
	struct world *w = *state;

	w->tps[1].held_bytes = 2 * SLAB_BYTES;
	request(w, SLAB_MEMORY_FILL, 1, 0);
	request(w, SLAB_MEMORY_FILL, 2, -EBUSY);
	w->tps[1].is_spent = true;
	request(w, SLAB_MEMORY_ZERO, 1, 0);
	w->tps[1].held_bytes = 3 * SLAB_BYTES;
	request(w, SLAB_MEMORY_ZERO, 1, -ENOMEM);
	w->tps[1].held_bytes = 0;
	request(w, SLAB_MEMORY_FILL, ALL, 0);
	request(w, SLAB_MEMORY_DROP, ALL, 0);
}

#define TEST_LENDER(name) cmocka_unit_test_setup_teardown(name, set_up_lender, tear_down)
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fill__zeroed_and_registered_with_each_transport),
		TEST(fill__every_page_is_there),
		TEST(zero__clears_every_byte),
		TEST(fill__refused_registration_leaves_the_slot_empty),
		TEST(drop__refused_keeps_the_memory),
		TEST(new__more_than_the_address_space),
		TEST_LENDER(zero__replaces_what_is_spent),
		TEST_LENDER(fill__not_beyond_what_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
