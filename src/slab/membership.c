/* SPDX-License-Identifier: MIT */
/*
 * Which daemons there are.
 *
 * The device is told a set of portals; every portal of the set has a slot, and a
 * slot whose portal is not in the set any more leaves:
 *
 *   told of -> slot in use (remote.c connects) -> not told of any more: leaving ->
 *   its slabs given back one after the other (evict.h) -> session closed -> down() ->
 *   slot FREE
 *
 * Failure modes:
 *   - that takes longer than leave_timeout_ns: the session is closed with the slabs that
 *     are left, as if the daemon were lost; every page of them is on the backup or in a
 *     buffer.
 *   - not so, since the backup refuses pages that only this daemon has: it is not let go
 *     before; said then.
 *   - the daemon is lost meanwhile: nothing to wait for, the slot is free.
 *   - no slot is free: the portal waits for one that leaves.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "slab/core.h"

/* Between two looks at what a leaving daemon still has. */
#define LEAVE_LOOK_NS (10 * NSEC_PER_MSEC)
/* Slabs of one that are given back at the same time. */
#define LEAVE_SLABS_MAX 8u
/* Slabs that one such look goes through. */
#define LEAVE_SCAN_SLABS 4096u

static uint32_t
n_slots(const struct slab_device *d)
{
	return 2 * d->config.max_portals;
}

static bool
is_same(const struct tp *tp, const char *address, const struct tp *other_tp, const char *other)
{
	return tp == other_tp && strcmp(address, other) == 0;
}

static struct remote *
slot_of(struct slab_device *d, const struct member *m)
{
	for (uint32_t i = 0; i < d->n_remotes; i++) {
		struct remote *r = &d->remotes[i];

		if (r->state != REMOTE_FREE && is_same(r->tp, r->address, m->tp, m->address))
			return r;
	}
	return NULL;
}

static bool
is_member(const struct slab_device *d, const struct remote *r)
{
	for (uint32_t i = 0; i < d->n_members; i++)
		if (is_same(r->tp, r->address, d->members[i].tp, d->members[i].address))
			return true;
	return false;
}

static struct device_tp *
tp_entry(struct slab_device *d, const struct tp *tp)
{
	for (uint32_t i = 0; i < DEVICE_TPS_MAX; i++)
		if (d->tps[i].tp == tp)
			return &d->tps[i];
	return NULL;
}

static int
tp_use(struct slab_device *d, struct tp *tp)
{
	struct device_tp *entry = tp_entry(d, tp);
	int r;

	if (entry)
		return 0;
	entry = tp_entry(d, NULL);
	assert(entry);
	r = tp_region_register(tp, d->arena.buffers, (size_t)d->arena.n_buffer_pages * PAGE_BYTES,
			       TP_LEND_NOT, &entry->buffers);
	if (r == 0)
		entry->tp = tp;
	return r;
}

/* False when no slot is free now. */
static bool
join(struct slab_device *d, const struct member *m)
{
	for (uint32_t i = 0; i < n_slots(d); i++) {
		struct remote *r = &d->remotes[i];

		if (r->state != REMOTE_FREE)
			continue;
		*r = (struct remote){
			.dev = d,
			.tp = m->tp,
			.buffers = tp_entry(d, m->tp)->buffers,
			.index = i,
			.times = &d->remote_times[2 * i],
		};
		histogram_clear(&r->times[0]);
		histogram_clear(&r->times[1]);
		memcpy(r->address, m->address, sizeof(r->address));
		remote_open(r);
		if (i >= d->n_remotes)
			d->n_remotes = i + 1;
		return true;
	}
	return false;
}

static void
leave_begin(struct slab_device *d, struct remote *r)
{
	r->is_leaving = true;
	r->was_leave_reported = false;
	core_timer_arm(&r->leave_timer, d->config.leave_timeout_ns);
	core_timer_arm(&d->leave_look_timer, 0);
	d->n_leaving++;
	device_event(d, SLAB_EVENT_NOTICE, "daemon %s: removed; gives back its %u slabs",
		     r->address, r->slabs_mapped);
}

static void
leave_cancel(struct slab_device *d, struct remote *r)
{
	r->is_leaving = false;
	core_timer_stop(&r->leave_timer);
	d->n_leaving--;
	placement_hope(d);
	device_event(d, SLAB_EVENT_NOTICE, "daemon %s: added again before it had left", r->address);
}

static void
join_all(struct slab_device *d)
{
	for (uint32_t i = 0; i < d->n_members; i++) {
		struct remote *r = slot_of(d, &d->members[i]);

		if (r && r->is_leaving)
			leave_cancel(d, r);
		if (!r && !join(d, &d->members[i]))
			return;
	}
}

static void
slot_free(struct remote *r)
{
	struct slab_device *d = r->dev;

	assert(r->state == REMOTE_IDLE && r->slabs_mapped == 0 && list_is_empty(&r->ops));
	r->state = REMOTE_FREE;
	remote_queue_forget(r);
	r->is_leaving = false;
	core_timer_stop(&r->step_timer);
	d->n_leaving--;
	while (d->n_remotes > 0 && d->remotes[d->n_remotes - 1].state == REMOTE_FREE)
		d->n_remotes--;
}

void
membership_left(struct remote *r)
{
	struct slab_device *d = r->dev;

	device_event(d, SLAB_EVENT_NOTICE, "daemon %s: has left", r->address);
	slot_free(r);
	if (!d->is_stopping)
		join_all(d);
}

/* Pages that only @r has: the backup refused them. */
static bool
has_degraded(const struct slab_device *d, const struct remote *r)
{
	if (d->stats.pages_degraded == 0)
		return false;
	for (uint32_t i = 0; i < d->arena.n_slabs; i++) {
		const struct arena_slab *s = &d->arena.slabs[i];
		const struct migration *m = migration_of(d, i);

		if (s->pages_degraded > 0 &&
		    (s->daemon == r->index || (m && m->old.daemon == r->index)))
			return true;
	}
	return false;
}

/* Slabs of @r that are being given back. */
static uint32_t
count_evicting(struct slab_device *d, const struct remote *r)
{
	struct list *node;
	uint32_t n = 0;

	list_foreach (node, &d->evicting) {
		const struct slab_run *run = container_of(node, struct slab_run, evict.node);

		n += d->arena.slabs[run - d->runs].daemon == r->index;
	}
	return n;
}

/* A few at a time, so that what is hot finds another place in between. */
static void
give_back(struct slab_device *d, struct remote *r)
{
	const uint32_t n_slabs = d->arena.n_slabs;
	const uint32_t n_scan = n_slabs < LEAVE_SCAN_SLABS ? n_slabs : LEAVE_SCAN_SLABS;
	uint32_t n_evicting = count_evicting(d, r);

	for (uint32_t i = 0; i < n_scan && n_evicting < LEAVE_SLABS_MAX; i++) {
		const uint32_t slab = r->leave_slab;

		r->leave_slab = slab + 1 < n_slabs ? slab + 1 : 0;
		if (d->arena.slabs[slab].daemon == r->index &&
		    slab_evict_begin(d, slab, d->config.leave_timeout_ns / 2))
			n_evicting++;
	}
}

static void
leave_overdue(struct slab_device *d, struct remote *r)
{
	if (!has_degraded(d, r)) {
		device_event(d, SLAB_EVENT_NOTICE,
			     "daemon %s: has not given back %u slabs in time, is left all the same",
			     r->address, r->slabs_mapped);
		remote_close(r);
	} else if (!r->was_leave_reported) {
		r->was_leave_reported = true;
		device_event(d, SLAB_EVENT_WARN,
			     "daemon %s: cannot leave yet: it has pages that %s", r->address,
			     d->backup ? "the backup refuses"
				       : "no other daemon has room for, and there is no backup");
	}
}

static void
leave_look(struct slab_device *d, struct remote *r, bool is_overdue)
{
	if (r->state == REMOTE_IDLE)
		membership_left(r);
	else if (r->state != REMOTE_UP || r->slabs_mapped + r->maps_pending == 0)
		remote_close(r);
	else if (is_overdue)
		leave_overdue(d, r);
	/* What is not to be had from a backup waits for room elsewhere, however long. */
	if (r->state == REMOTE_UP && !d->is_stopping && (!is_overdue || !d->backup))
		give_back(d, r);
}

uint64_t
membership_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	if (d->n_leaving == 0 || !core_timer_is_due(&d->leave_look_timer, now_ns, &next_ns))
		return next_ns;
	for (uint32_t i = 0; i < d->n_remotes; i++) {
		struct remote *r = &d->remotes[i];

		if (!r->is_leaving)
			continue;
		(void)core_timer_is_due(&r->leave_timer, now_ns, &next_ns);
		leave_look(d, r, !r->leave_timer.is_armed);
	}
	core_timer_arm(&d->leave_look_timer, LEAVE_LOOK_NS);
	(void)core_timer_is_due(&d->leave_look_timer, now_ns, &next_ns);
	return next_ns;
}

/* Whether portals[i] is the first of a transport that the device has not used yet. */
static bool
is_new_tp(struct slab_device *d, const struct slab_portal *portals, uint32_t i)
{
	for (uint32_t k = 0; k < i; k++)
		if (portals[k].tp == portals[i].tp)
			return false;
	return !tp_entry(d, portals[i].tp);
}

static int
portals_check(struct slab_device *d, const struct slab_portal *portals, uint32_t n)
{
	uint32_t n_tps = 0;

	if (n > d->config.max_portals)
		return -ENOSPC;
	while (n_tps < DEVICE_TPS_MAX && d->tps[n_tps].tp)
		n_tps++;
	for (uint32_t i = 0; i < n; i++) {
		if (!portals[i].tp || strlen(portals[i].address) >= SLAB_ADDRESS_BYTES_MAX)
			return -EINVAL;
		if (is_new_tp(d, portals, i) && ++n_tps > DEVICE_TPS_MAX)
			return -EINVAL;
	}
	return 0;
}

static void
members_set(struct slab_device *d, const struct slab_portal *portals, uint32_t n)
{
	d->n_members = n;
	for (uint32_t i = 0; i < n; i++) {
		d->members[i].tp = portals[i].tp;
		memcpy(d->members[i].address, portals[i].address, strlen(portals[i].address) + 1);
	}
}

int
slab_device_set_portals(struct slab_device *d, const struct slab_portal *portals, uint32_t n)
{
	int r = portals_check(d, portals, n);

	if (d->is_stopping)
		return -ESHUTDOWN;
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = tp_use(d, portals[i].tp);
	if (r < 0)
		return r;
	members_set(d, portals, n);
	for (uint32_t i = 0; i < d->n_remotes; i++) {
		struct remote *remote = &d->remotes[i];

		if (remote->state != REMOTE_FREE && !remote->is_leaving && !is_member(d, remote))
			leave_begin(d, remote);
	}
	join_all(d);
	return 0;
}

bool
slab_device_get_daemon(const struct slab_device *d, uint32_t index,
		       struct slab_daemon_info *ret_info)
{
	for (uint32_t i = 0; i < d->n_remotes; i++) {
		const struct remote *r = &d->remotes[i];

		if (r->state == REMOTE_FREE || index-- > 0)
			continue;
		*ret_info = (struct slab_daemon_info){
			.transport = r->tp->ops->name,
			.address = r->address,
			.state = health_state(r),
			.is_up = r->state == REMOTE_UP,
			.is_leaving = r->is_leaving,
			.slabs_mapped = r->slabs_mapped,
			.slabs_free = r->slabs_free,
			.last_error = r->last_error,
			.read_times = &r->times[0],
			.write_times = &r->times[1],
		};
		return true;
	}
	return false;
}

int
membership_init(struct slab_device *d)
{
	int r;

	if (d->config.max_portals < d->config.n_portals)
		d->config.max_portals = d->config.n_portals;
	d->remotes = calloc((size_t)n_slots(d) + 1, sizeof(*d->remotes));
	d->members = calloc((size_t)d->config.max_portals + 1, sizeof(*d->members));
	d->remote_times = calloc(2 * (size_t)n_slots(d) + 2, sizeof(*d->remote_times));
	if (!d->remotes || !d->members || !d->remote_times)
		return -ENOMEM;
	r = remote_queue_init(&d->remote_queue, n_slots(d));
	if (r < 0)
		return r;
	r = placements_init(d, n_slots(d));
	if (r < 0)
		return r;
	r = health_init(d, n_slots(d));
	return r < 0 ? r : slab_device_set_portals(d, d->config.portals, d->config.n_portals);
}

void
membership_fini(struct slab_device *d)
{
	for (uint32_t i = 0; i < DEVICE_TPS_MAX; i++)
		if (d->tps[i].tp)
			(void)tp_region_release(d->tps[i].buffers);
	placements_fini(d);
	remote_queue_fini(&d->remote_queue);
	free(d->remote_times);
	free(d->remotes);
	free(d->members);
}
