/* SPDX-License-Identifier: MIT */
/*
 * Device invariant 4 and daemon invariant 3: a slab is given up only when nothing to it is in
 * flight and each page is safe elsewhere, looked at in the moment in which a device says so;
 * and a host that is short of memory gets it back in time.
 */
#include <inttypes.h>
#include <string.h>

#include "daemon/core.h"
#include "daemon/eviction.h"
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

	if (!has_content(&dh->pages.pages[page]) || is_zeros(dh, page) ||
	    pages_allow(&dh->pages, page, 0, PAGE_BYTES, dh->disk.bytes + (size_t)page * PAGE_BYTES,
			&q))
		return true;
	if (oracle_is_elsewhere(dh, page, g->remote.rkey))
		return true; /* which is looked at by itself */
	return with_buffers && is_in_buffer(dh, page);
}

/* The memory of @g holds the newest of @page: giving it up could lose that. */
static bool
is_in_grant(struct sim_device_host *dh, const struct sim_grant *g, uint32_t page)
{
	const struct page_query q = {.rule = RULE_NEWEST};
	const uint32_t in_slab = page % SIM_SLAB_PAGES;
	const size_t at = (size_t)in_slab * PAGE_BYTES;

	/* Zeros that nobody wrote say nothing. */
	return (g->region->slot->dirty[in_slab / 64] >> in_slab % 64 & 1) != 0 &&
	       pages_allow(&dh->pages, page, 0, PAGE_BYTES, g->region->bytes + at, &q);
}

/* @newest, or a later write of @page among @pieces. */
static struct piece *
later_write(struct piece *newest, const struct list *pieces, uint32_t page)
{
	const uint32_t bit = page % BLOCK_PAGES;
	const struct list *pos;

	list_foreach (pos, pieces) {
		struct piece *p = container_of(pos, struct piece, done_node);

		if (p->io.kind != BACKEND_WRITE || p->status != 0 ||
		    p->order.block != page / BLOCK_PAGES || (p->order.mask >> bit & 1) == 0)
			continue;
		if (!newest || piece_arena_write(p)->seq > piece_arena_write(newest)->seq)
			newest = p;
	}
	return newest;
}

/*
 * A write that replaces what @g has of @page is answered, and the client is yet to see that: the
 * core counts on it, and needs no older one any more (throttle.h, supersede.c).
 */
static bool
is_replaced(const struct sim_device_host *dh, const struct sim_grant *g, uint32_t page)
{
	const uint8_t *bytes = g->region->bytes + (size_t)(page % SIM_SLAB_PAGES) * PAGE_BYTES;
	struct piece *p = later_write(NULL, &dh->dev->held_answers, page);

	p = later_write(p, &dh->dev->done_pieces, page);
	return p && memcmp(piece_run_buf(p, 1u << page % BLOCK_PAGES), bytes, PAGE_BYTES) != 0;
}

/* The newest acknowledged change was submitted before @g was lent. */
static bool
is_older(const struct page_history *h, const struct sim_grant *g)
{
	const struct change *c = h->newest;

	while (c && c->status != CHANGE_OK)
		c = c->older;
	return !c || c->number <= g->told_number;
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
		 * so does what was written before, and came here from another daemon. */
		const bool is_kept = with_buffers || dh->disk.pages[page].error_ns > 0 ||
				     is_older(&dh->pages.pages[page], g);

		if (!has_content(&dh->pages.pages[page]) || !is_in_grant(dh, g, page))
			continue; /* lost before, or written while another daemon lent it */
		if (is_replaced(dh, g, page))
			continue; /* by a write elsewhere, which is looked at by itself */
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
	struct sim_grant *g;

	if (c->tp->host->index >= SIM_DEVICES_MAX || !c->peer)
		return;
	g = oracle_find_grant(c->peer, msg->u.unmap.slab, msg->u.unmap.generation);
	if (!g) /* it is late: the daemon has taken it */
		return;
	check_idle(c, g, ctl_type_name(msg->type));
	check_pages(sim, c, g, false, ctl_type_name(msg->type));
	g->is_given_up = true;
}

/* Slabs that do not move within half of the time are given back by the session's end. */
void
oracle_left(struct sim *sim, const struct sim_conn *c)
{
	const struct sim_device_host *dh = &sim->devices[c->tp->host->index];
	const uint64_t since_ns = dh->removed_ns[c->target - SIM_DEVICES_MAX];
	const bool is_overdue =
		since_ns + dh->config.leave_timeout_ns / 2 <= sim_now(sim) + 2 * sim->plan.lag_ns;
	struct list *pos;
	uint32_t n = 0;

	if (!c->peer || dh->is_stopping)
		return;
	list_foreach (pos, &c->peer->grants) {
		const struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (!g->is_told || g->is_revoking || g->is_given_up)
			continue;
		/* At the deadline of EVICT it is the daemon's again, without a word. */
		if (g->evicted_ns != 0 && g->deadline_ns <= sim_now(sim))
			continue;
		n++;
		if (!is_overdue)
			sim_fail(DEVICE_4,
				 "device %u: slab %u is not given back to a daemon whose portal "
				 "was removed",
				 dh->index, g->slab);
		check_pages(sim, c, g, true, "its portal was removed");
	}
	sim->sights[SIGHT_LEFT] += n == 0;
}

/* --- what a daemon asks its clients --- */

/* Longest time that a slab takes to be given up when nothing is in its way. */
static uint64_t
give_up_ns(const struct plan *p)
{
	return 400 * p->disk_ns + 2000 * p->net_ns + 100 * p->lag_ns + 10 * NSEC_PER_MSEC;
}

void
oracle_revoked(struct sim *sim, struct sim_conn *c, const struct sim_grant *g)
{
	const struct sim_device_host *dh;

	if (g->has_done || g->has_unmap || !g->is_told)
		return;
	c->forced_slabs |= 1u << g->slab % 32;
	sim->sights[c->target < SIM_DEVICES_MAX ? SIGHT_FORCED : SIGHT_FORCED_PEER]++;
	if (c->target >= SIM_DEVICES_MAX)
		return;
	dh = &sim->devices[c->target];
	if (dh->host.troubled_until_ns >= sim_now(sim) || dh->is_stopping ||
	    dh->disk_troubled_until_ns >= sim_now(sim) || sim->plan.has_no_backup ||
	    c->tp->host->troubled_until_ns >= sim_now(sim) ||
	    g->deadline_ns - g->evicted_ns < give_up_ns(&sim->plan))
		return;
	sim_fail(DEVICE_5, "device %u does not give slab %u back in time, for no reason", dh->index,
		 g->slab);
}

void
oracle_unmap_in(const struct sim_conn *c, const struct ctl_msg *msg)
{
	struct sim_grant *g = oracle_find_grant(c, msg->u.unmap.slab, msg->u.unmap.generation);

	if (g)
		g->has_unmap = true;
}

void
oracle_asked_back(struct sim *sim, const struct sim_conn *c, const struct ctl_msg *msg)
{
	const struct sim_daemon_host *dh = &sim->daemons[c->tp->host->index - SIM_DEVICES_MAX];
	const bool is_evict = msg->type == CTL_EVICT;
	const uint32_t slab = is_evict ? msg->u.evict.slab : msg->u.unmap.slab;
	const uint32_t generation = is_evict ? msg->u.evict.generation : msg->u.unmap.generation;
	struct sim_grant *g = oracle_find_grant(c, slab, generation);

	if (!g)
		sim_fail(DAEMON_4, "a client is asked for slab %u that it does not hold", slab);
	if (!is_evict) {
		g->checked_turn = dh->n_turns;
		g->milli_activity = 0;
		return;
	}
	g->evicted_turn = dh->n_turns;
	g->evicted_ns = sim_now(sim);
	g->deadline_ns = sim_now(sim) + msg->u.evict.deadline_ms * NSEC_PER_MSEC;
}

static const struct client *
client_of(const struct daemon *d, const struct sim_conn *c)
{
	const struct list *pos;

	list_foreach (pos, &d->connections) {
		const struct client *client = (const struct client *)(const void *)pos;

		if (client->conn == (const struct tp_conn *)(const void *)c)
			return client;
	}
	return NULL;
}

/* The slab that @request_id asks about and that nobody has answered for, or NULL. */
static const struct pool_slab *
open_request(const struct client *client, uint32_t request_id)
{
	const struct list *pos;

	list_foreach (pos, &client->slabs) {
		const struct pool_slab *s = (const struct pool_slab *)(const void *)pos;

		if (request_id != 0 && s->evict_request_id == request_id)
			return s;
	}
	return NULL;
}

void
oracle_answered_back(struct sim *sim, struct sim_conn *c, const struct ctl_msg *msg)
{
	const struct sim_daemon_host *dh = &sim->daemons[c->tp->host->index - SIM_DEVICES_MAX];
	const struct client *client = client_of(dh->daemon, c);
	const bool is_done = msg->type == CTL_DONE;
	const uint32_t slab = is_done ? msg->u.unmap.slab : msg->u.activity.slab;
	const uint32_t generation = is_done ? msg->u.unmap.generation : msg->u.activity.generation;
	const struct pool_slab *s = client ? open_request(client, msg->request_id) : NULL;
	struct sim_grant *g = s ? oracle_find_grant(c, slab, generation) : NULL;

	if (!client || client->state != CLIENT_SERVING)
		return;
	if (s ? s->slab != slab || s->generation != generation ||
			    s->evict_step != (is_done ? EVICTION_ASKED : EVICTION_CHECKED)
	      : msg->request_id > client->last_ask_id)
		c->must_close = true;
	if (c->must_close && c->target < SIM_DEVICES_MAX)
		sim_fail(DEVICE_4,
			 "device %u answers %s of slab %u, which does not fit what was asked",
			 c->target, ctl_type_name(msg->type), slab);
	sim->sights[SIGHT_LIE] += c->must_close;
	if (!g || c->must_close)
		return;
	g->has_done = is_done;
	if (!is_done && msg->u.activity.milli_pages_per_second <= EVICTION_MILLI_ACTIVITY_MAX)
		g->milli_activity = msg->u.activity.milli_pages_per_second;
}

/* Those that were asked together with @taken and are less active have to go too. */
static void
check_choice(struct sim *sim, const struct sim_daemon_host *dh, const struct sim_grant *taken)
{
	struct list *pos, *node;

	list_foreach (pos, &sim->net.conns) {
		const struct sim_conn *c = container_of(pos, struct sim_conn, node);

		/* What is said to an end that is gone is not seen here. */
		if (c->tp->host != &dh->host || c->is_closed || c->is_ending || !c->peer ||
		    c->peer->is_ending)
			continue;
		list_foreach (node, &c->grants) {
			const struct sim_grant *g = container_of(node, struct sim_grant, node);

			sim->sights[SIGHT_CHOSEN] += g->checked_turn == taken->checked_turn &&
						     g->evicted_turn == 0 && !g->is_revoking;
			if (g->checked_turn == taken->checked_turn && g->evicted_turn == 0 &&
			    !g->is_revoking && g->milli_activity < taken->milli_activity)
				sim_fail(DAEMON_3,
					 "daemon %u: a slab with activity %" PRIu64
					 " is evicted, one with %" PRIu64 " stays",
					 dh->index, taken->milli_activity, g->milli_activity);
		}
	}
}

void
oracle_evictions(struct sim *sim, struct sim_daemon_host *dh)
{
	struct list *pos, *node;

	list_foreach (pos, &sim->net.conns) {
		const struct sim_conn *c = container_of(pos, struct sim_conn, node);

		if (c->tp->host != &dh->host || c->is_closed || c->is_ending)
			continue;
		if (c->must_close)
			sim_fail(DAEMON_4,
				 "daemon %u takes an answer that does not fit what it has asked",
				 dh->index);
		list_foreach (node, &c->grants) {
			const struct sim_grant *g = container_of(node, struct sim_grant, node);

			if (g->has_done && !g->is_revoking)
				sim_fail(DAEMON_3, "daemon %u: slab %u is given back and not taken",
					 dh->index, g->slab);
			if (g->evicted_turn == dh->n_turns && g->checked_turn != 0)
				check_choice(sim, dh, g);
		}
	}
	dh->n_turns++;
}

void
oracle_drained(struct sim *sim, const struct sim_conn *c)
{
	const struct sim_daemon_host *dh = &sim->daemons[c->tp->host->index - SIM_DEVICES_MAX];
	const struct client *client = client_of(dh->daemon, c);
	struct list *pos;

	/* Without the other end, or while that stands still, it is given up for its silence. */
	if (!dh->is_stopping || dh->is_told_to_stop || c->must_close || !c->peer ||
	    c->target >= SIM_DEVICES_MAX || sim_now(sim) >= dh->drain_until_ns ||
	    sim->devices[c->target].host.troubled_until_ns >= sim_now(sim))
		return;
	list_foreach (pos, &c->grants) {
		const struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (client && g->is_told && !g->is_revoking)
			sim_fail(DAEMON_3,
				 "daemon %u drains and ends a session with slab %u before its time",
				 dh->index, g->slab);
	}
}

/* --- memory --- */

/* Longest time until a host that is short of memory has it back, whatever clients do. */
static uint64_t
relief_ns(const struct sim *sim)
{
	const struct plan *p = &sim->plan;

	return 3 * p->period_ns + p->evict_deadline_ns +
	       (SIM_POOL_MAX * 50 + SIM_ENDING_WAYS_MAX) * p->net_ns + 8 * p->lag_ns +
	       NSEC_PER_MSEC;
}

/* Slabs that can be given back. */
static bool
has_slabs(const struct sim_daemon_host *dh)
{
	for (uint32_t i = 0; i < dh->memory.n_slots; i++)
		if (dh->memory.slots[i].region && !dh->memory.slots[i].is_lost)
			return true;
	return false;
}

void
oracle_daemon_memory(struct sim *sim, struct sim_daemon_host *dh)
{
	const bool is_short = sim_daemon_available(dh) < SIM_HEADROOM_SLABS && has_slabs(dh);

	if (!is_short || dh->host.troubled_until_ns >= sim_now(sim) || sim->is_healed) {
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
