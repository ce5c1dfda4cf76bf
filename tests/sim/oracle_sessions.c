/* SPDX-License-Identifier: MIT */
/* Device invariant 5: a session ends for a reason, and is tried again in time. */
#include <inttypes.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

static uint64_t
slack_ns(const struct sim *sim)
{
	return 4 * sim->plan.lag_ns + 1000;
}

void
oracle_connect(struct sim *sim, const struct sim_host *h, uint32_t target)
{
	struct sim_device_host *dh;
	const uint32_t daemon = target - SIM_DEVICES_MAX;
	uint64_t gap_ns;

	if (h->index >= SIM_DEVICES_MAX)
		return;
	dh = &sim->devices[h->index];
	gap_ns = sim_now(sim) - dh->down_ns[daemon];
	if (dh->down_ns[daemon] == 0 || h->troubled_until_ns >= dh->down_ns[daemon])
		return;
	if (gap_ns + slack_ns(sim) < sim->plan.retry_ns)
		sim_fail(DEVICE_5, "device %u tries daemon %u again after %" PRIu64 " ns already",
			 dh->index, daemon, gap_ns);
	if (gap_ns > sim->plan.retry_max_ns + slack_ns(sim))
		sim_fail(DEVICE_5, "device %u tries daemon %u again after %" PRIu64 " ns only",
			 dh->index, daemon, gap_ns);
	if (dh->was_ponged[daemon] && gap_ns > sim->plan.retry_ns + slack_ns(sim))
		sim_fail(DEVICE_5,
			 "device %u tries daemon %u again after %" PRIu64
			 " ns though the session was good",
			 dh->index, daemon, gap_ns);
}

void
oracle_down(struct sim *sim, const struct sim_conn *c)
{
	struct sim_device_host *dh;

	if (c->tp->host->index >= SIM_DEVICES_MAX)
		return;
	dh = &sim->devices[c->tp->host->index];
	if (!(dh->portal_mask & 1u << (c->target - SIM_DEVICES_MAX)))
		return;
	dh->down_ns[c->target - SIM_DEVICES_MAX] = sim_now(sim);
	dh->was_ponged[c->target - SIM_DEVICES_MAX] = c->has_pong;
}

static bool
is_troubled(struct sim *sim, const struct sim_conn *c)
{
	return c->tp->host->troubled_until_ns >= sim_now(sim) ||
	       sim_host_at(sim, c->target)->troubled_until_ns >= sim_now(sim);
}

/* Whether the device used slabs there at the end of its last turn, and nothing changes there. */
static bool
has_slabs(const struct sim_device_host *dh, uint32_t daemon)
{
	bool has = false;

	for (uint32_t i = 0; i < dh->dev->arena.n_slabs; i++) {
		const struct remote *r = &dh->dev->remotes[dh->seen_daemon[i]];

		if (dh->seen_state[i] != SLAB_STATE_MAPPED &&
		    dh->seen_state[i] != SLAB_STATE_UNMAPPED)
			return false;
		if (dh->seen_state[i] == SLAB_STATE_MAPPED && !r->is_leaving)
			has |= oracle_daemon_in(dh, dh->seen_daemon[i]) == daemon;
	}
	return has;
}

/* A daemon that stands still, but whose memory can be reached, is not given up early. */
static void
check_control_dead(struct sim *sim, const struct sim_conn *c)
{
	const struct plan *p = &sim->plan;
	const uint32_t daemon = c->target - SIM_DEVICES_MAX;
	const struct sim_device_host *dh = &sim->devices[c->tp->host->index];
	const uint64_t least_ns = p->op_timeout_ns + p->control_timeout_ns;

	if (!p->is_rdma[daemon] || !c->has_epoch || p->probe_ns == 0 ||
	    p->control_timeout_ns == 0 || dh->is_stopping || !has_slabs(dh, daemon))
		return;
	if (dh->host.troubled_until_ns >= sim_now(sim) ||
	    sim_host_at(sim, c->target)->broken_until_ns >= sim_now(sim))
		return;
	if (c->ping_ns == 0 || sim_now(sim) + slack_ns(sim) < c->ping_ns + least_ns)
		sim_fail(DEVICE_5,
			 "device %u gives up daemon %u, whose memory it can reach, too early",
			 dh->index, daemon);
}

void
oracle_close(struct sim *sim, struct sim_conn *c)
{
	const uint32_t here = c->tp->host->index;
	const uint32_t device = c->is_client ? here : c->target;

	if (c->is_joined && c->is_client && here < SIM_DEVICES_MAX)
		check_control_dead(sim, c);

	if (!c->is_client)
		oracle_drained(sim, c);
	if (!c->is_joined || device >= SIM_DEVICES_MAX || is_troubled(sim, c))
		return;
	if (c->is_client &&
	    !(sim->devices[device].portal_mask & 1u << (c->target - SIM_DEVICES_MAX))) {
		oracle_left(sim, c);
		return;
	}
	if (c->is_client ? sim->devices[device].is_stopping
			 : sim->daemons[here - SIM_DEVICES_MAX].is_stopping)
		return;
	sim_fail(DEVICE_5, "host %u ends the session of device %u with daemon %u for no reason",
		 here, device, (c->is_client ? c->target : here) - SIM_DEVICES_MAX);
}

void
oracle_message_in(struct sim *sim, struct sim_conn *c, const void *bytes, size_t length_bytes)
{
	struct ctl_msg msg;

	if (ctl_decode(bytes, length_bytes, &msg) < 0)
		return;
	SIM_TRACE(sim, "%s reaches host %u from host %u, id %u", ctl_type_name(msg.type),
		  c->tp->host->index, c->target, msg.request_id);
	c->alive_ns = sim_now(sim);
	if (msg.type == CTL_PONG)
		c->ping_ns = 0;
	if (msg.type == CTL_WELCOME) {
		c->is_joined = true;
		c->has_epoch = msg.u.welcome.epoch_rkey != 0;
		if (c->peer)
			c->peer->is_joined = true;
	}
	if (!c->is_client && (msg.type == CTL_ACTIVITY || msg.type == CTL_DONE))
		oracle_answered_back(sim, c, &msg);
	if (!c->is_client && msg.type == CTL_UNMAP)
		oracle_unmap_in(c, &msg);
	if (msg.type == CTL_PONG)
		c->has_pong = true;
	if (msg.type == CTL_WELCOME || msg.type == CTL_PONG)
		c->no_ping_ns = sim_now(sim);
}

void
oracle_ping_sent(struct sim *sim, struct sim_conn *c)
{
	c->no_ping_ns = 0;
	c->ping_ns = sim_now(sim);
}

/* Who shows no life is given up, and so is who does not answer, however alive its memory is. */
static void
check_given_up(struct sim *sim, const struct sim_conn *c)
{
	const struct plan *p = &sim->plan;
	const uint64_t awake_ns = c->tp->host->paused_until_ns;
	const uint64_t alive_ns = c->alive_ns > awake_ns ? c->alive_ns : awake_ns;
	const uint64_t asked_ns = c->ping_ns > awake_ns ? c->ping_ns : awake_ns;
	const uint32_t daemon = c->target - SIM_DEVICES_MAX;

	/* One that does not answer and had shown life is asked by probes, if it can be. */
	const uint64_t look_ns = c->ping_ns == 0		   ? 0
				 : c->has_epoch && p->probe_ns > 0 ? p->probe_ns
								   : p->control_timeout_ns;

	if (sim_now(sim) >
	    alive_ns + p->ping_ns + look_ns + 3 * p->op_timeout_ns + 4 * slack_ns(sim))
		sim_fail(DEVICE_5, "device %u does not give up daemon %u, which shows no life",
			 c->tp->host->index, daemon);
	if (c->ping_ns != 0 && sim_now(sim) > asked_ns + (OP_AGE_TIMEOUTS + 2) * p->op_timeout_ns +
						      p->control_timeout_ns + 4 * slack_ns(sim))
		sim_fail(DEVICE_5, "device %u does not give up daemon %u, which does not answer",
			 c->tp->host->index, daemon);
}

void
oracle_pings(struct sim_device_host *dh)
{
	struct sim *sim = dh->host.sim;
	struct list *pos;

	list_foreach (pos, &sim->net.conns) {
		const struct sim_conn *c = container_of(pos, struct sim_conn, node);
		/* A deadline begins with the turn after what it counts from. */
		const uint64_t since_ns = c->no_ping_ns > dh->host.paused_until_ns
						  ? c->no_ping_ns
						  : dh->host.paused_until_ns;

		if (c->tp->host == &dh->host && c->is_joined && !c->is_closed && !c->is_ending)
			check_given_up(sim, c);
		/* What is sent to an end that is gone is not seen here. */
		if (c->tp->host != &dh->host || c->no_ping_ns == 0 || c->is_closed ||
		    c->is_ending || !c->peer || c->peer->is_ending)
			continue;
		if (sim_now(sim) > since_ns + sim->plan.ping_ns + slack_ns(sim))
			sim_fail(DEVICE_5, "device %u does not ask whether daemon %u is there",
				 dh->index, c->target - SIM_DEVICES_MAX);
	}
}

void
oracle_op_over(struct sim *sim, struct sim_conn *c, uint64_t posted_ns, int status)
{
	const struct plan *p = &sim->plan;
	const struct sim_host *h = c->tp->host;
	const uint64_t age_ns = sim_now(sim) - posted_ns;

	if (status == 0)
		c->alive_ns = sim_now(sim);
	/* Peers have no deadlines, and who stands still cannot keep one. */
	if (h->index >= SIM_DEVICES_MAX || h->paused_until_ns >= posted_ns)
		return;
	if (age_ns >
	    OP_AGE_TIMEOUTS * p->op_timeout_ns + SIM_ENDING_WAYS_MAX * p->net_ns + slack_ns(sim))
		sim_fail(DEVICE_5, "an operation of host %u took %" PRIu64 " ns", h->index, age_ns);
}

void
oracle_post(struct sim *sim, const struct sim_conn *c, const struct tp_op *op)
{
	SIM_TRACE(sim, "host %u: remote %s of %u bytes at %x", op->kind == TP_OP_READ ? "" : "",
		  c->tp->host->index, op->kind, op->length_bytes, op->remote_addr);
}
