/* SPDX-License-Identifier: MIT */
/*
 * Arbitrary clients of the daemon core: any message in any state, bytes that are
 * none, accesses, closes and cuts, answers to the daemon's requests, with the steps of
 * the fake network, memory that fails or runs short, a drain, and time between them.  The input is the list of what happens.
 *
 * Held: the invariants of unit/daemon after every step; at the end every slab is
 * back and zeroed, and the daemon stops.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fuzz.h"
#include "unit/daemon/fixture.h"

#define PEERS 5u
#define OPERATIONS 16u
#define MAPPED_MAX 16u
#define ASKED_MAX 8u
#define HOST_SLABS 32u
#define FAILURES_MAX 48u
#define PSK "the key of all of them"

struct peer {
	struct fx_client *client; /* NULL: none */
	struct ctl_mr_info mapped[MAPPED_MAX];
	uint32_t mapped_count;		 /* ever; the newest are kept */
	struct ctl_msg asked[ASKED_MAX]; /* of the daemon, the newest */
	uint32_t asked_count;
	struct ctl_challenge challenge;
	struct tp_op op;
	bool is_op_posted;
};

struct world {
	struct fx *fx;
	struct peer peers[PEERS];
	uint32_t failures;
};

static bool
can_speak(const struct peer *p)
{
	return p->client && p->client->conn && p->client->up;
}

static void
op_done_cb(struct tp_op *op, int status)
{
	struct peer *p = container_of(op, struct peer, op);

	(void)status;
	FUZZ_CHECK(p->is_op_posted);
	p->is_op_posted = false;
}

/* Through a mapping of now or of former times. */
static void
post(struct peer *p, struct fuzz_input *in)
{
	const uint8_t how = fuzz_u8(in);
	const struct ctl_mr_info *info = &p->mapped[how / 8 % MAPPED_MAX];

	if (!can_speak(p) || p->is_op_posted || !info->rkey)
		return;
	p->op = (struct tp_op){
		.kind = how & 1 ? TP_OP_READ : TP_OP_WRITE,
		.length_bytes = sizeof(p->client->buf),
		.region = p->client->region,
		.buf = p->client->buf,
		.remote_addr = info->addr + (how & 2 ? 4096 : 0) + (how & 4 ? FX_SLAB_BYTES : 0),
		.rkey = info->rkey,
		.done = op_done_cb,
	};
	p->is_op_posted = true;
	tp_post(p->client->conn, &p->op);
}

static void
read_inbox(struct peer *p)
{
	struct fx_client *c = p->client;

	while (c && c->taken != c->received) {
		const struct ctl_msg *msg = &c->inbox[c->taken++ % FX_INBOX];

		if (msg->type == CTL_MR_INFO)
			p->mapped[p->mapped_count++ % MAPPED_MAX] = msg->u.mr_info;
		else if (msg->type == CTL_CHECK_ACTIVITY || msg->type == CTL_EVICT)
			p->asked[p->asked_count++ % ASKED_MAX] = *msg;
		else if (msg->type == CTL_CHALLENGE)
			p->challenge = msg->u.challenge;
	}
}

static void
say(struct peer *p, const void *bytes, size_t length)
{
	if (can_speak(p) && length > 0 && length <= TP_MESSAGE_BYTES_MAX)
		(void)tp_send(p->client->conn, bytes, length);
}

/* The message is well formed; whether it makes sense is the input's. */
static struct ctl_msg
message(struct world *w, struct peer *p, struct fuzz_input *in)
{
	struct ctl_msg msg = {.type = (enum ctl_type)(1 + fuzz_below(in, CTL_DONE))};
	const uint8_t how = fuzz_u8(in);

	if (msg.type == CTL_HELLO)
		msg = fx_hello(p->client);
	if (msg.type == CTL_HELLO && how & 1)
		msg.u.hello.slab_bytes *= 2;
	if (msg.type == CTL_MAP || msg.type == CTL_UNMAP || msg.type >= CTL_CHECK_ACTIVITY) {
		msg.u.map.slab = how % 8;
		msg.u.map.generation = how / 8 % 4;
	}
	if (msg.type == CTL_AUTH)
		auth_proof(&w->fx->config.psk, how & 1 ? AUTH_DAEMON : AUTH_CLIENT,
			   p->client->hello, p->client->hello_bytes, p->challenge.nonce,
			   msg.u.auth.proof);
	msg.request_id = how & 0x80 ? fuzz_u8(in) : ++p->client->last_id;
	msg.version = how & 0x40 ? fuzz_u16(in) : 0;
	return msg;
}

static void
say_message(struct world *w, struct peer *p, struct fuzz_input *in, bool is_broken)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	struct ctl_msg msg;
	size_t length;

	if (!can_speak(p))
		return;
	msg = message(w, p, in);
	length = ctl_encode(&msg, buf);
	if (msg.type == CTL_HELLO) {
		memcpy(p->client->hello, buf, length);
		p->client->hello_bytes = length;
	}
	if (is_broken) {
		buf[fuzz_u8(in) % length] ^= fuzz_u8(in);
		length = 1 + (length + fuzz_u8(in)) % sizeof(buf);
	}
	say(p, buf, length);
}

/* A client of the name is connected, or one that is down makes room. */
static void
come(struct world *w, struct peer *p)
{
	if (p->client && !p->client->conn) {
		FUZZ_CHECK(!p->is_op_posted);
		fx_client_free(p->client);
		p->client = NULL;
	}
	if (!p->client) {
		*p = (struct peer){0};
		p->client = fx_connect(w->fx);
	}
}

static void
fail_next(struct world *w, struct fuzz_input *in)
{
	static const enum fake_kind kinds[] = {FAKE_OP, FAKE_GRANTED, FAKE_REVOKED, FAKE_UP};
	const uint8_t how = fuzz_u8(in);

	if (w->failures++ < FAILURES_MAX)
		fake_net_fail(w->fx->net, kinds[how % 4], how & 4 ? -EIO : 0);
}

static void
hold(struct world *w, struct fuzz_input *in)
{
	const uint8_t how = fuzz_u8(in);

	fake_net_hold(w->fx->net, (enum fake_kind)(1 + how % (FAKE_KINDS - 1)), how & 0x80);
}

static void
step_memory(struct world *w, struct fuzz_input *in)
{
	const unsigned pending = fake_slab_memory_pending(w->fx->memory);
	const uint8_t how = fuzz_u8(in);

	if (pending > 0)
		(void)fake_slab_memory_step_at(w->fx->memory, how % pending,
					       how & 0x80 ? -ENOMEM : 0);
}

static void
step_net(struct world *w, struct fuzz_input *in)
{
	uint32_t steps = 1 + fuzz_below(in, 8);

	while (steps-- && fake_net_step_random(w->fx->net))
		continue;
}

static void
raw(struct peer *p, struct fuzz_input *in)
{
	size_t length;
	const uint8_t *bytes = fuzz_take(in, (size_t)fuzz_u8(in) * 2, &length);

	say(p, bytes, length);
}

/* To what the daemon has asked, or nearly. */
static void
answer(struct peer *p, struct fuzz_input *in)
{
	const uint8_t how = fuzz_u8(in);
	const struct ctl_msg *asked = &p->asked[how % ASKED_MAX];
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	struct ctl_msg msg = {.type = CTL_DONE, .request_id = asked->request_id};

	if (!can_speak(p) || asked->request_id == 0)
		return;
	/* All four begin with the slab and its generation. */
	msg.u.activity.slab = asked->u.unmap.slab;
	msg.u.activity.generation = asked->u.unmap.generation;
	if ((asked->type == CTL_CHECK_ACTIVITY) != (how == 0xff)) {
		msg.type = CTL_ACTIVITY;
		msg.u.activity.milli_pages_per_second = how & 8 ? UINT64_MAX : how;
	}
	msg.request_id += how == 0xfe;
	msg.u.activity.slab += how == 0xfd;
	msg.u.activity.generation += how == 0xfc;
	say(p, buf, ctl_encode(&msg, buf));
}

static void
tell_memory(struct world *w, uint32_t available_slabs, uint32_t psi_centi)
{
	const struct daemon_memory memory = {HOST_SLABS * FX_SLAB_BYTES,
					     available_slabs * FX_SLAB_BYTES, psi_centi};

	daemon_host_memory(w->fx->daemon, &memory);
}

/* The host's memory; seldom, the daemon is told to stop. */
static void
control(struct world *w, struct fuzz_input *in)
{
	const uint8_t how = fuzz_u8(in);

	if (how != 0xff)
		tell_memory(w, how % HOST_SLABS, how & 0x80 ? 5000 : 0);
	else if (!w->fx->stopping)
		fx_drain(w->fx, fuzz_u8(in) * 100 * FX_MSEC);
}

static void
operate(struct world *w, struct fuzz_input *in)
{
	const uint8_t op = fuzz_u8(in);
	struct peer *p = &w->peers[op / OPERATIONS % PEERS];
	struct fx *fx = w->fx;

	switch (op % OPERATIONS) {
	case 0:
		come(w, p);
		break;
	case 1:
		say_message(w, p, in, false);
		break;
	case 2:
		if (op & 0x80)
			control(w, in);
		else
			answer(p, in);
		break;
	case 3:
		say_message(w, p, in, true);
		break;
	case 4:
		raw(p, in);
		break;
	case 5:
		post(p, in);
		break;
	case 6:
		if (p->client && p->client->conn)
			tp_close(p->client->conn);
		break;
	case 7:
		if (p->client && p->client->conn)
			fake_net_cut(p->client->conn, -ECONNRESET);
		break;
	case 8:
		fx->now_ns += fuzz_u16(in) * FX_MSEC;
		break;
	case 9:
		fx->next_ns = daemon_advance(fx->daemon, fx->now_ns);
		break;
	case 10:
		step_net(w, in);
		break;
	case 11:
		(void)fake_net_step_kind(
			fx->net, (enum fake_kind)(1 + fuzz_below(in, FAKE_KINDS - 1)), NULL);
		break;
	case 12:
		step_memory(w, in);
		break;
	case 13:
		fail_next(w, in);
		break;
	case 14:
		hold(w, in);
		break;
	default:
		if (p->client && p->client->conn && op & 0x80)
			fake_conn_set_deaf(p->client->conn, true);
		else
			fake_tp_refuse_grants(fx->server, fuzz_u8(in) & 1 ? -ENOMEM : 0);
		break;
	}
}

/* Everything works again and everybody goes. */
static void
end(struct world *w)
{
	struct fx *fx = w->fx;
	struct daemon_stats stats;

	for (int kind = 1; kind < FAKE_KINDS; kind++)
		fake_net_hold(fx->net, (enum fake_kind)kind, false);
	fake_tp_refuse_grants(fx->server, 0);
	for (uint32_t i = 0; i < PEERS; i++)
		if (w->peers[i].client)
			fx_client_free(w->peers[i].client);
	for (uint32_t i = 0; i < 60; i++) {
		tell_memory(w, HOST_SLABS, 0);
		fx_sleep(fx, 2000 * FX_MSEC);
	}
	stats = fx_stats(fx);
	FUZZ_CHECK(stats.connections == 0 && stats.slabs_evicting == 0);
	FUZZ_CHECK(fx->stopping || stats.slabs_free + stats.slabs_lost == FX_SLABS);
	for (uint32_t slot = 0; slot < FX_SLABS && stats.slabs_lost == 0 && !fx->stopping; slot++)
		FUZZ_CHECK(fake_slab_memory_is_zero(fx->memory, slot));
	fx_free(fx);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	/* The fixture's assertions, outside of a test of cmocka. */
	return setenv("CMOCKA_TEST_ABORT", "1", 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	const uint8_t how = fuzz_u8(&in);
	struct world w = {.fx = fx_new(1 + how / 2)};

	if (how & 1)
		fx_set_psk(w.fx, PSK);
	fx_start(w.fx);
	while (in.left) {
		operate(&w, &in);
		for (uint32_t i = 0; i < PEERS; i++)
			read_inbox(&w.peers[i]);
		fx_check_invariants(w.fx);
	}
	end(&w);
	return 0;
}
