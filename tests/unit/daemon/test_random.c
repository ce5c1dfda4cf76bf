/* SPDX-License-Identifier: MIT */
/*
 * Arbitrary clients: seeded sequences of every message in every state, garbage,
 * memory and grant failures, cuts and time, with the invariants looked at
 * after every step.
 *
 * Each client stamps what it writes with its own byte.  daemon-1: what a
 * new mapping reads is zeros.  daemon-2: an access that succeeds after UNMAPPED
 * would be seen by the fake transport as one through a grant that is gone, and
 * the fake memory asserts that nothing reachable is zeroed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/daemon/fixture.h"
#include "wire/auth.h"

#define SEEDS 60u
#define STEPS 1500u
#define PEERS 6u
#define MAPPED_MAX 64u

struct peer {
	struct fx_client *client; /* NULL: none */
	struct ctl_mr_info mapped[MAPPED_MAX];
	bool is_fresh[MAPPED_MAX];
	unsigned mapped_count;
	struct ctl_msg challenge;
	bool has_challenge;
	bool has_joined;
	bool hello_is_out;
	bool auth_is_out;
	struct tp_op op;
	bool op_is_posted;
	bool op_reads_fresh;
	uint8_t stamp;
};

struct world {
	struct fx *fx;
	struct peer peers[PEERS];
	uint8_t next_stamp;
	uint64_t reads_checked;
	uint64_t writes_done;
	uint64_t welcomes;
};

static uint32_t
chance(struct world *w, uint32_t bound)
{
	return fake_net_random(w->fx->net, bound);
}

/* --- the peers --- */

static void
op_done_cb(struct tp_op *op, int status)
{
	struct peer *p = container_of(op, struct peer, op);

	p->op_is_posted = false;
	if (status == 0 && p->op_reads_fresh) {
		for (size_t i = 0; i < op->length_bytes; i++)
			assert_int_equal(p->client->buf[i], 0);
	}
}

static void
post_op(struct world *w, struct peer *p)
{
	unsigned i;

	if (p->mapped_count == 0 || p->op_is_posted || !p->client->conn)
		return;
	i = chance(w, p->mapped_count);
	p->op = (struct tp_op){
		.kind = chance(w, 2) ? TP_OP_READ : TP_OP_WRITE,
		.length_bytes = sizeof(p->client->buf),
		.region = p->client->region,
		.buf = p->client->buf,
		.remote_addr = p->mapped[i].addr + 4096 * chance(w, 2),
		.rkey = p->mapped[i].rkey,
		.done = op_done_cb,
	};
	p->op_reads_fresh = p->is_fresh[i] && p->op.kind == TP_OP_READ;
	w->reads_checked += p->op_reads_fresh;
	if (p->op.kind == TP_OP_WRITE) {
		memset(p->client->buf, p->stamp, sizeof(p->client->buf));
		p->is_fresh[i] = false;
		w->writes_done++;
	}
	p->op_is_posted = true;
	tp_post(p->client->conn, &p->op);
}

static void
forget(struct peer *p, const struct ctl_unmap *unmapped)
{
	for (unsigned i = 0; i < p->mapped_count; i++) {
		if (p->mapped[i].slab != unmapped->slab)
			continue;
		p->mapped_count--;
		p->mapped[i] = p->mapped[p->mapped_count];
		p->is_fresh[i] = p->is_fresh[p->mapped_count];
		return;
	}
}

static void
read_inbox(struct world *w, struct peer *p)
{
	struct fx_client *c = p->client;

	while (c->taken != c->received) {
		const struct ctl_msg *msg = &c->inbox[c->taken++ % FX_INBOX];

		if (msg->type == CTL_MR_INFO && p->mapped_count < MAPPED_MAX) {
			p->is_fresh[p->mapped_count] = true;
			p->mapped[p->mapped_count++] = msg->u.mr_info;
		} else if (msg->type == CTL_UNMAPPED && chance(w, 20)) {
			/* One in 20 is forgotten: an access after revocation. */
			forget(p, &msg->u.unmap);
		} else if (msg->type == CTL_CHALLENGE) {
			p->challenge = *msg;
			p->has_challenge = true;
		} else if (msg->type == CTL_WELCOME) {
			w->welcomes++;
			p->has_joined = true;
		}
	}
}

static struct ctl_msg
random_message(struct world *w, struct peer *p)
{
	static const enum ctl_type sense[] = {CTL_MAP, CTL_MAP,	 CTL_MAP,	CTL_UNMAP,
					      CTL_MAP, CTL_PING, CTL_QUERY_MEM, CTL_MAP};
	struct ctl_msg msg = {.type = (enum ctl_type)(1 + chance(w, CTL_PONG))};

	/* Mostly sense, so that sessions get somewhere. */
	if (chance(w, 40))
		msg.type = sense[chance(w, 8)];
	if (msg.type == CTL_HELLO)
		msg = fx_hello(p->client);
	if (msg.type == CTL_MAP || msg.type == CTL_UNMAP) {
		msg.u.map.slab = chance(w, 8);
		msg.u.map.generation = chance(w, 200) ? 1 : 0;
	}
	if (chance(w, 200) == 0)
		msg.version = 2;
	return msg;
}

/* What a good client does first. */
static void
introduce(struct world *w, struct peer *p)
{
	struct ctl_msg msg = {.type = CTL_AUTH};

	if (!p->client->conn || !p->client->up)
		return;
	if (!p->hello_is_out) {
		p->hello_is_out = true;
		(void)fx_send(p->client, fx_hello(p->client));
		return;
	}
	if (!p->has_challenge || p->auth_is_out)
		return;
	p->auth_is_out = true;
	auth_proof(&w->fx->config.psk, AUTH_CLIENT, p->client->hello, p->client->hello_bytes,
		   p->challenge.u.challenge.nonce, msg.u.auth.proof);
	(void)fx_send(p->client, msg);
}

static void
say(struct world *w, struct peer *p)
{
	struct ctl_msg msg = random_message(w, p);
	uint8_t buf[TP_MESSAGE_BYTES_MAX];
	size_t length;

	if (!p->client->conn || !p->client->up)
		return;
	if (!p->has_joined && chance(w, 20)) {
		introduce(w, p);
		return;
	}
	if (msg.type == CTL_AUTH && p->has_challenge)
		auth_proof(&w->fx->config.psk, AUTH_CLIENT, p->client->hello,
			   p->client->hello_bytes, p->challenge.u.challenge.nonce,
			   msg.u.auth.proof);
	msg.request_id = chance(w, 200) ? 1 + chance(w, 1000) : 0;
	length = ctl_encode(&msg, buf);
	if (msg.type == CTL_HELLO) {
		memcpy(p->client->hello, buf, length);
		p->client->hello_bytes = length;
	}
	if (chance(w, 200) == 0)
		buf[chance(w, (uint32_t)length)] ^= (uint8_t)(1 + chance(w, 255));
	if (chance(w, 200) == 0)
		length = 1 + chance(w, TP_MESSAGE_BYTES_MAX);
	(void)tp_send(p->client->conn, buf, length);
}

static void
come_or_go(struct world *w, struct peer *p)
{
	if (!p->client) {
		*p = (struct peer){.stamp = (uint8_t)(++w->next_stamp | 1)};
		p->client = fx_connect(w->fx);
		introduce(w, p);
		return;
	}
	if (p->client->conn && chance(w, 8))
		return;
	if (p->client->conn && chance(w, 2))
		fake_net_cut(p->client->conn, -ECONNRESET);
	fx_client_free(p->client);
	p->client = NULL;
}

static void
disturb(struct world *w)
{
	struct fx *fx = w->fx;
	const uint32_t what = chance(w, 12);

	if (what == 0)
		fake_net_fail(fx->net, FAKE_GRANTED, -EIO);
	else if (what == 1)
		fake_net_fail(fx->net, FAKE_REVOKED, -EIO);
	else if (what == 2)
		fake_tp_refuse_grants(fx->server, chance(w, 3) ? 0 : -ENOMEM);
	else
		fx->now_ns += chance(w, 400) * FX_MSEC;
}

static void
step(struct world *w)
{
	struct fx *fx = w->fx;
	struct peer *p = &w->peers[chance(w, PEERS)];
	const uint32_t what = chance(w, 100);

	if (what < 4)
		come_or_go(w, p);
	else if (what < 25 && p->client)
		say(w, p);
	else if (what < 50 && p->client)
		post_op(w, p);
	else if (what < 53)
		disturb(w);
	else if (what < 60 && fake_slab_memory_pending(fx->memory) > 0)
		(void)fake_slab_memory_step_at(fx->memory,
					       chance(w, fake_slab_memory_pending(fx->memory)), 0);
	else if (what < 62)
		fx->next_ns = daemon_advance(fx->daemon, fx->now_ns);
	else
		(void)fake_net_step_random(fx->net);
	for (unsigned i = 0; i < PEERS; i++) {
		if (w->peers[i].client)
			read_inbox(w, &w->peers[i]);
	}
	fx_check_invariants(w->fx);
}

static void
run_seed(uint64_t seed, bool has_psk, struct world *w)
{
	*w = (struct world){.fx = fx_new(seed)};
	if (has_psk)
		fx_set_psk(w->fx, "the key of all of them");
	fx_start(w->fx);
	for (unsigned i = 0; i < STEPS; i++)
		step(w);
	fake_tp_refuse_grants(w->fx->server, 0);
	/* Everybody goes: every slab comes back, none is lost. */
	for (unsigned i = 0; i < PEERS; i++) {
		if (w->peers[i].client)
			fx_client_free(w->peers[i].client);
	}
	fx_sleep(w->fx, 60000 * FX_MSEC);
	assert_int_equal(fx_stats(w->fx).slabs_free, FX_SLABS);
	assert_int_equal(fx_stats(w->fx).connections, 0);
	for (uint32_t slot = 0; slot < FX_SLABS; slot++)
		assert_true(fake_slab_memory_is_zero(w->fx->memory, slot));
	fx_free(w->fx);
}

static void
sequences__keep_the_invariants(void **state)
{
	static struct world w;
	uint64_t reads = 0, writes = 0, welcomes = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		run_seed(seed, seed % 2, &w);
		reads += w.reads_checked;
		writes += w.writes_done;
		welcomes += w.welcomes;
	}
	/* The walk has been where it matters. */
	print_message("%llu welcomes, %llu fresh reads, %llu writes\n",
		      (unsigned long long)welcomes, (unsigned long long)reads,
		      (unsigned long long)writes);
	assert_true(welcomes > SEEDS && reads > SEEDS && writes > SEEDS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequences__keep_the_invariants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
