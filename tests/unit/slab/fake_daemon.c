/* SPDX-License-Identifier: MIT */
#include "fake_daemon.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bytes.h"

void
fake_daemon_send(struct fake_daemon *f, const struct ctl_msg *msg)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	const size_t n = ctl_encode(msg, buf);

	(void)tp_send(f->conn, buf, n);
}

static void
send_welcome(struct fake_daemon *f, uint32_t request_id, const struct tp_remote *epoch)
{
	const struct ctl_msg msg = {
		.type = CTL_WELCOME,
		.request_id = request_id,
		.version = f->lie == LIE_VERSION ? CTL_VERSION + 1 : 0,
		.u.welcome = {.slab_bytes =
				      f->lie == LIE_SLAB_SIZE ? f->slab_bytes * 2 : f->slab_bytes,
			      .epoch = FAKE_DAEMON_EPOCH,
			      .epoch_addr = epoch->addr,
			      .epoch_rkey = epoch->rkey,
			      .free_slabs = f->claimed_free ? f->claimed_free
					    : f->is_full    ? 0
							    : f->n_slabs - fake_daemon_lent(f),
			      .total_slabs = f->n_slabs},
	};

	fake_daemon_send(f, &msg);
}

static void
epoch_granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct fake_daemon *f = arg;
	struct tp_remote epoch = {0};

	if (status == 0)
		tp_grant_remote(grant, &epoch);
	send_welcome(f, f->hello_id, &epoch);
}

static void
welcome(struct fake_daemon *f, uint32_t request_id)
{
	const struct tp_remote nowhere = {0};

	f->hello_id = request_id;
	if (!f->has_epoch_page)
		send_welcome(f, request_id, &nowhere);
	else
		assert(tp_grant(f->conn, f->epoch_region, epoch_granted_cb, f, &f->epoch_grant) ==
		       0);
}

static void
on_hello(struct fake_daemon *f, const struct ctl_msg *in, const void *bytes, size_t length)
{
	struct ctl_msg msg = {.type = CTL_CHALLENGE, .request_id = in->request_id};

	const struct ctl_msg refused = {
		.type = CTL_REFUSED,
		.request_id = in->request_id,
		.u.refused = {.reason = f->refuse_reason, .text = "go away"},
	};

	f->n_hellos++;
	if (f->refuse_reason != 0) {
		fake_daemon_send(f, &refused);
		return;
	}
	if (f->lie == LIE_HELLO_GARBAGE) {
		(void)tp_send(f->conn, "garbage", 7);
		return;
	}
	if (f->lie == LIE_HELLO_PONG) {
		msg.type = CTL_PONG;
		fake_daemon_send(f, &msg);
		return;
	}
	memcpy(f->hello, bytes, length);
	f->hello_bytes = length;
	if (f->psk.length_bytes == 0) {
		welcome(f, in->request_id);
		return;
	}
	memset(f->nonce, 7, sizeof(f->nonce));
	memcpy(msg.u.challenge.nonce, f->nonce, sizeof(f->nonce));
	auth_proof(&f->psk, AUTH_DAEMON, f->hello, f->hello_bytes, f->nonce, msg.u.challenge.proof);
	fake_daemon_send(f, &msg);
}

static void
on_auth(struct fake_daemon *f, const struct ctl_msg *in)
{
	uint8_t proof[CTL_PROOF_BYTES];

	auth_proof(&f->psk, AUTH_CLIENT, f->hello, f->hello_bytes, f->nonce, proof);
	assert(auth_proof_equal(proof, in->u.auth.proof));
	welcome(f, in->request_id);
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct fake_daemon_slab *s = arg;
	struct fake_daemon *f = s->daemon;
	struct tp_remote remote;
	struct ctl_msg msg = {.type = CTL_MR_INFO, .request_id = s->request_id};

	if (status < 0) {
		s->grant = NULL;
		return;
	}
	s->is_granted = true;
	tp_grant_remote(grant, &remote);
	msg.u.mr_info = (struct ctl_mr_info){
		.slab = s->slab + (f->lie == LIE_MR_SLAB ? 1000000 : 0),
		.generation = s->generation + (f->lie == LIE_MR_GENERATION ? 1 : 0),
		.addr = f->lie == LIE_MR_OVERFLOW ? UINT64_MAX - 4096 : remote.addr,
		.length_bytes = remote.length_bytes / (f->lie == LIE_MR_LENGTH ? 2 : 1),
		.rkey = remote.rkey,
	};
	fake_daemon_send(f, &msg);
}

struct fake_daemon_slab *
fake_daemon_find(struct fake_daemon *f, uint32_t slab)
{
	for (uint32_t i = 0; i < f->n_slabs; i++)
		if (f->slabs[i].grant && f->slabs[i].slab == slab)
			return &f->slabs[i];
	return NULL;
}

static void
ask(struct fake_daemon *f, enum ctl_type type, uint32_t slab, uint32_t deadline_ms)
{
	const struct fake_daemon_slab *s = fake_daemon_find(f, slab);
	struct ctl_msg msg = {.type = type, .request_id = ++f->n_requests};

	assert(s && f->conn);
	msg.u.evict = (struct ctl_evict){slab, s->generation, deadline_ms};
	fake_daemon_send(f, &msg);
}

void
fake_daemon_evict(struct fake_daemon *f, uint32_t slab, uint32_t deadline_ms)
{
	ask(f, CTL_EVICT, slab, deadline_ms);
}

void
fake_daemon_check_activity(struct fake_daemon *f, uint32_t slab)
{
	ask(f, CTL_CHECK_ACTIVITY, slab, 0);
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct fake_daemon_slab *s = arg;
	const struct ctl_msg answer = {
		.type = CTL_UNMAPPED,
		.request_id = s->unmap_request_id,
		.u.unmap = {.slab = s->slab, .generation = s->generation},
	};

	(void)grant;
	if (status < 0)
		return; /* down() follows */
	memset(s->memory, 0xdd, s->daemon->slab_bytes);
	s->grant = NULL;
	s->is_granted = false;
	s->is_revoking = false;
	if (s->unmap_request_id != 0)
		fake_daemon_send(s->daemon, &answer);
	s->unmap_request_id = 0;
}

void
fake_daemon_revoke(struct fake_daemon_slab *s)
{
	assert(s->is_granted && !s->is_revoking);
	s->is_revoking = true;
	tp_revoke(s->grant, revoked_cb, s);
}

/* Whoever looks at its memory now finds garbage. */
static void
take_back(struct fake_daemon_slab *s)
{
	memset(s->memory, 0xdd, s->daemon->slab_bytes);
	fake_daemon_revoke(s);
}

static void
on_done(struct fake_daemon *f, const struct ctl_msg *in)
{
	struct fake_daemon_slab *s = fake_daemon_find(f, in->u.unmap.slab);

	assert(in->request_id != 0);
	f->n_dones++;
	f->done_id = in->request_id;
	if (s && s->generation == in->u.unmap.generation && !s->is_revoking)
		take_back(s);
}

static void
on_unmap(struct fake_daemon *f, const struct ctl_msg *in)
{
	struct fake_daemon_slab *s = fake_daemon_find(f, in->u.unmap.slab);
	const struct ctl_msg refused = {
		.type = CTL_REFUSED,
		.request_id = in->request_id,
		.u.refused = {.reason = CTL_REASON_BAD_SLAB, .text = "not yours"},
	};

	f->n_unmaps++;
	if (!s || s->generation != in->u.unmap.generation || s->is_revoking) {
		fake_daemon_send(f, &refused);
		return;
	}
	s->unmap_request_id = in->request_id;
	take_back(s);
}

static void
on_map(struct fake_daemon *f, const struct ctl_msg *in)
{
	struct ctl_msg refused = {
		.type = CTL_REFUSED,
		.request_id = in->request_id,
		.u.refused = {.reason = CTL_REASON_NO_MEMORY, .text = "none"},
	};

	f->n_maps++;
	if (fake_daemon_find(f, in->u.map.slab)) {
		refused.u.refused.reason = CTL_REASON_BAD_SLAB;
		fake_daemon_send(f, &refused);
		return;
	}
	if (f->lie == LIE_MAP_MUTE)
		return;
	if (f->lie == LIE_GARBAGE) {
		(void)tp_send(f->conn, "garbage", 7);
		return;
	}
	for (uint32_t i = 0; i < f->n_slabs && !f->is_full && f->lie != LIE_MAP_REFUSED; i++) {
		struct fake_daemon_slab *s = &f->slabs[i];

		if (s->grant)
			continue;
		memset(s->memory, 0, f->slab_bytes);
		s->slab = in->u.map.slab;
		s->generation = in->u.map.generation;
		s->request_id = in->request_id;
		assert(tp_grant(f->conn, s->region, granted_cb, s, &s->grant) == 0);
		return;
	}
	fake_daemon_send(f, &refused);
}

static void
on_query(struct fake_daemon *f, const struct ctl_msg *in)
{
	const struct ctl_msg msg = {
		.type = CTL_FREE_MEM,
		.request_id = in->request_id,
		.u.free_mem = {.free_slabs = f->is_full ? 0 : f->n_slabs - fake_daemon_lent(f),
			       .total_slabs = f->n_slabs,
			       .usage_permille = f->usage_permille},
	};

	f->n_queries++;
	f->query_id = in->request_id;
	if (f->lie != LIE_QUERY_MUTE)
		fake_daemon_send(f, &msg);
}

static void
message_cb(void *arg, const void *bytes, size_t length)
{
	struct fake_daemon *f = arg;
	struct ctl_msg msg;
	const struct ctl_msg pong = {.type = CTL_PONG, .request_id = 0};
	struct ctl_msg answer = pong;

	assert(ctl_decode(bytes, length, &msg) == 0);
	if (f->lie == LIE_MUTE)
		return;
	switch (msg.type) {
	case CTL_HELLO:
		on_hello(f, &msg, bytes, length);
		return;
	case CTL_AUTH:
		on_auth(f, &msg);
		return;
	case CTL_QUERY_MEM:
		on_query(f, &msg);
		return;
	case CTL_MAP:
		on_map(f, &msg);
		return;
	case CTL_UNMAP:
		on_unmap(f, &msg);
		return;
	case CTL_DONE:
		on_done(f, &msg);
		return;
	case CTL_ACTIVITY:
		assert(msg.request_id != 0);
		f->n_activities++;
		f->activity = msg.u.activity;
		return;
	case CTL_PING:
		f->n_pings++;
		if (f->lie == LIE_PING_MUTE)
			return;
		answer.request_id = msg.request_id;
		fake_daemon_send(f, &answer);
		return;
	default:
		assert(!"a message that the device should not send");
	}
}

static void
down_cb(void *arg, int reason)
{
	struct fake_daemon *f = arg;

	(void)reason;
	for (uint32_t i = 0; i < f->n_slabs; i++) {
		if (f->slabs[i].grant)
			memset(f->slabs[i].memory, 0xee, f->slab_bytes);
		f->slabs[i].grant = NULL;
		f->slabs[i].is_granted = false;
		f->slabs[i].is_revoking = false;
		f->slabs[i].unmap_request_id = 0;
	}
	f->conn = NULL;
}

static const struct tp_conn_events events = {.message = message_cb, .down = down_cb};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct fake_daemon *f = arg;

	if (f->conn) { /* the old one is not down yet */
		tp_close(conn);
		return;
	}
	f->conn = conn;
	tp_accept(conn, &events, f);
}

void
fake_daemon_init(struct fake_daemon *f, struct fake_net *net, uint32_t index, uint64_t slab_bytes,
		 uint32_t n_slabs, const char *psk)
{
	assert(n_slabs <= FAKE_DAEMON_SLABS_MAX);
	*f = (struct fake_daemon){.slab_bytes = slab_bytes, .n_slabs = n_slabs};
	(void)snprintf(f->address, sizeof(f->address), "d%u:1", index);
	if (psk) {
		f->psk.length_bytes = strlen(psk);
		memcpy(f->psk.key, psk, f->psk.length_bytes);
	}
	f->tp = fake_tp_new(net);
	put_le64(f->epoch_page, FAKE_DAEMON_EPOCH);
	assert(tp_region_register(f->tp, f->epoch_page, sizeof(f->epoch_page), TP_LEND_READ,
				  &f->epoch_region) == 0);
	for (uint32_t i = 0; i < n_slabs; i++) {
		struct fake_daemon_slab *s = &f->slabs[i];

		s->daemon = f;
		s->memory = malloc(slab_bytes);
		assert(s->memory);
		assert(tp_region_register(f->tp, s->memory, slab_bytes, TP_LEND, &s->region) == 0);
	}
	fake_daemon_set_up(f, true);
}

void
fake_daemon_set_up(struct fake_daemon *f, bool up)
{
	if (up && !f->listener)
		assert(tp_listen(f->tp, f->address, incoming_cb, f, &f->listener) == 0);
	if (!up && f->listener) {
		tp_listener_close(f->listener);
		f->listener = NULL;
	}
}

void
fake_daemon_fini(struct fake_daemon *f)
{
	fake_daemon_set_up(f, false);
	assert(!f->conn);
	for (uint32_t i = 0; i < f->n_slabs; i++) {
		assert(tp_region_release(f->slabs[i].region) == 0);
		free(f->slabs[i].memory);
	}
	assert(tp_region_release(f->epoch_region) == 0);
	fake_tp_end(f->tp);
}

uint32_t
fake_daemon_lent(const struct fake_daemon *f)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < f->n_slabs; i++)
		n += f->slabs[i].grant ? 1 : 0;
	return n;
}

const uint8_t *
fake_daemon_memory(const struct fake_daemon *f, uint32_t slab)
{
	for (uint32_t i = 0; i < f->n_slabs; i++)
		if (f->slabs[i].grant && f->slabs[i].slab == slab)
			return f->slabs[i].memory;
	return NULL;
}
