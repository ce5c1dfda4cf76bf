/* SPDX-License-Identifier: MIT */
/* Daemon invariants 1 to 5. */
#include "daemon/core.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "wire/ctl.h"

void
oracle_grant(struct sim *sim, const struct sim_region *rg)
{
	(void)sim;
	if (!rg->slot) /* the epoch page is everybody's */
		return;
	if (rg->n_grants > 0)
		sim_fail(DAEMON_1, "a slab is lent to two at once");
	if (rg->slot->is_busy)
		sim_fail(DAEMON_1, "a slab is lent while it is zeroed or dropped");
	if (!sim_memory_is_zero(rg->slot))
		sim_fail(DAEMON_1, "a slab is lent that was not zeroed");
}

struct sim_grant *
oracle_find_grant(const struct sim_conn *c, uint32_t slab, uint32_t generation)
{
	struct list *pos;

	list_foreach (pos, &c->grants) {
		struct sim_grant *g = container_of(pos, struct sim_grant, node);

		if (g->is_told && g->slab == slab && g->generation == generation)
			return g;
	}
	return NULL;
}

void
oracle_message_out(struct sim *sim, struct sim_conn *c, const void *bytes, size_t length_bytes)
{
	struct ctl_msg msg;
	struct sim_grant *g;

	if (ctl_decode(bytes, length_bytes, &msg) < 0)
		return;
	if (c->is_client) {
		if (msg.type == CTL_PING)
			oracle_ping_sent(sim, c);
		if (msg.type == CTL_DONE || msg.type == CTL_UNMAP)
			oracle_given_up(sim, c, &msg);
		return;
	}
	if (msg.type == CTL_MR_INFO) {
		g = sim_net_grant_at(c, msg.u.mr_info.rkey, msg.u.mr_info.addr,
				     msg.u.mr_info.length_bytes);
		if (!g || msg.u.mr_info.length_bytes != SIM_SLAB_BYTES)
			sim_fail(DAEMON_1, "MR_INFO of slab %u tells of what is not granted",
				 msg.u.mr_info.slab);
		g->is_told = true;
		g->told_number = sim->n_requests;
		c->forced_slabs &= ~(1u << msg.u.mr_info.slab % 32);
		g->slab = msg.u.mr_info.slab;
		g->generation = msg.u.mr_info.generation;
	}
	if (msg.type == CTL_CHECK_ACTIVITY || msg.type == CTL_EVICT)
		oracle_asked_back(sim, c, &msg);
	if (msg.type == CTL_UNMAPPED) {
		g = oracle_find_grant(c, msg.u.unmap.slab, msg.u.unmap.generation);
		if (g)
			sim_fail(DAEMON_2, "UNMAPPED of slab %u, and its grant is alive",
				 msg.u.unmap.slab);
	}
}

void
oracle_remote_access(struct sim *sim, const struct sim_conn *c, const struct sim_grant *g)
{
	(void)sim;
	if (g->conn != c->peer || (g->region->slot && g->region->slot->is_busy))
		sim_fail(DAEMON_2, "a slab is reached that is not lent");
}

static void
check_client(const struct client *c, uint32_t max_slabs, uint32_t *ret_lent)
{
	const struct list *pos;
	uint32_t n = 0;

	list_foreach (pos, &c->slabs) {
		const struct pool_slab *s = (const struct pool_slab *)(const void *)pos;

		if (s->client != c || s->state < POOL_SLAB_GRANTING ||
		    s->state > POOL_SLAB_REVOKING)
			sim_fail(DAEMON_1, "a client holds a slab that is not lent to it");
		n++;
	}
	if (n != c->slab_count || n > max_slabs)
		sim_fail(DAEMON_1, "a client holds %u slabs, counted %u", n, c->slab_count);
	if (!c->has_joined && n > 0)
		sim_fail(DAEMON_1, "a client without WELCOME holds a slab");
	*ret_lent += n;
}

void
oracle_daemon_turn(struct sim *sim, struct sim_daemon_host *dh)
{
	const struct daemon *d = dh->daemon;
	const struct list *pos;
	uint32_t lent = 0, n = 0, serving = 0;

	oracle_evictions(sim, dh);
	list_foreach (pos, &d->connections) {
		const struct client *c = (const struct client *)(const void *)pos;

		check_client(c, d->config.max_slabs_client, &lent);
		serving += c->has_joined;
		n++;
	}
	if (lent != pool_count(d->pool, POOL_SLAB_GRANTING) +
			    pool_count(d->pool, POOL_SLAB_GRANTED) +
			    pool_count(d->pool, POOL_SLAB_REVOKING))
		sim_fail(DAEMON_5,
			 "daemon %u: clients hold %u slabs, and the pool says another "
			 "number",
			 dh->index, lent);
	if (serving > d->config.max_clients || n > d->slot_count || serving != d->counters.clients)
		sim_fail(DAEMON_4, "daemon %u: %u connections, %u clients", dh->index, n, serving);
}
