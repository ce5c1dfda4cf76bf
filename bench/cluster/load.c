/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "common/page.h"
#include "sim/guard.h"
#include "world.h"

/* Also the period of the daemon's monitor. */
#define TICK_NS NSEC_PER_SEC
/* Pieces of a slab that wait for buffers at most. */
#define DUE_MAX 4.0F
/* From the start of a container until it has touched its working set. */
#define RAMP_S 60.0
#define LIFE_MIN_S 300u
#define LIFE_MAX_S 900u
#define WORKING_SET_MIN_GIB 6.0
#define WORKING_SET_MAX_GIB 15.0
/* The scheduler does not promise more than this of a machine. */
#define PROMISED_GIB_MAX 62.0
/* Linux keeps the swap slots of pages that were read back, until they are written: of the
 * pages that a container has in memory so many have a slot too. */
#define SLOTS_KEPT 0.5
#define PLACES_TRIED 200u
#define SLAB_BLOCKS (GIB_BYTES / BLOCK_BYTES)

static double
uniform(struct world *w, double low, double high)
{
	return low + (high - low) * (double)(rng_next(&w->load.rng) >> 11) * 0x1p-53;
}

static double
seconds_between(uint64_t from_ns, uint64_t to_ns)
{
	return (double)(to_ns - from_ns) * 1e-9;
}

static double
swap_gib_max(const struct container *c)
{
	if (c->share >= 1)
		return 0;
	return c->working_set_gib * (1 - c->share + SLOTS_KEPT * c->share);
}

/* What it has touched, of its working set. */
static double
touched_gib(const struct container *c, uint64_t now_ns)
{
	const double ramp = seconds_between(c->start_ns, now_ns) / RAMP_S;

	return c->working_set_gib * (ramp < 1 ? ramp : 1);
}

static uint32_t
slabs_in_use(const struct container *c, uint64_t now_ns)
{
	const double limit = c->share * c->working_set_gib;
	const double over = touched_gib(c, now_ns) - limit;
	const uint32_t n =
		c->n_slabs == 0 || over <= 0
			? 0
			: (uint32_t)ceil(over / (c->working_set_gib - limit) * swap_gib_max(c));

	return n < c->n_slabs ? n : c->n_slabs;
}

/* --- page I/O --- */

static void
io_done_cb(struct backend_io *io, int status)
{
	struct machine *m = io->arg;

	assert(status == 0);
	(void)status;
	backend_put(m->be, io);
}

static void
trim_done_cb(struct backend_io *io, int status)
{
	struct machine *m = io->arg;

	assert(status == 0);
	(void)status;
	m->slabs_used &= ~(UINT64_C(1) << io->offset_bytes / GIB_BYTES);
	backend_put(m->be, io);
}

static void
trims_submit(struct machine *m)
{
	while (m->slabs_to_trim != 0) {
		const uint32_t slab = (uint32_t)__builtin_ctzll(m->slabs_to_trim);

		if (!machine_io(m, BACKEND_TRIM, slab * GIB_BYTES, GIB_BYTES, trim_done_cb))
			return;
		m->slabs_to_trim &= ~(UINT64_C(1) << slab);
	}
}

static bool
page_io(struct machine *m, struct swap_slab *s)
{
	struct world *w = m->world;
	const bool is_new = s->n_written < SLAB_BLOCKS;
	/* In turn: a read of a block that is being written would copy pages. */
	const uint64_t block = s->next_block % SLAB_BLOCKS;
	const enum backend_kind kind =
		is_new || rng_percent(&w->rng, 50) ? BACKEND_WRITE : BACKEND_READ;

	if (!machine_io(m, kind, s->slab * GIB_BYTES + block * BLOCK_BYTES, BLOCK_BYTES,
			io_done_cb))
		return false;
	s->n_written += is_new;
	s->next_block++;
	return true;
}

static void
container_page(struct container *c, uint64_t now_ns)
{
	const uint32_t n = slabs_in_use(c, now_ns);
	struct load *l = &c->world->load;

	for (uint32_t i = 0; i < n; i++) {
		struct swap_slab *s = &c->slabs[i];

		s->due += s->pieces_per_second;
		while (s->due >= 1 && page_io(c->machine, s)) {
			s->due--;
			l->n_pieces++;
		}
		l->n_starved += s->due >= 1;
		s->due = s->due < DUE_MAX ? s->due : DUE_MAX;
	}
}

/* --- lives --- */

static bool
has_room(const struct machine *m, const struct container *c)
{
	const uint32_t n_free = DEVICE_SLABS - (uint32_t)__builtin_popcountll(m->slabs_used);

	return m->reserved_gib + c->share * c->working_set_gib <= PROMISED_GIB_MAX &&
	       c->n_slabs <= n_free;
}

static struct machine *
machine_with_room(struct world *w, const struct container *c)
{
	for (uint32_t i = 0; i < PLACES_TRIED; i++) {
		struct machine *m = &w->machines[rng_below(&w->load.rng, w->opt.n_machines)];

		if (has_room(m, c))
			return m;
	}
	return NULL;
}

static void
slabs_take(struct container *c)
{
	struct world *w = c->world;
	struct machine *m = c->machine;

	for (uint32_t i = 0; i < c->n_slabs; i++) {
		const uint32_t slab = (uint32_t)__builtin_ctzll(~m->slabs_used);

		assert(slab < DEVICE_SLABS);
		m->slabs_used |= UINT64_C(1) << slab;
		/* Few are colder than HotSlab (20 pages a second); a piece is 32 pages. */
		c->slabs[i] = (struct swap_slab){
			.slab = (uint8_t)slab,
			.pieces_per_second = 0.55F - 0.45F * (float)log(1 - uniform(w, 0, 1)),
			.due = (float)uniform(w, 0, 1),
		};
	}
}

static void
container_start(struct container *c, double life_s)
{
	struct world *w = c->world;
	const uint64_t now_ns = w->clock.now_ns;

	c->working_set_gib = uniform(w, WORKING_SET_MIN_GIB, WORKING_SET_MAX_GIB);
	c->n_slabs = (uint32_t)ceil(swap_gib_max(c));
	assert(c->n_slabs <= CONTAINER_SLABS_MAX);
	c->machine = machine_with_room(w, c);
	if (!c->machine) {
		w->load.n_unplaced++;
		sim_clock_at(&w->clock, &c->start_ev, now_ns + 5 * NSEC_PER_SEC);
		return;
	}
	w->load.n_started++;
	c->start_ns = now_ns;
	c->end_ns = now_ns + (uint64_t)(life_s * 1e9);
	c->machine->reserved_gib += c->share * c->working_set_gib;
	list_add_tail(&c->machine->containers, &c->node);
	slabs_take(c);
}

static void
start_cb(struct sim_event *ev)
{
	struct container *c = container_of(ev, struct container, start_ev);

	container_start(c, uniform(c->world, LIFE_MIN_S, LIFE_MAX_S));
}

/* The first ones began before this run did. */
static void
first_start_cb(struct sim_event *ev)
{
	struct container *c = container_of(ev, struct container, start_ev);
	const double life_s = uniform(c->world, LIFE_MIN_S, LIFE_MAX_S);

	ev->fire = start_cb;
	container_start(c, RAMP_S + uniform(c->world, 0, life_s));
}

static void
container_end(struct container *c)
{
	struct machine *m = c->machine;

	for (uint32_t i = 0; i < c->n_slabs; i++)
		m->slabs_to_trim |= UINT64_C(1) << c->slabs[i].slab;
	m->reserved_gib -= c->share * c->working_set_gib;
	list_del(&c->node);
	sim_clock_at(&c->world->clock, &c->start_ev, c->world->clock.now_ns);
}

static void
tick_cb(struct sim_event *ev)
{
	struct machine *m = container_of(ev, struct machine, tick_ev);
	struct sim_clock *clock = &m->world->clock;
	double used = MACHINE_SYSTEM_GIB;
	struct list *pos, *tmp;

	list_foreach_safe (pos, tmp, &m->containers) {
		struct container *c = container_of(pos, struct container, node);
		const double limit = c->share * c->working_set_gib;
		const double touched = touched_gib(c, clock->now_ns);

		if (clock->now_ns >= c->end_ns) {
			container_end(c);
			continue;
		}
		used += touched < limit ? touched : limit;
		container_page(c, clock->now_ns);
	}
	trims_submit(m);
	m->used_gib = used;
	machine_tell_memory(m);
	sim_clock_at(clock, ev, clock->now_ns + TICK_NS);
}

void
load_init(struct world *w)
{
	const uint32_t n = w->opt.n_containers;

	w->load.rng = rng_of(w->opt.seed, 1);
	w->load.containers = guard_alloc(n * sizeof(*w->load.containers));
	for (uint32_t i = 0; i < w->opt.n_machines; i++) {
		struct machine *m = &w->machines[i];

		m->used_gib = MACHINE_SYSTEM_GIB;
		m->reserved_gib = MACHINE_SYSTEM_GIB;
		m->tick_ev.fire = tick_cb;
		sim_clock_at(&w->clock, &m->tick_ev,
			     w->clock.now_ns + rng_between(&w->load.rng, 0, TICK_NS));
	}
	for (uint32_t i = 0; i < n; i++) {
		struct container *c = &w->load.containers[i];
		const uint32_t tenth = i % 10;

		c->world = w;
		c->share = tenth < 5 ? 1 : tenth < 8 ? 0.75 : 0.5;
		list_init(&c->node);
		c->start_ev.fire = first_start_cb;
		sim_clock_at(&w->clock, &c->start_ev,
			     w->clock.now_ns + rng_between(&w->load.rng, 0, 30 * NSEC_PER_SEC));
	}
}
