/* SPDX-License-Identifier: MIT */
#include "sim/peer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"
#include "sim/cluster.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/pattern.h"
#include "sim/world.h"

static struct rng *
rng(const struct sim_peer *p)
{
	return &p->host.sim->rng;
}

/* What it writes is told from a device's bytes by the version. */
static uint64_t
version_of(const struct sim_peer *p)
{
	return UINT64_C(0x7ee7000000000000) + p->index;
}

/* Returns the request id. */
static uint32_t
say(struct sim_peer *p, struct ctl_msg msg)
{
	uint8_t buf[TP_MESSAGE_BYTES_MAX];
	size_t n;

	if (!p->conn)
		return 0;
	if (msg.request_id == 0 && !(p->is_hostile && rng_percent(rng(p), 1)))
		msg.request_id = ++p->request_id;
	n = ctl_encode(&msg, buf);
	if (msg.type == CTL_HELLO) {
		memcpy(p->hello, buf, n);
		p->hello_bytes = (uint32_t)n;
	}
	if (p->is_hostile && rng_percent(rng(p), 3)) {
		p->host.sim->n_hostile++;
		p->has_garbled = true;
		buf[rng_below(rng(p), (uint32_t)n)] ^= (uint8_t)(1 + rng_below(rng(p), 255));
		if (rng_percent(rng(p), 20))
			n = 1 + rng_below(rng(p), (uint32_t)n);
	}
	(void)tp_send(p->conn, buf, n);
	return msg.request_id;
}

/* --- slabs that are wanted back --- */

/* It is not used any more from here on. */
static void
give_back(struct sim_peer *p, uint32_t slab)
{
	struct sim_peer_slab *s = &p->slabs[slab];
	struct ctl_msg msg = {.type = CTL_DONE, .request_id = s->evict_id};

	if (s->evict_id == 0 || (p->op_is_busy && p->op_slab == slab))
		return;
	msg.u.unmap.slab = slab;
	msg.u.unmap.generation = s->generation;
	s->evict_id = 0;
	s->is_mapped = false;
	s->was_unmapped = false;
	(void)say(p, msg);
}

/* An answer with something wrong in it, or one to what nobody asked. */
static void
lie(struct sim_peer *p, uint32_t request_id, uint32_t slab, uint32_t generation)
{
	const bool is_done = rng_percent(rng(p), 60);
	struct ctl_msg msg = {
		.type = is_done ? CTL_DONE : CTL_ACTIVITY,
		.request_id = request_id + (rng_percent(rng(p), 20) ? 1 + rng_below(rng(p), 3) : 0),
	};

	slab = rng_percent(rng(p), 30) ? rng_below(rng(p), SIM_PEER_SLABS + 1) : slab;
	generation += rng_percent(rng(p), 50) ? 1 : 0;
	p->has_garbled = true; /* it cannot expect anything sensible any more */
	if (is_done) {
		msg.u.unmap.slab = slab;
		msg.u.unmap.generation = generation;
	} else {
		msg.u.activity.slab = slab;
		msg.u.activity.generation = generation;
		msg.u.activity.milli_pages_per_second =
			rng_percent(rng(p), 50) ? UINT64_MAX : rng_below(rng(p), 1000);
	}
	(void)say(p, msg);
}

static void
tell_activity(struct sim_peer *p, const struct ctl_msg *asked)
{
	struct ctl_msg msg = {.type = CTL_ACTIVITY, .request_id = asked->request_id};
	const struct sim_peer_slab *s = &p->slabs[asked->u.unmap.slab];

	if (!s->is_mapped || s->is_unmapping || s->generation != asked->u.unmap.generation)
		return;
	msg.u.activity.slab = asked->u.unmap.slab;
	msg.u.activity.generation = s->generation;
	msg.u.activity.milli_pages_per_second = rng_below(rng(p), 100000);
	(void)say(p, msg);
}

static void
wanted_back(struct sim_peer *p, const struct ctl_msg *msg)
{
	const bool is_evict = msg->type == CTL_EVICT;
	const uint32_t slab = is_evict ? msg->u.evict.slab : msg->u.unmap.slab;
	const uint32_t generation = is_evict ? msg->u.evict.generation : msg->u.unmap.generation;
	struct sim_peer_slab *s = &p->slabs[slab];

	if (slab >= SIM_PEER_SLABS)
		return; /* what it garbled was a MAP */
	s->is_evicted |= is_evict;
	if (p->manner == PEER_MUTE)
		return;
	if (p->manner == PEER_LIAR && rng_percent(rng(p), 60)) {
		lie(p, msg->request_id, slab, generation);
		return;
	}
	if (!is_evict) {
		tell_activity(p, msg);
		return;
	}
	if (!s->is_mapped || s->is_unmapping || s->generation != generation)
		return;
	s->evict_id = msg->request_id;
	give_back(p, slab);
}

/* --- operations --- */

static void
op_done_cb(struct tp_op *op, int status)
{
	struct sim_peer *p = container_of(op, struct sim_peer, op);
	const unsigned depth = guard_suspend();
	const uint64_t at = (uint64_t)p->op_page * SIM_PEER_BYTES;
	struct sim_peer_slab *s = &p->slabs[p->op_slab];

	p->op_is_busy = false;
	if (status == 0 && p->op_must_fail)
		sim_fail(DAEMON_2, "an access after UNMAPPED has succeeded");
	if (status == 0 && op->kind == TP_OP_WRITE)
		s->is_written[p->op_page] = true;
	if (status == 0 && op->kind == TP_OP_READ &&
	    !pattern_equal(p->buf, s->is_written[p->op_page] ? version_of(p) : 0, at,
			   SIM_PEER_BYTES))
		sim_fail(DAEMON_1, "a client reads what it has not written: slab %u, page %u",
			 p->op_slab, p->op_page);
	give_back(p, p->op_slab);
	guard_resume(depth);
}

static void
post(struct sim_peer *p)
{
	const uint32_t slab = rng_below(rng(p), SIM_PEER_SLABS);
	struct sim_peer_slab *s = &p->slabs[slab];

	if (p->op_is_busy || s->is_unmapping || s->evict_id != 0 ||
	    !(s->is_mapped || s->was_unmapped))
		return;
	/* An access that may not be ends the connection; not every time. */
	if (!s->is_mapped && !(p->is_hostile && rng_percent(rng(p), 10)))
		return;
	p->op_slab = slab;
	p->op_page = rng_below(rng(p), 4);
	p->op_must_fail = !s->is_mapped;
	p->op_is_busy = true;
	p->op = (struct tp_op){
		.kind = rng_percent(rng(p), 50) ? TP_OP_READ : TP_OP_WRITE,
		.length_bytes = SIM_PEER_BYTES,
		.region = p->region,
		.buf = p->buf,
		.remote_addr = s->info.addr + (uint64_t)p->op_page * SIM_PEER_BYTES,
		.rkey = s->info.rkey,
		.done = op_done_cb,
	};
	if (p->op.kind == TP_OP_WRITE)
		pattern_fill(p->buf, version_of(p), (uint64_t)p->op_page * SIM_PEER_BYTES,
			     SIM_PEER_BYTES);
	tp_post(p->conn, &p->op);
}

/* --- requests --- */

static void
map(struct sim_peer *p)
{
	const uint32_t slab = rng_below(rng(p), SIM_PEER_SLABS);
	struct sim_peer_slab *s = &p->slabs[slab];
	struct ctl_msg msg = {.type = CTL_MAP};

	if ((s->is_mapped || s->map_id != 0) && !(p->is_hostile && rng_percent(rng(p), 20)))
		return;
	msg.u.map.slab = slab;
	msg.u.map.generation = s->is_mapped ? s->generation : ++s->generation;
	(void)say(p, msg);
	s->map_id = p->request_id;
}

static void
unmap(struct sim_peer *p)
{
	const uint32_t slab = rng_below(rng(p), SIM_PEER_SLABS);
	struct sim_peer_slab *s = &p->slabs[slab];
	struct ctl_msg msg = {.type = CTL_UNMAP};
	const bool is_wrong = p->is_hostile && rng_percent(rng(p), 20);
	uint32_t id;

	if ((!s->is_mapped && !is_wrong) || (p->op_is_busy && p->op_slab == slab))
		return;
	msg.u.unmap.slab = slab;
	msg.u.unmap.generation = s->generation + (is_wrong ? 1 : 0);
	id = say(p, msg);
	if (is_wrong || s->is_unmapping)
		return; /* refused, whatever the first one brings */
	s->is_unmapping = true;
	s->unmap_id = id;
}

static void
act(struct sim_peer *p)
{
	const uint32_t what = rng_below(rng(p), 100);

	if (p->n_silent > 0) {
		p->n_silent--;
		return;
	}
	if (!p->is_joined) {
		if (p->is_hostile && rng_percent(rng(p), 10))
			(void)say(p, (struct ctl_msg){.type = CTL_PING});
		return;
	}
	if (what < 25)
		map(p);
	else if (what < 40)
		unmap(p);
	else if (what < 85)
		post(p);
	else if (what < 95)
		(void)say(p, (struct ctl_msg){.type = rng_percent(rng(p), 50) ? CTL_PING
									      : CTL_QUERY_MEM});
	else if (what < 96)
		p->n_silent = 200;
	else if (what < 97)
		tp_close(p->conn);
	else if (p->manner == PEER_LIAR && what < 98)
		lie(p, rng_below(rng(p), 4), rng_below(rng(p), SIM_PEER_SLABS), 1);
	else if (p->is_hostile && what < 98)
		(void)say(p, (struct ctl_msg){.type = CTL_PONG});
}

/* --- the session --- */

static void
up_cb(void *arg)
{
	struct sim_peer *p = arg;
	const unsigned depth = guard_suspend();
	struct ctl_msg msg = {.type = CTL_HELLO};

	(void)snprintf(msg.u.hello.device, sizeof(msg.u.hello.device), "peer%u", p->index);
	msg.u.hello.slab_bytes =
		SIM_SLAB_BYTES * (p->is_hostile && rng_percent(rng(p), 10) ? 2 : 1);
	sim_entropy(p->host.sim, msg.u.hello.nonce, sizeof(msg.u.hello.nonce));
	(void)say(p, msg);
	guard_resume(depth);
}

static void
mapped(struct sim_peer *p, const struct ctl_mr_info *info)
{
	struct sim_peer_slab *s;

	/* What it garbled may have been a MAP of any slab. */
	if (info->slab >= SIM_PEER_SLABS && p->is_hostile)
		return;
	if (info->slab >= SIM_PEER_SLABS || info->generation == 0)
		sim_fail(DAEMON_4, "MR_INFO of slab %u that was not asked for", info->slab);
	s = &p->slabs[info->slab];
	if (s->is_mapped && !s->is_evicted)
		sim_fail(DAEMON_1, "slab %u of a client is mapped twice", info->slab);
	*s = (struct sim_peer_slab){.info = *info, .is_mapped = true, .generation = s->generation};
	p->host.sim->n_peer_maps++;
}

static void
unmapped(struct sim_peer *p, struct sim_peer_slab *s, const struct ctl_unmap *u)
{
	if (!p->has_garbled && (!s->is_unmapping || s->generation != u->generation))
		sim_fail(DAEMON_1, "slab %u of a client is unmapped that it did not ask for",
			 u->slab);
	s->is_mapped = false;
	s->is_unmapping = false;
	s->was_unmapped = true;
	p->host.sim->n_peer_unmaps++;
}

/* An UNMAP is refused when the daemon has taken the slab by force meanwhile. */
static void
refused(struct sim_peer *p, uint32_t request_id)
{
	for (uint32_t i = 0; i < SIM_PEER_SLABS; i++) {
		struct sim_peer_slab *s = &p->slabs[i];

		if (s->map_id == request_id)
			s->map_id = 0;
		if (!s->is_unmapping || s->unmap_id != request_id)
			continue;
		s->is_unmapping = false;
		/* When the memory cannot be reached any more was not said: not tried. */
		s->is_mapped = p->has_garbled && s->is_mapped;
	}
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct sim_peer *p = arg;
	const unsigned depth = guard_suspend();
	struct ctl_msg msg, answer = {.type = CTL_AUTH};
	struct auth_psk psk;

	if (ctl_decode(bytes, length_bytes, &msg) < 0)
		sim_fail(DAEMON_4, "a daemon said what cannot be decoded");
	if (msg.type == CTL_WELCOME)
		p->is_joined = true;
	if (msg.type == CTL_MR_INFO)
		mapped(p, &msg.u.mr_info);
	if (msg.type == CTL_CHECK_ACTIVITY || msg.type == CTL_EVICT)
		wanted_back(p, &msg);
	if (msg.type == CTL_REFUSED)
		refused(p, msg.request_id);
	if (msg.type == CTL_UNMAPPED && msg.u.unmap.slab < SIM_PEER_SLABS)
		unmapped(p, &p->slabs[msg.u.unmap.slab], &msg.u.unmap);
	if (msg.type == CTL_CHALLENGE) {
		sim_psk(&psk);
		auth_proof(&psk, AUTH_CLIENT, p->hello, p->hello_bytes, msg.u.challenge.nonce,
			   answer.u.auth.proof);
		(void)say(p, answer);
	}
	guard_resume(depth);
}

static void
down_cb(void *arg, int reason)
{
	struct sim_peer *p = arg;

	(void)reason;
	assert(!p->op_is_busy);
	p->conn = NULL;
	p->is_joined = false;
	p->has_garbled = false;
	memset(p->slabs, 0, sizeof(p->slabs));
}

static const struct tp_conn_events peer_events = {
	.up = up_cb,
	.message = message_cb,
	.down = down_cb,
};

static void
tick_cb(struct sim_event *ev)
{
	struct sim_peer *p = container_of(ev, struct sim_peer, tick_ev);
	struct sim *sim = p->host.sim;
	/* Quick enough to meet others, slow enough not to be all that happens. */
	const uint64_t pause_ns = 1 + sim->plan.end_ns / 60;

	if (p->is_ending)
		return;
	if (p->conn)
		act(p);
	else
		(void)tp_connect(p->host.tp, p->address, sim->plan.connect_timeout_ns, &peer_events,
				 p, &p->conn);
	sim_clock_at(&sim->clock, ev, sim_now(sim) + rng_between(&sim->rng, 1, 2 * pause_ns));
}

static uint64_t
turn(struct sim_host *h)
{
	(void)h;
	return UINT64_MAX;
}

void
sim_peer_init(struct sim_peer *p, struct sim *sim, uint32_t index)
{
	uint8_t *buf = p->buf;

	memset(p, 0, sizeof(*p));
	sim_host_init(&p->host, sim, SIM_DEVICES_MAX + SIM_DAEMONS_MAX + index, turn);
	p->buf = buf ? buf : guard_alloc(SIM_PEER_BYTES);
	p->index = index;
	p->tick_ev.fire = tick_cb;
}

void
sim_peer_start(struct sim_peer *p)
{
	struct sim *sim = p->host.sim;
	int r;

	p->host.is_up = true;
	p->host.tp = sim_tp_new(&sim->net, &p->host);
	p->daemon = rng_below(&sim->rng, sim->plan.n_daemons);
	p->is_hostile = rng_percent(&sim->rng, 50);
	if (p->is_hostile && sim->plan.has_control)
		p->manner = (enum sim_peer_manner)(1 + rng_below(&sim->rng, 2));
	(void)snprintf(p->address, sizeof(p->address), "%u", SIM_DEVICES_MAX + p->daemon);
	r = tp_region_register(p->host.tp, p->buf, SIM_PEER_BYTES, TP_LEND_NOT, &p->region);
	assert(r == 0);
	(void)r;
	sim_clock_at(&sim->clock, &p->tick_ev, sim_now(sim));
}

void
sim_peer_calm(struct sim_peer *p)
{
	p->is_ending = true;
	sim_clock_cancel(&p->host.sim->clock, &p->tick_ev);
}

bool
sim_peer_is_answered(const struct sim_peer *p)
{
	const struct sim_conn *c = p->conn ? sim_conn_of(p->conn) : NULL;

	/* Nor is anything to be expected of a daemon that is gone. */
	if (!c || p->is_hostile || c->is_ending || !c->peer || c->peer->is_ending)
		return true;
	for (uint32_t i = 0; i < SIM_PEER_SLABS; i++)
		if (p->slabs[i].is_unmapping)
			return false;
	return true;
}

void
sim_peer_stop(struct sim_peer *p)
{
	struct sim *sim = p->host.sim;

	if (!p->conn)
		return;
	if (rng_percent(&sim->rng, 50)) {
		tp_close(p->conn);
		return;
	}
	/* The machine is gone, without a word. */
	p->host.is_off = true;
	sim_net_drop_host(&sim->net, &p->host, false);
	p->op_is_busy = false;
	p->conn = NULL;
}

bool
sim_peer_is_gone(const struct sim_peer *p)
{
	return p->conn == NULL;
}

void
sim_peer_end(struct sim_peer *p)
{
	(void)tp_region_release(p->region);
	sim_tp_free(p->host.tp);
	p->host.tp = NULL;
	p->host.is_up = false;
}
