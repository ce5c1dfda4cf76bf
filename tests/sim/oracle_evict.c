/* SPDX-License-Identifier: MIT */
/*
 * Device invariant 4 and daemon invariant 3: a slab is given up only when nothing to it is in
 * flight and each page is safe elsewhere, looked at in the moment in which a device says so;
 * and a host that is short of memory gets it back in time.
 */
#include <inttypes.h>
#include <string.h>

#include "daemon/core.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

/* Whether anything is there that can be lost. */
static bool
has_content(const struct page_history *h)
{
	for (const struct change *c = h->newest; c; c = c->older) {
		if (c->kind == BACKEND_TRIM && c->status != CHANGE_FAILED)
			return false;
		if (c->status == CHANGE_OK)
			return true;
	}
	return h->base != NULL;
}

static bool
is_in_buffer(const struct sim_device_host *dh, uint32_t page)
{
	const struct arena *a = &dh->dev->arena;
	const uint64_t at = (uint64_t)page * PAGE_BYTES;
	const struct page_query q = {.rule = RULE_NEWEST};

	for (uint32_t i = 0; i < a->n_buffer_pages; i++) {
		const struct arena_write *w = &a->writes[i];

		if (w->seq == 0 || at < w->offset_bytes || at >= w->offset_bytes + w->length_bytes)
			continue;
		if (pages_allow(&dh->pages, page, 0, PAGE_BYTES,
				a->buffers + (size_t)w->buffer_page * PAGE_BYTES +
					(at - w->offset_bytes),
				&q))
			return true;
	}
	return false;
}

/* The device reads @page as zeros, as after a TRIM that failed half way, and may: no copy is needed. */
static bool
is_zeros(const struct sim_device_host *dh, uint32_t page)
{
	static const uint8_t zeros[PAGE_BYTES];
	const struct arena_block *b = &dh->dev->arena.blocks[page / BLOCK_PAGES];
	const struct page_query q = {.rule = RULE_NEWEST};

	return ((b->remote | b->backup) >> page % BLOCK_PAGES & 1) == 0 &&
	       pages_allow(&dh->pages, page, 0, PAGE_BYTES, zeros, &q);
}

/* A copy of @page that outlives the memory of @g is the newest. */
static bool
is_safe(struct sim_device_host *dh, const struct sim_grant *g, uint32_t page, bool with_buffers)
{
	const struct page_query q = {.rule = RULE_NEWEST};
	const struct arena_slab *s = &dh->dev->arena.slabs[page / SIM_SLAB_PAGES];

	if (!has_content(&dh->pages.pages[page]) || is_zeros(dh, page) ||
	    pages_allow(&dh->pages, page, 0, PAGE_BYTES, dh->disk.bytes + (size_t)page * PAGE_BYTES,
			&q))
		return true;
	if (s->rkey != g->remote.rkey && oracle_has_remote(dh, page))
		return true; /* which is looked at by itself */
	return with_buffers && is_in_buffer(dh, page);
}

/* The memory of @g holds the newest of @page: giving it up could lose that. */
static bool
is_in_grant(struct sim_device_host *dh, const struct sim_grant *g, uint32_t page)
{
	const struct page_query q = {.rule = RULE_NEWEST};
	const size_t at = (size_t)(page % SIM_SLAB_PAGES) * PAGE_BYTES;

	return pages_allow(&dh->pages, page, 0, PAGE_BYTES, g->region->bytes + at, &q);
}

/* @with_buffers: bytes that wait for the backup in a buffer count as safe. */
static void
check_pages(struct sim *sim, const struct sim_conn *c, const struct sim_grant *g, bool with_buffers,
	    const char *how)
{
	struct sim_device_host *dh = &sim->devices[c->tp->host->index];
	const uint32_t first = g->slab * SIM_SLAB_PAGES;

	for (uint32_t page = first; page < first + SIM_SLAB_PAGES; page++) {
		/* What the backup has refused waits in its buffer, whoever lends the slab, and
		 * so does what was written before this grant, while another daemon lent it. */
		const bool is_kept = with_buffers || dh->disk.pages[page].error_ns > 0 ||
				     !is_in_grant(dh, g, page);

		if (!is_safe(dh, g, page, is_kept))
			sim_fail(DEVICE_4,
				 "device %u: slab %u is given up (%s) and page %u is nowhere else",
				 dh->index, g->slab, how, page);
	}
}

static void
check_idle(const struct sim_conn *c, const struct sim_grant *g, const char *how)
{
	struct list *pos;

	list_foreach (pos, &c->ops) {
		const struct sim_net_op *o = container_of(pos, struct sim_net_op, node);

		if (o->op->rkey == g->remote.rkey)
			sim_fail(DEVICE_4,
				 "device %u: slab %u is given up (%s) while an operation on it is "
				 "under way",
				 c->tp->host->index, g->slab, how);
	}
}

void
oracle_given_up(struct sim *sim, const struct sim_conn *c, const struct ctl_msg *msg)
{
	const struct sim_grant *g;

	if (c->tp->host->index >= SIM_DEVICES_MAX || !c->peer)
		return;
	g = oracle_find_grant(c->peer, msg->u.unmap.slab, msg->u.unmap.generation);
	if (!g) /* it is late: the daemon has taken it */
		return;
	check_idle(c, g, ctl_type_name(msg->type));
	check_pages(sim, c, g, false, ctl_type_name(msg->type));
}

void
oracle_left(struct sim *sim, const struct sim_conn *c)
{
	struct list *pos;

	if (!c->peer)
		return;
	list_foreach (pos, &c->peer->grants) {
		const struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (g->is_told && !g->is_revoking)
			check_pages(sim, c, g, true, "its portal was removed");
	}
}

/* Longest time until a host that is short of memory has it back. */
static uint64_t
relief_ns(const struct sim *sim)
{
	const struct plan *p = &sim->plan;

	return 2 * p->period_ns + SIM_POOL_MAX * 50 * p->net_ns + 8 * p->lag_ns + 1000;
}

void
oracle_daemon_memory(struct sim *sim, struct sim_daemon_host *dh)
{
	const struct daemon *d = dh->daemon;
	const bool is_short = sim_daemon_available(dh) < SIM_HEADROOM_SLABS &&
			      pool_count(d->pool, POOL_SLAB_FREE) > 0;

	if (!is_short || dh->host.paused_until_ns + relief_ns(sim) > sim_now(sim)) {
		dh->short_ns = 0;
		return;
	}
	if (dh->short_ns == 0)
		dh->short_ns = sim_now(sim);
	if (sim_now(sim) - dh->short_ns > relief_ns(sim))
		sim_fail(DAEMON_3,
			 "daemon %u: after %" PRIu64 " us its host is still %u slabs below the "
			 "headroom",
			 dh->index, (sim_now(sim) - dh->short_ns) / 1000,
			 SIM_HEADROOM_SLABS - sim_daemon_available(dh));
}
