/* SPDX-License-Identifier: MIT */
#include "programs/doctor_session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "nbd_server/server_config_file.h"

#define HELLO_ID 1u

static void
finish(struct doctor_session *s, enum doctor_session_end end, int error)
{
	if (s->end != DOCTOR_SESSION_OPEN)
		return;
	s->end = end;
	s->error = error;
	if (s->conn)
		tp_close(s->conn);
	s->done(s->arg);
}

static void
send_bytes(struct doctor_session *s, const void *bytes, size_t length_bytes)
{
	const int r = tp_send(s->conn, bytes, length_bytes);

	if (r < 0)
		finish(s, DOCTOR_SESSION_UNREACHED, r);
}

static void
up_cb(void *arg)
{
	struct doctor_session *s = arg;
	struct ctl_msg msg = {.type = CTL_HELLO, .request_id = HELLO_ID};
	struct ctl_hello *hello = &msg.u.hello;

	if (s->end != DOCTOR_SESSION_OPEN)
		return;
	s->is_up = true;
	if (getrandom(hello->client_id, sizeof(hello->client_id), 0) < 0 ||
	    getrandom(hello->nonce, sizeof(hello->nonce), 0) < 0) {
		finish(s, DOCTOR_SESSION_UNREACHED, -errno);
		return;
	}
	(void)snprintf(hello->device, sizeof(hello->device), "%s", s->config->name);
	hello->slab_bytes = s->config->slab_bytes;
	s->hello_bytes = ctl_encode(&msg, s->hello);
	send_bytes(s, s->hello, s->hello_bytes);
}

static void
on_challenge(struct doctor_session *s, const struct ctl_challenge *challenge)
{
	const struct auth_psk *psk = &s->config->psk;
	struct ctl_msg msg = {.type = CTL_AUTH, .request_id = HELLO_ID};
	uint8_t buf[CTL_MESSAGE_BYTES_MAX], proof[CTL_PROOF_BYTES];

	if (psk->length_bytes == 0) {
		finish(s, DOCTOR_SESSION_PSK_ASKED, -EACCES);
		return;
	}
	auth_proof(psk, AUTH_DAEMON, s->hello, s->hello_bytes, challenge->nonce, proof);
	if (!auth_proof_equal(proof, challenge->proof)) {
		finish(s, DOCTOR_SESSION_PSK_DIFFERS, -EACCES);
		return;
	}
	s->is_proven = true;
	auth_proof(psk, AUTH_CLIENT, s->hello, s->hello_bytes, challenge->nonce, msg.u.auth.proof);
	send_bytes(s, buf, ctl_encode(&msg, buf));
}

static void
on_welcome(struct doctor_session *s, const struct ctl_welcome *welcome)
{
	if (s->config->psk.length_bytes > 0 && !s->is_proven) {
		finish(s, DOCTOR_SESSION_PSK_IGNORED, -EACCES);
		return;
	}
	if (welcome->slab_bytes != s->config->slab_bytes) {
		finish(s, DOCTOR_SESSION_PROTOCOL, -EPROTO);
		return;
	}
	s->free_slabs = welcome->free_slabs;
	s->total_slabs = welcome->total_slabs;
	finish(s, DOCTOR_SESSION_WELCOME, 0);
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct doctor_session *s = arg;
	struct ctl_msg msg;

	if (s->end != DOCTOR_SESSION_OPEN)
		return;
	if (ctl_decode(bytes, length_bytes, &msg) < 0) {
		finish(s, DOCTOR_SESSION_PROTOCOL, -EPROTO);
	} else if (msg.type == CTL_REFUSED) {
		s->reason = msg.u.refused.reason;
		memcpy(s->text, msg.u.refused.text, sizeof(s->text));
		finish(s, DOCTOR_SESSION_REFUSED, -ECONNREFUSED);
	} else if (msg.type == CTL_CHALLENGE && !s->is_proven) {
		on_challenge(s, &msg.u.challenge);
	} else if (msg.type == CTL_WELCOME) {
		on_welcome(s, &msg.u.welcome);
	} else {
		finish(s, DOCTOR_SESSION_PROTOCOL, -EPROTO);
	}
}

static void
down_cb(void *arg, int reason)
{
	struct doctor_session *s = arg;

	s->conn = NULL;
	finish(s, DOCTOR_SESSION_UNREACHED, reason < 0 ? reason : -ECONNRESET);
}

void
doctor_session_start(struct doctor_session *s, struct tp *tp, const char *address,
		     uint64_t timeout_ns)
{
	static const struct tp_conn_events events = {
		.up = up_cb,
		.message = message_cb,
		.down = down_cb,
	};
	const int r = tp_connect(tp, address, timeout_ns, &events, s, &s->conn);

	if (r < 0) {
		s->conn = NULL;
		finish(s, DOCTOR_SESSION_UNREACHED, r);
	}
}

void
doctor_session_give_up(struct doctor_session *s)
{
	finish(s, s->is_up ? DOCTOR_SESSION_SILENT : DOCTOR_SESSION_UNREACHED, -ETIMEDOUT);
}
