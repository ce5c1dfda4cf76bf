/* SPDX-License-Identifier: MIT */
#include "sim/device_host.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/bump.h"
#include "sim/cluster.h"
#include "sim/guard.h"
#include "sim/pattern.h"
#include "sim/world.h"

#define PENDING_MAX 256u
#define WAITING_ROOM (sizeof(((struct sim_device_host *)NULL)->waiting) / sizeof(uint16_t))

static struct sim_device_host *
of(struct sim_host *h)
{
	return container_of(h, struct sim_device_host, host);
}

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	sim_entropy(((struct sim_device_host *)arg)->host.sim, buf, length_bytes);
}

static void
event_cb(void *arg, enum slab_event_level level, const char *text)
{
	struct sim_device_host *dh = arg;

	(void)level;
	if (dh->host.sim->trace.is_printed)
		printf("            device %u: %s\n", dh->index, text);
}

/* --- requests --- */

static void
request_put(struct sim_request *r)
{
	struct sim_device_host *dh = r->device;

	sim_clock_cancel(&dh->host.sim->clock, &r->put_ev);
	backend_put(dh->be, r->io);
	list_del(&r->node);
	free(r);
	sim_host_touch(&dh->host);
}

static void
put_cb(struct sim_event *ev)
{
	struct sim_request *r = container_of(ev, struct sim_request, put_ev);
	struct sim_device_host *dh = r->device;

	guard_enter();
	request_put(r);
	guard_leave();
	sim_host_touch(&dh->host);
}

static void
done_cb(struct backend_io *io, int status)
{
	struct sim_request *r = io->arg;
	struct sim *sim = r->device->host.sim;
	const unsigned depth = guard_suspend();

	assert(!r->is_done);
	r->is_done = true;
	r->status = status;
	r->device->n_pending--;
	SIM_TRACE(sim, "device %u: answer %u: %d", NULL, r->device->index, r->number, status);
	oracle_answered(r);
	if (rng_percent(&sim->rng, 85))
		request_put(r);
	else
		sim_clock_at(&sim->clock, &r->put_ev,
			     sim_now(sim) + rng_between(&sim->rng, 0, 20 * sim->plan.net_ns));
	guard_resume(depth);
}

static enum backend_kind
kind_of(const struct plan_op *o)
{
	static const enum backend_kind kinds[] = {
		[OP_READ] = BACKEND_READ, [OP_WRITE] = BACKEND_WRITE, [OP_FLUSH] = BACKEND_FLUSH,
		[OP_TRIM] = BACKEND_TRIM, [OP_ZERO] = BACKEND_ZERO,
	};

	return kinds[o->kind];
}

/* A read that is answered with what was there shows, whatever page it is. */
static void
spoil(uint8_t *bytes, uint32_t length_bytes)
{
	for (uint32_t at = 0; at < length_bytes; at += 512)
		memset(bytes + at, 0xdb, length_bytes - at < 64 ? length_bytes - at : 64);
}

struct sim_request *
sim_device_request(struct sim_device_host *dh, const struct plan_op *o)
{
	struct sim *sim = dh->host.sim;
	struct backend_io *io = backend_get(dh->be, kind_of(o), o->offset_bytes, o->length_bytes);
	struct sim_request *r;

	if (!io)
		return NULL;
	r = guard_alloc(sizeof(*r));
	r->put_ev.fire = put_cb;
	r->device = dh;
	r->io = io;
	r->number = ++sim->n_requests;
	io->flags = o->flags;
	io->done = done_cb;
	io->arg = r;
	if (o->kind == OP_READ || o->kind == OP_WRITE)
		oracle_buffer_got(dh, io->data, io->length_bytes);
	if (o->kind == OP_READ)
		spoil(io->data, io->length_bytes);
	if (o->kind == OP_WRITE) {
		r->version = r->number;
		pattern_fill(io->data, r->version, o->offset_bytes, o->length_bytes);
	}
	list_add_tail(&dh->requests, &r->node);
	dh->n_pending++;
	SIM_TRACE(sim, "%s on device %u: request %u at page %u, %u bytes, flags %u",
		  op_name(o->kind), dh->index, r->number, o->offset_bytes / PAGE_BYTES,
		  o->length_bytes, o->flags);
	oracle_submitted(r);
	guard_enter();
	backend_submit(dh->be, io);
	guard_leave();
	sim_host_touch(&dh->host);
	return r;
}

static bool
try_op(struct sim_device_host *dh, uint32_t op)
{
	const struct plan_op *o = &dh->host.sim->plan.ops[op];

	if (o->kind == OP_EXTENT) {
		oracle_extent(dh, o->offset_bytes, o->length_bytes);
		return true;
	}
	if (dh->n_pending >= PENDING_MAX)
		return false;
	if (sim_device_request(dh, o))
		return true;
	dh->host.sim->counts[FAULT_BURST]++;
	dh->is_starved = true;
	return false;
}

void
sim_device_op(struct sim_device_host *dh, uint32_t op)
{
	if (!dh->host.is_up || dh->is_stopping)
		return; /* nobody there to take it */
	if (dh->n_waiting == 0 && try_op(dh, op))
		return;
	assert(dh->n_waiting < WAITING_ROOM);
	dh->waiting[(dh->waiting_head + dh->n_waiting++) % WAITING_ROOM] = (uint16_t)op;
}

static void
try_waiting(struct sim_device_host *dh)
{
	while (dh->n_waiting > 0 && try_op(dh, dh->waiting[dh->waiting_head % WAITING_ROOM])) {
		dh->waiting_head++;
		dh->n_waiting--;
	}
}

static void
resume_cb(void *arg)
{
	struct sim_device_host *dh = arg;
	const unsigned depth = guard_suspend();

	dh->host.sim->n_resumes++;
	dh->is_starved = false;
	try_waiting(dh);
	guard_resume(depth);
}

/* --- life --- */

/* What the core has counted. */
static void
see(struct sim_device_host *dh)
{
	uint64_t *sights = dh->host.sim->sights;
	struct slab_device_stats s;

	slab_device_get_stats(dh->dev, &s);
	sights[SIGHT_EVICTED] += s.evictions;
	sights[SIGHT_GIVEN_BACK] += s.slabs_given_back;
	sights[SIGHT_MOVED] += s.migrations;
	sights[SIGHT_NEW_HOME_LOST] += s.migrations_failed;
	sights[SIGHT_REFILLED] += s.pages_refilled;
	sights[SIGHT_SUSPECT] += s.suspicions;
	sights[SIGHT_HELD] += s.answers_held;
	sights[SIGHT_MERGED] += s.backup_writes_merged;
	sights[SIGHT_SPLIT] += s.backup_merges_failed;
	sights[SIGHT_SUPERSEDED] += s.backup_writes_superseded;
	sights[SIGHT_UNQUEUED] += s.backup_writes_dropped;
}

static void
core_end(struct sim_device_host *dh)
{
	struct sim_host *h = &dh->host;

	see(dh);
	slab_device_free(dh->dev);
	dh->dev = NULL;
	dh->be = NULL;
	h->is_up = false;
	sim_clock_cancel(&h->sim->clock, &h->wake_ev);
	sim_tp_free(h->tp);
	h->tp = NULL;
	dh->is_stopping = false;
	dh->is_stopped = false;
	dh->is_told_to_stop = false;
	dh->must_crash = false;
	dh->n_waiting = 0;
	dh->is_starved = false;
}

static void
start_after(struct sim_device_host *dh, uint64_t pause_ns)
{
	struct sim *sim = dh->host.sim;

	if (!sim->is_ending)
		sim_clock_at(&sim->clock, &dh->start_ev, sim_now(sim) + pause_ns);
}

void
sim_device_crash(struct sim_device_host *dh, bool is_power, uint64_t pause_ns)
{
	struct sim *sim = dh->host.sim;
	struct list *node;

	SIM_TRACE(sim, "device %u crashes, power %u", NULL, dh->index, is_power);
	dh->host.is_up = false;
	sim_net_drop_host(&sim->net, &dh->host, !is_power);
	sim_disk_crash(&dh->disk, is_power);
	while ((node = list_pop_head(&dh->requests)) != NULL) {
		struct sim_request *r = container_of(node, struct sim_request, node);

		sim_clock_cancel(&sim->clock, &r->put_ev);
		free(r);
	}
	dh->n_pending = 0;
	core_end(dh);
	oracle_crashed(dh, is_power);
	dh->crash_at_ack = false;
	start_after(dh, pause_ns);
}

static void
stopped_cb(void *arg, int status)
{
	struct sim_device_host *dh = arg;

	dh->is_stopped = true;
	dh->stop_status = status;
}

/* The core must not hold anything of ours when it is told. */
static void
stop_if_quiet(struct sim_device_host *dh)
{
	if (dh->is_stopping && !dh->is_told_to_stop && list_is_empty(&dh->requests)) {
		dh->is_told_to_stop = true;
		slab_device_stop(dh->dev, stopped_cb, dh);
	}
}

void
sim_device_stop(struct sim_device_host *dh)
{
	SIM_TRACE(dh->host.sim, "device %u is stopped", NULL, dh->index);
	dh->is_stopping = true;
	dh->is_told_to_stop = false;
	dh->n_waiting = 0;
	dh->is_starved = false;
	sim_host_touch(&dh->host);
}

static uint64_t
turn(struct sim_host *h)
{
	struct sim_device_host *dh = of(h);
	struct sim *sim = h->sim;
	uint64_t next_ns;

	stop_if_quiet(dh);
	guard_enter();
	next_ns = slab_device_advance(dh->dev, sim_now(sim));
	guard_leave();
	oracle_device_turn(dh);
	oracle_pings(dh);
	/* Requests are also taken when one of too many is answered. */
	if (!dh->is_starved) /* else resume() is what wakes it */
		try_waiting(dh);
	if (dh->must_crash) {
		sim->counts[FAULT_CRASH_AT_ACK]++;
		sim_device_crash(dh, dh->crash_is_power,
				 rng_between(&sim->rng, 0, sim->plan.op_timeout_ns));
		return UINT64_MAX;
	}
	if (dh->is_stopped) {
		const int status = dh->stop_status;

		core_end(dh);
		oracle_stopped(dh, status);
		sim_disk_settle(&dh->disk);
		start_after(dh, rng_between(&sim->rng, 0, sim->plan.op_timeout_ns));
		return UINT64_MAX;
	}
	return next_ns;
}

/* Returns their number. */
static uint32_t
portals_fill(struct sim_device_host *dh)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		if (dh->portal_mask & 1u << i)
			dh->portals[n++] = (struct slab_portal){dh->host.tp, dh->addresses[i]};
	return n;
}

void
sim_device_set_portal(struct sim_device_host *dh, uint32_t daemon, bool is_there)
{
	uint32_t n;
	int r;

	/* One that leaves already has no more time when it is removed again. */
	if (!is_there && dh->portal_mask & 1u << daemon)
		dh->removed_ns[daemon] = sim_now(dh->host.sim);
	dh->portal_mask &= ~(1u << daemon);
	dh->portal_mask |= is_there ? 1u << daemon : 0;
	dh->down_ns[daemon] = 0; /* a new portal is tried at once */
	if (!dh->dev || dh->is_told_to_stop)
		return;
	n = portals_fill(dh);
	guard_enter();
	r = slab_device_set_portals(dh->dev, dh->portals, n);
	guard_leave();
	assert(r == 0);
	(void)r;
	sim_host_touch(&dh->host);
}

static void
start_cb(struct sim_event *ev)
{
	sim_device_start(container_of(ev, struct sim_device_host, start_ev));
}

static uint64_t
now_cb(void *arg)
{
	const struct sim_device_host *dh = arg;

	return sim_now(dh->host.sim);
}

void
sim_device_init(struct sim_device_host *dh, struct sim *sim, uint32_t index)
{
	const struct plan *p = &sim->plan;
	uint8_t *arena = dh->arena;

	sim_host_init(&dh->host, sim, index, turn);
	dh->index = index;
	dh->dev = NULL;
	dh->be = NULL;
	dh->config = (struct slab_device_config){
		.size_bytes = p->n_slabs * SIM_SLAB_BYTES,
		.slab_bytes = SIM_SLAB_BYTES,
		.buffer_bytes = SLAB_BUFFER_BYTES_MIN,
		.ack = p->ack,
		.op_timeout_ns = p->op_timeout_ns,
		.connect_timeout_ns = p->connect_timeout_ns,
		.ping_ns = p->ping_ns,
		.hedge_ns = p->hedge_ns,
		.probe_ns = p->probe_ns,
		.control_timeout_ns = p->control_timeout_ns,
		.retry_ns = p->retry_ns,
		.retry_max_ns = p->retry_max_ns,
		.refill_rate = p->refill_rate,
		.migrate = p->migrate_rate > 0,
		.migrate_rate = p->migrate_rate > 0 ? p->migrate_rate : 1,
		.hot_slab = p->hot_slab,
		.alpha = 0.2,
		.period_ns = p->period_ns,
		.cold_slab = p->cold_slab,
		.cold_periods = p->cold_periods,
		.choices = p->choices,
		.query_timeout_ns = p->op_timeout_ns,
		.backup_writes = p->backup_writes,
		.backup_delay_ns = p->backup_delay_ns,
		.name = index == 0 ? "swap0" : "swap1",
		.portals = dh->portals,
		.max_portals = p->n_daemons,
		.leave_timeout_ns = 2 * p->op_timeout_ns,
		.entropy = entropy_cb,
		.now = now_cb,
		.event = event_cb,
		.arg = dh,
	};
	dh->portal_mask = (1u << p->n_daemons) - 1;
	for (uint32_t i = 0; i < p->n_faults; i++) {
		const struct plan_fault *pf = &p->faults[i];

		if (pf->kind == FAULT_PORTAL_ADDED && pf->device == index && !pf->is_dropped)
			dh->portal_mask &= ~(1u << pf->daemon);
	}
	dh->config.client_id[0] = (uint8_t)(1 + index);
	if (p->has_psk)
		sim_psk(&dh->config.psk);
	dh->arena_bytes = slab_device_arena_bytes(&dh->config);
	if (!arena)
		arena = aligned_alloc(PAGE_BYTES, SLAB_BUFFER_BYTES_MIN + 64u * PAGE_BYTES);
	assert(arena && dh->arena_bytes <= SLAB_BUFFER_BYTES_MIN + 64u * PAGE_BYTES);
	dh->arena = arena;
	dh->config.arena = arena;
	sim_disk_reset(&dh->disk, sim, &dh->host, index, dh->config.size_bytes);
	pages_reset(&dh->pages, dh->disk.n_pages);
	list_init(&dh->requests);
	dh->disk_troubled_until_ns = 0;
	dh->n_pending = 0;
	dh->n_waiting = 0;
	dh->is_starved = false;
	dh->waiting_head = 0;
	dh->start_ev = (struct sim_event){.fire = start_cb};
	dh->is_stopping = false;
	dh->is_stopped = false;
	dh->is_told_to_stop = false;
	dh->crash_at_ack = false;
	dh->must_crash = false;
	memset(dh->n_buffer_users, 0, sizeof(dh->n_buffer_users));
	memset(dh->is_buffer_written, 0, sizeof(dh->is_buffer_written));
	memset(dh->was_ponged, 0, sizeof(dh->was_ponged));
}

void
sim_device_start(struct sim_device_host *dh)
{
	struct sim *sim = dh->host.sim;
	int r;

	SIM_TRACE(sim, "device %u starts", NULL, dh->index);
	dh->host.is_up = true;
	dh->host.paused_until_ns = 0;
	dh->host.tp = sim_tp_new(&sim->net, &dh->host);
	for (uint32_t i = 0; i < sim->plan.n_daemons; i++)
		(void)snprintf(dh->addresses[i], sizeof(dh->addresses[i]), "%u",
			       SIM_DEVICES_MAX + i);
	dh->config.n_portals = portals_fill(dh);
	/* The buffers need not be zeroed: a read that is answered with what was there is found. */
	memset(dh->arena, 0, dh->arena_bytes - SLAB_BUFFER_BYTES_MIN);
	r = slab_device_new(&dh->config, sim->plan.has_no_backup ? NULL : &dh->disk.backup,
			    &dh->dev);
	assert(r == 0);
	(void)r;
	dh->be = slab_device_backend(dh->dev);
	backend_set_resume(dh->be, resume_cb, dh);
	oracle_device_started(dh);
	sim_host_touch(&dh->host);
}

void
sim_device_end(struct sim_device_host *dh)
{
	assert(list_is_empty(&dh->requests) && !dh->dev);
	sim_clock_cancel(&dh->host.sim->clock, &dh->start_ev);
	sim_disk_end(&dh->disk);
}
