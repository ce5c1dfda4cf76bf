/* SPDX-License-Identifier: MIT */
/*
 * Sessions: who may ask for what, and when a peer is given up.
 *
 * Happy path: HELLO, [CHALLENGE, AUTH,] WELCOME, then requests, each with its
 * answer, and FREE_MEM when the number changed.
 * Failure modes: a refusal of the session (REFUSED, then time to close), a
 * message that does not fit (tp_close()), silence (tp_close()), answers that the
 * peer does not take (tp_close()), the peer's own end.  All of them end in
 * down_cb(), which alone frees the slot.
 */
#include "daemon/client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core.h"
#include "daemon/eviction.h"
#include "daemon/lending.h"
#include "transport/transport.h"
#include "wire/auth.h"

static void
arm_timer(struct client *c, struct timers *queue)
{
	timer_arm(queue, &c->timer);
	c->daemon->touched = true;
}

static void __attribute__((format(printf, 2, 0)))
end_v(struct client *c, const char *fmt, va_list ap)
{
	if (c->state == CLIENT_CLOSING)
		return;
	if (c->why[0] == '\0')
		(void)vsnprintf(c->why, sizeof(c->why), fmt, ap);
	c->state = CLIENT_CLOSING;
	timer_disarm(&c->timer);
	tp_close(c->conn);
}

void
client_end(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_v(c, fmt, ap);
	va_end(ap);
}

void
client_protocol_error(struct client *c, const char *fmt, ...)
{
	va_list ap;

	c->daemon->counters.protocol_errors_total++;
	va_start(ap, fmt);
	end_v(c, fmt, ap);
	va_end(ap);
}

void
client_send(struct client *c, struct ctl_msg *msg)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	int r;

	if (c->state == CLIENT_CLOSING)
		return;
	r = tp_send(c->conn, buf, ctl_encode(msg, buf));
	if (r == -EAGAIN)
		client_end(c, "takes no answers");
	else if (r < 0 && r != -ENOTCONN) /* that one means: down() is on its way */
		client_end(c, "cannot send %s: %s", ctl_type_name(msg->type), strerror(-r));
}

static void __attribute__((format(printf, 4, 0)))
refuse_v(struct client *c, uint32_t request_id, enum ctl_reason reason, const char *fmt, va_list ap)
{
	struct ctl_msg msg = {.type = CTL_REFUSED, .request_id = request_id};

	msg.u.refused.reason = reason;
	(void)vsnprintf(msg.u.refused.text, sizeof(msg.u.refused.text), fmt, ap);
	c->daemon->counters.refused_total++;
	client_send(c, &msg);
}

void
client_refuse(struct client *c, uint32_t request_id, enum ctl_reason reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	refuse_v(c, request_id, reason, fmt, ap);
	va_end(ap);
}

/* Refuses the session: the peer reads why and closes, or is closed a little later. */
static void __attribute__((format(printf, 4, 5)))
reject(struct client *c, uint32_t request_id, enum ctl_reason reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	refuse_v(c, request_id, reason, fmt, ap);
	va_end(ap);
	if (c->state == CLIENT_CLOSING)
		return;
	(void)snprintf(c->why, sizeof(c->why), "refused: %s", ctl_reason_name(reason));
	c->state = CLIENT_REFUSED;
	arm_timer(c, &c->daemon->linger_timers);
}

/* @epoch: where the epoch can be read, or zeros. */
static void
send_welcome(struct client *c, const struct tp_remote *epoch)
{
	struct daemon *d = c->daemon;
	const uint32_t request_id = c->welcome_id;
	struct ctl_msg msg = {.type = CTL_WELCOME, .request_id = request_id};

	if (d->is_draining) {
		reject(c, request_id, CTL_REASON_STOPPING, "the daemon is stopping");
		return;
	}
	if (d->counters.clients >= d->config.max_clients) {
		reject(c, request_id, CTL_REASON_CLIENTS, "%u clients are served already",
		       d->counters.clients);
		return;
	}
	c->told_free = lending_free_slabs(c);
	d->quotas_changed = true;
	msg.u.welcome.slab_bytes = d->config.slab_bytes;
	msg.u.welcome.epoch = d->config.epoch;
	msg.u.welcome.free_slabs = c->told_free;
	msg.u.welcome.total_slabs = d->config.max_slabs;
	msg.u.welcome.epoch_addr = epoch->addr;
	msg.u.welcome.epoch_rkey = epoch->rkey;
	client_send(c, &msg);
	if (c->state == CLIENT_CLOSING)
		return;
	c->state = CLIENT_SERVING;
	c->has_joined = true;
	d->counters.clients++;
	d->counters.joined_total++;
	arm_timer(c, &d->client_timers);
	daemon_report(d, DAEMON_EVENT_JOINED, "client[%s]: joined, device %s",
		      tp_conn_name(c->conn), c->device);
}

static void
epoch_granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct client *c = arg;
	struct tp_remote epoch = {0};

	c->daemon->touched = true;
	if (c->state != CLIENT_GRANT_WAIT)
		return;
	if (status == 0)
		tp_grant_remote(grant, &epoch);
	send_welcome(c, &epoch);
}

/* Without the epoch page a client has PING only: it is served nevertheless. */
static void
welcome(struct client *c, uint32_t request_id)
{
	const struct daemon_config *config = &c->daemon->config;
	const struct tp_remote nowhere = {0};
	struct tp_region *region = NULL;

	c->welcome_id = request_id;
	if (config->epoch_region)
		region = config->epoch_region(config->epoch_region_arg, tp_of(c->conn));
	if (!region || tp_grant(c->conn, region, epoch_granted_cb, c, &c->epoch_grant) < 0) {
		send_welcome(c, &nowhere);
		return;
	}
	c->state = CLIENT_GRANT_WAIT;
}

static void
challenge(struct client *c, uint32_t request_id)
{
	struct daemon *d = c->daemon;
	struct ctl_msg msg = {.type = CTL_CHALLENGE, .request_id = request_id};

	d->config.entropy(d->config.entropy_arg, c->nonce, sizeof(c->nonce));
	auth_proof(&d->config.psk, AUTH_CLIENT, c->hello, c->hello_bytes, c->nonce,
		   c->expected_proof);
	memcpy(msg.u.challenge.nonce, c->nonce, sizeof(c->nonce));
	auth_proof(&d->config.psk, AUTH_DAEMON, c->hello, c->hello_bytes, c->nonce,
		   msg.u.challenge.proof);
	c->state = CLIENT_AUTH_WAIT;
	client_send(c, &msg);
}

static void
hello_wait(struct client *c, const struct ctl_msg *msg, const void *bytes, size_t length_bytes)
{
	const struct daemon_config *config = &c->daemon->config;

	if (msg->type != CTL_HELLO) {
		client_protocol_error(c, "%s before HELLO", ctl_type_name(msg->type));
		return;
	}
	memcpy(c->device, msg->u.hello.device, sizeof(c->device));
	if (msg->version != CTL_VERSION) {
		reject(c, msg->request_id, CTL_REASON_VERSION, "version %u is spoken here",
		       CTL_VERSION);
		return;
	}
	if (msg->u.hello.slab_bytes != config->slab_bytes) {
		reject(c, msg->request_id, CTL_REASON_SLAB_SIZE,
		       "slabs here have %" PRIu64 " bytes", config->slab_bytes);
		return;
	}
	if (config->psk.length_bytes == 0) {
		welcome(c, msg->request_id);
		return;
	}
	assert(length_bytes <= sizeof(c->hello));
	memcpy(c->hello, bytes, length_bytes);
	c->hello_bytes = (uint32_t)length_bytes;
	challenge(c, msg->request_id);
}

static void
auth_wait(struct client *c, const struct ctl_msg *msg)
{
	if (msg->type != CTL_AUTH) {
		client_protocol_error(c, "%s before AUTH", ctl_type_name(msg->type));
		return;
	}
	if (!auth_proof_equal(msg->u.auth.proof, c->expected_proof)) {
		reject(c, msg->request_id, CTL_REASON_AUTH, "the proof does not match");
		return;
	}
	welcome(c, msg->request_id);
}

static void
send_free_mem(struct client *c, uint32_t request_id)
{
	struct ctl_msg msg = {.type = CTL_FREE_MEM, .request_id = request_id};

	c->daemon->quotas_changed |= request_id != 0 && c->told_free != lending_free_slabs(c);
	c->told_free = lending_free_slabs(c);
	msg.u.free_mem.free_slabs = c->told_free;
	msg.u.free_mem.total_slabs = c->daemon->config.max_slabs;
	msg.u.free_mem.usage_permille = daemon_usage_permille(c->daemon);
	client_send(c, &msg);
}

static void
serving(struct client *c, const struct ctl_msg *msg)
{
	struct ctl_msg pong = {.type = CTL_PONG, .request_id = msg->request_id};

	arm_timer(c, &c->daemon->client_timers);
	switch (msg->type) {
	case CTL_QUERY_MEM:
		send_free_mem(c, msg->request_id);
		break;
	case CTL_MAP:
		lending_map(c, msg);
		break;
	case CTL_UNMAP:
		lending_unmap(c, msg);
		break;
	case CTL_PING:
		client_send(c, &pong);
		break;
	case CTL_ACTIVITY:
		eviction_activity(c, msg);
		break;
	case CTL_DONE:
		eviction_done(c, msg);
		break;
	case CTL_HELLO:
	case CTL_AUTH:
	case CTL_CHALLENGE:
	case CTL_WELCOME:
	case CTL_REFUSED:
	case CTL_FREE_MEM:
	case CTL_MR_INFO:
	case CTL_UNMAPPED:
	case CTL_PONG:
	case CTL_CHECK_ACTIVITY:
	case CTL_EVICT:
		client_protocol_error(c, "%s is no request", ctl_type_name(msg->type));
		break;
	}
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct client *c = arg;
	struct ctl_msg msg;
	int r;

	c->daemon->touched = true;
	if (c->state == CLIENT_CLOSING || c->state == CLIENT_REFUSED)
		return;
	r = ctl_decode(bytes, length_bytes, &msg);
	if (r < 0)
		client_protocol_error(c, "malformed message of %zu bytes: %s", length_bytes,
				      strerror(-r));
	else if (msg.request_id == 0)
		client_protocol_error(c, "%s without a request id", ctl_type_name(msg.type));
	else if (c->state == CLIENT_HELLO_WAIT)
		hello_wait(c, &msg, bytes, length_bytes);
	else if (c->state == CLIENT_AUTH_WAIT)
		auth_wait(c, &msg);
	else if (c->state == CLIENT_GRANT_WAIT)
		client_protocol_error(c, "%s before WELCOME", ctl_type_name(msg.type));
	else
		serving(c, &msg);
}

static void
down_cb(void *arg, int reason)
{
	struct client *c = arg;
	struct daemon *d = c->daemon;
	uint32_t slabs = lending_reclaim_all(c);

	if (c->why[0] == '\0')
		(void)snprintf(c->why, sizeof(c->why), "%s",
			       reason ? strerror(-reason) : "closed by the client");
	if (c->has_joined)
		daemon_report(d, DAEMON_EVENT_LEFT,
			      "client[%s]: left (%s), device %s, %u slabs back",
			      tp_conn_name(c->conn), c->why, c->device, slabs);
	else
		daemon_report(d, DAEMON_EVENT_REJECTED, "client[%s]: not served (%s)",
			      tp_conn_name(c->conn), c->why);
	d->counters.clients -= c->has_joined;
	d->counters.connections--;
	c->conn = NULL;
	timer_disarm(&c->timer);
	list_del(&c->node);
	list_add_tail(&d->free_slots, &c->node);
	d->touched = true;
}

static const struct tp_conn_events CLIENT_EVENTS = {
	.message = message_cb,
	.down = down_cb,
};

void
client_accept(struct client *c, struct tp_conn *conn)
{
	struct daemon *d = c->daemon;

	assert(list_is_empty(&c->slabs) && c->slab_count == 0 && c->asks == 0);
	c->conn = conn;
	c->state = CLIENT_HELLO_WAIT;
	c->has_joined = false;
	c->last_ask_id = 0;
	c->is_force_told = c->is_lie_told = c->is_quota_told = false;
	c->hello_bytes = 0;
	c->device[0] = '\0';
	c->why[0] = '\0';
	list_del(&c->node);
	list_add_tail(&d->connections, &c->node);
	d->counters.connections++;
	arm_timer(c, &d->hello_timers);
	tp_accept(conn, &CLIENT_EVENTS, c);
}

void
client_expire(struct client *c)
{
	c->daemon->counters.timeouts_total += c->state != CLIENT_REFUSED;
	if (c->state == CLIENT_HELLO_WAIT)
		client_end(c, "no HELLO in time");
	else if (c->state == CLIENT_AUTH_WAIT)
		client_end(c, "no AUTH in time");
	else if (c->state == CLIENT_GRANT_WAIT)
		client_end(c, "the epoch page cannot be granted in time");
	else
		client_end(c, "silent for %" PRIu64 " ms",
			   c->daemon->config.client_timeout_ns / NSEC_PER_MSEC);
}

bool
client_push_free_mem(struct client *c)
{
	if (c->state != CLIENT_SERVING || lending_free_slabs(c) == c->told_free)
		return false;
	send_free_mem(c, 0);
	return true;
}
