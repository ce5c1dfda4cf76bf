/* SPDX-License-Identifier: MIT */
#include "sim/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/page.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/world.h"

static void
clear(struct sim_memory_slot *s)
{
	for (uint32_t i = 0; i < SIM_SLAB_PAGES / 64; i++) {
		for (; s->dirty[i] != 0; s->dirty[i] &= s->dirty[i] - 1) {
			const uint32_t page = i * 64 + (uint32_t)__builtin_ctzll(s->dirty[i]);

			memset(s->bytes + (size_t)page * PAGE_BYTES, 0, PAGE_BYTES);
		}
	}
}

bool
sim_memory_is_zero(const struct sim_memory_slot *slot)
{
	uint64_t any = 0;

	for (uint32_t i = 0; i < SIM_SLAB_PAGES / 64; i++)
		any |= slot->dirty[i];
	return any == 0;
}

void
sim_memory_written(struct sim_memory_slot *slot, uint64_t at, uint64_t length_bytes)
{
	for (uint64_t page = at / PAGE_BYTES; page <= (at + length_bytes - 1) / PAGE_BYTES; page++)
		slot->dirty[page / 64] |= UINT64_C(1) << page % 64;
}

static int
carry_out(struct sim_memory_slot *s)
{
	struct sim_memory *m = s->m;
	struct sim *sim = m->host->sim;

	switch (s->request) {
	case SLAB_MEMORY_FILL:
		if (m->fail_fills_ns > sim_now(sim)) {
			sim->counts[FAULT_FILL_FAILS]++;
			return -ENOMEM;
		}
		clear(s);
		return tp_region_register(m->host->tp, s->bytes, SIM_SLAB_BYTES, TP_LEND,
					  &s->region);
	case SLAB_MEMORY_ZERO:
		if (m->fail_zeros > 0) {
			m->fail_zeros--;
			s->is_lost = true;
			sim->counts[FAULT_ZERO_FAILS]++;
			return -EIO;
		}
		clear(s);
		return 0;
	case SLAB_MEMORY_DROP:
		if (tp_region_release(s->region) < 0)
			sim_fail(DAEMON_2, "a slab was dropped that a client can reach");
		s->region = NULL;
		return 0;
	}
	return -EINVAL;
}

static void
finish(struct sim_memory_slot *s)
{
	struct sim_memory *m = s->m;
	struct sim_region *rg;
	int status = carry_out(s);

	s->is_busy = false;
	m->n_busy--;
	if (s->request == SLAB_MEMORY_FILL && status == 0) {
		rg = (struct sim_region *)(void *)s->region;
		rg->slot = s;
	}
	guard_enter();
	m->done(m->arg, s->request, (uint32_t)(s - m->slots), status);
	guard_leave();
}

static void
slot_cb(struct sim_event *ev)
{
	struct sim_memory_slot *s = container_of(ev, struct sim_memory_slot, ev);
	struct sim_host *h = s->m->host;

	if (sim_host_is_late(h, ev))
		return;
	finish(s);
	sim_host_touch(h);
}

static void
start_cb(struct slab_memory *memory, enum slab_memory_request request, uint32_t slot)
{
	struct sim_memory *m = container_of(memory, struct sim_memory, memory);
	struct sim_memory_slot *s = &m->slots[slot];
	struct sim *sim = m->host->sim;

	assert(slot < m->n_slots && !s->is_busy && !s->is_lost);
	assert((request == SLAB_MEMORY_FILL) == (s->region == NULL));
	if (s->region && ((struct sim_region *)(void *)s->region)->n_grants > 0)
		sim_fail(DAEMON_2, "slab %u is taken back while a client can reach it", slot);
	if (m->n_busy >= 2)
		sim_fail(DAEMON_4, "more than two memory requests at once");
	s->request = request;
	s->is_busy = true;
	m->n_busy++;
	sim_clock_at(&sim->clock, &s->ev,
		     sim_now(sim) + rng_between(&sim->rng, 1000, 40 * sim->plan.net_ns));
}

static struct tp_region *
region_cb(struct slab_memory *memory, uint32_t slot, struct tp *tp)
{
	struct sim_memory *m = container_of(memory, struct sim_memory, memory);

	assert(slot < m->n_slots && m->host->tp == tp);
	return m->slots[slot].region;
}

static void
set_done_cb(struct slab_memory *memory, slab_memory_done_fn *done, void *arg)
{
	struct sim_memory *m = container_of(memory, struct sim_memory, memory);

	m->done = done;
	m->arg = arg;
}

static const struct slab_memory_ops sim_memory_ops = {
	.start = start_cb,
	.region = region_cb,
	.set_done = set_done_cb,
};

void
sim_memory_reset(struct sim_memory *m, struct sim_host *host, uint32_t n_slots)
{
	m->memory.ops = &sim_memory_ops;
	m->host = host;
	m->n_slots = n_slots;
	m->n_busy = 0;
	m->done = NULL;
	m->fail_fills_ns = 0;
	m->fail_zeros = 0;
	for (uint32_t i = 0; i < n_slots; i++) {
		struct sim_memory_slot *s = &m->slots[i];

		s->m = m;
		s->ev = (struct sim_event){.fire = slot_cb};
		s->region = NULL;
		s->is_busy = false;
		s->is_lost = false;
		if (!s->bytes)
			s->bytes = guard_alloc(SIM_SLAB_BYTES);
	}
}

void
sim_memory_finish(struct sim_memory *m)
{
	for (uint32_t i = 0; i < m->n_slots; i++) {
		struct sim_memory_slot *s = &m->slots[i];

		if (!s->is_busy)
			continue;
		sim_clock_cancel(&m->host->sim->clock, &s->ev);
		finish(s);
		i = UINT32_MAX; /* it may have started another */
	}
}

void
sim_memory_drop_all(struct sim_memory *m)
{
	assert(m->n_busy == 0);
	for (uint32_t i = 0; i < m->n_slots; i++) {
		if (m->slots[i].region && tp_region_release(m->slots[i].region) < 0)
			sim_fail(DAEMON_2, "a slab of a daemon that ended can still be reached");
		m->slots[i].region = NULL;
		m->slots[i].is_lost = false;
	}
}
