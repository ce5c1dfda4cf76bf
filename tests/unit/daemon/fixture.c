/* SPDX-License-Identifier: MIT */
/* Steps the fakes and the daemon together; fixture.h has the contracts. */
#include "unit/daemon/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core.h"

#define ADDRESS "daemon:1"

static void
event_cb(void *arg, enum daemon_event event, const char *text)
{
	struct fx *fx = arg;

	assert_in_range(event, 1, FX_EVENTS - 1);
	assert_null(strchr(text, '\n'));
	fx->events[event]++;
	(void)snprintf(fx->event_text[event], sizeof(fx->event_text[event]), "%s", text);
}

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	struct fx *fx = arg;

	memset(buf, ++fx->entropy, length_bytes);
}

struct fx *
fx_new(uint64_t seed)
{
	struct fx *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	fx->net = fake_net_new(seed);
	fx->server = fake_tp_new(fx->net);
	fx->client_tp = fake_tp_new(fx->net);
	fx->now_ns = 1000 * FX_MSEC;
	fx->config = (struct daemon_config){
		.slab_bytes = FX_SLAB_BYTES,
		.max_slabs = FX_SLABS,
		.max_slabs_client = FX_SLABS_CLIENT,
		.headroom_bytes = FX_HEADROOM_BYTES,
		.beta_milli = 200,
		.psi_limit_centi = 1000,
		.extra_choices = 2,
		.evict_deadline_ns = FX_EVICT_DEADLINE_NS,
		.seed = seed + 1,
		.max_clients = FX_CLIENTS,
		.hello_timeout_ns = FX_HELLO_TIMEOUT_NS,
		.client_timeout_ns = FX_CLIENT_TIMEOUT_NS,
		.epoch = 0x1122334455667788,
		.entropy = entropy_cb,
		.entropy_arg = fx,
		.event = event_cb,
		.event_arg = fx,
	};
	return fx;
}

void
fx_set_psk(struct fx *fx, const char *psk)
{
	fx->config.psk.length_bytes = strlen(psk);
	memcpy(fx->config.psk.key, psk, strlen(psk));
}

void
fx_start(struct fx *fx)
{
	fx->memory =
		fake_slab_memory_new(fx->config.slab_bytes, fx->config.max_slabs, &fx->server, 1);
	assert_int_equal(daemon_new(&fx->config, fx->memory, &fx->daemon), 0);
	assert_int_equal(tp_listen(fx->server, ADDRESS, daemon_incoming, fx->daemon, &fx->listener),
			 0);
}

void
fx_start_full(struct fx *fx)
{
	fx_start(fx);
	fx_settle(fx);
	assert_int_equal(fx_stats(fx).slabs_free, fx->config.max_slabs);
}

static void
advance(struct fx *fx)
{
	fx->next_ns = daemon_advance(fx->daemon, fx->now_ns);
}

void
fx_settle(struct fx *fx)
{
	bool moved;

	do {
		advance(fx);
		moved = fake_net_run(fx->net) > 0;
		while (fake_slab_memory_step(fx->memory, 0))
			moved = true;
	} while (moved);
}

void
fx_net(struct fx *fx)
{
	(void)fake_net_run(fx->net);
	advance(fx);
	(void)fake_net_run(fx->net);
}

void
fx_sleep(struct fx *fx, uint64_t ns)
{
	fx->now_ns += ns;
	advance(fx);
	fx_settle(fx);
}

struct daemon_stats
fx_stats(const struct fx *fx)
{
	struct daemon_stats stats;

	daemon_get_stats(fx->daemon, &stats);
	return stats;
}

static void
check_client(const struct client *c, uint32_t *ret_slabs)
{
	const struct list *n;
	uint32_t count = 0, asks = 0;

	list_foreach (n, &c->slabs) {
		const struct pool_slab *s = (const struct pool_slab *)(const void *)n;

		asks += s->evict_request_id != 0;
		assert_true(!s->evict_batch || s->state == POOL_SLAB_GRANTED);
		assert_true(s->evict_request_id <= c->last_ask_id);

		assert_ptr_equal(s->client, c);
		assert_in_range(s->state, POOL_SLAB_GRANTING, POOL_SLAB_REVOKING);
		count++;
	}
	assert_int_equal(asks, c->asks);
	assert_true(asks <= EVICTION_ASKS_MAX);
	assert_int_equal(count, c->slab_count);
	assert_true(count <= c->daemon->config.max_slabs_client);
	*ret_slabs += count;
}

void
fx_check_invariants(const struct fx *fx)
{
	const struct daemon *d = fx->daemon;
	const struct daemon_stats stats = fx_stats(fx);
	const struct list *n;
	uint32_t lent = 0, serving = 0, connections = 0;

	list_foreach (n, &d->connections) {
		const struct client *c = (const struct client *)(const void *)n;

		check_client(c, &lent);
		connections++;
		serving += c->has_joined;
		assert_true(c->has_joined || c->slab_count == 0);
	}
	assert_int_equal(lent, pool_count(d->pool, POOL_SLAB_GRANTING) +
				       pool_count(d->pool, POOL_SLAB_GRANTED) +
				       pool_count(d->pool, POOL_SLAB_REVOKING));
	assert_int_equal(connections, stats.connections);
	assert_int_equal(serving, stats.clients);
	assert_true(serving <= fx->config.max_clients);
	assert_true(fake_slab_memory_pending(fx->memory) <= POOL_REQUESTS_MAX);
	assert_int_equal(stats.slabs_free + stats.slabs_mapped + stats.slabs_pending +
				 stats.slabs_empty + stats.slabs_lost,
			 fx->config.max_slabs);
}

static void
stopped_cb(void *arg)
{
	*(bool *)arg = true;
}

void
fx_stop(struct fx *fx)
{
	daemon_stop(fx->daemon, stopped_cb, &fx->stopped);
	fx->stopping = true;
}

void
fx_drain(struct fx *fx, uint64_t timeout_ns)
{
	daemon_drain(fx->daemon, timeout_ns, stopped_cb, &fx->stopped);
	fx->stopping = true;
}

void
fx_free(struct fx *fx)
{
	struct daemon_stats stats;

	assert_int_equal(fx->live_clients, 0);
	memset(fx->event_text, 0, sizeof(fx->event_text));
	for (int kind = 1; kind < FAKE_KINDS; kind++)
		fake_net_hold(fx->net, (enum fake_kind)kind, false);
	if (fx->stopping)
		daemon_stop(fx->daemon, stopped_cb, &fx->stopped);
	else
		fx_stop(fx);
	fx_settle(fx);
	assert_true(fx->stopped);
	stats = fx_stats(fx);
	assert_int_equal(stats.slabs_empty + stats.slabs_lost, fx->config.max_slabs);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.clients, 0);
	fx->daemon = daemon_free(fx->daemon);
	fx->memory = fake_slab_memory_free(fx->memory);
	(void)fake_tp_end(fx->client_tp);
	(void)fake_tp_end(fx->server);
	(void)fake_net_free(fx->net);
	free(fx);
}

/* --- clients --- */

static void
up_cb(void *arg)
{
	((struct fx_client *)arg)->up = true;
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct fx_client *c = arg;
	struct ctl_msg *msg = &c->inbox[c->received % FX_INBOX];

	assert_int_equal(ctl_decode(bytes, length_bytes, msg), 0);
	c->received++;
	if (msg->type == CTL_REFUSED && c->close_on_refused)
		tp_close(c->conn);
}

static void
down_cb(void *arg, int reason)
{
	struct fx_client *c = arg;

	assert_non_null(c->conn);
	c->conn = NULL;
	c->down_reason = reason;
}

static const struct tp_conn_events EVENTS = {
	.up = up_cb,
	.message = message_cb,
	.down = down_cb,
};

struct fx_client *
fx_connect(struct fx *fx)
{
	struct fx_client *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->fx = fx;
	fx->live_clients++;
	assert_int_equal(
		tp_region_register(fx->client_tp, c->buf, sizeof(c->buf), TP_LEND_NOT, &c->region),
		0);
	assert_int_equal(tp_connect(fx->client_tp, ADDRESS, 1, &EVENTS, c, &c->conn), 0);
	fx_net(fx);
	return c;
}

struct ctl_msg
fx_hello(struct fx_client *c)
{
	struct ctl_msg msg = {.type = CTL_HELLO};

	memset(msg.u.hello.client_id, 0x42, sizeof(msg.u.hello.client_id));
	memset(msg.u.hello.nonce, 0x17, sizeof(msg.u.hello.nonce));
	memcpy(msg.u.hello.device, "swap0", sizeof("swap0"));
	msg.u.hello.slab_bytes = c->fx->config.slab_bytes;
	return msg;
}

void
fx_send_bytes(struct fx_client *c, const void *bytes, size_t length_bytes)
{
	assert_non_null(c->conn);
	assert_int_equal(tp_send(c->conn, bytes, length_bytes), 0);
}

uint32_t
fx_send(struct fx_client *c, struct ctl_msg msg)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length_bytes;

	if (msg.request_id == 0)
		msg.request_id = ++c->last_id;
	length_bytes = ctl_encode(&msg, buf);
	if (msg.type == CTL_HELLO) {
		memcpy(c->hello, buf, length_bytes);
		c->hello_bytes = length_bytes;
	}
	fx_send_bytes(c, buf, length_bytes);
	return msg.request_id;
}

struct fx_client *
fx_join(struct fx *fx)
{
	struct fx_client *c = fx_connect(fx);
	uint32_t id = fx_send(c, fx_hello(c));

	fx_net(fx);
	(void)fx_take_answer(c, CTL_WELCOME, id);
	return c;
}

void
fx_client_free(struct fx_client *c)
{
	struct fx *fx = c->fx;

	if (c->conn)
		tp_close(c->conn);
	fx_settle(fx);
	assert_null(c->conn);
	assert_int_equal(tp_region_release(c->region), 0);
	fx->live_clients--;
	free(c);
}

uint32_t
fx_map(struct fx_client *c, uint32_t slab, uint32_t generation)
{
	return fx_send(c, (struct ctl_msg){.type = CTL_MAP,
					   .u.map = {.slab = slab, .generation = generation}});
}

uint32_t
fx_unmap(struct fx_client *c, uint32_t slab, uint32_t generation)
{
	return fx_send(c, (struct ctl_msg){.type = CTL_UNMAP,
					   .u.unmap = {.slab = slab, .generation = generation}});
}

bool
fx_inbox_is_empty(const struct fx_client *c)
{
	return c->received == c->taken;
}

const struct ctl_msg *
fx_take(struct fx_client *c, enum ctl_type type, uint32_t request_id)
{
	const struct ctl_msg *msg;

	assert_false(fx_inbox_is_empty(c));
	assert_true(c->received - c->taken <= FX_INBOX);
	msg = &c->inbox[c->taken++ % FX_INBOX];
	assert_string_equal(ctl_type_name(msg->type), ctl_type_name(type));
	if (request_id)
		assert_int_equal(msg->request_id, request_id);
	return msg;
}

const struct ctl_msg *
fx_take_answer(struct fx_client *c, enum ctl_type type, uint32_t request_id)
{
	const struct ctl_msg *msg;

	do {
		assert_false(fx_inbox_is_empty(c));
		msg = &c->inbox[c->taken % FX_INBOX];
		if (msg->type == CTL_FREE_MEM && msg->request_id == 0)
			c->taken++;
		else
			msg = NULL;
	} while (msg);
	return fx_take(c, type, request_id);
}

void
fx_take_refused(struct fx_client *c, uint32_t request_id, enum ctl_reason reason)
{
	const struct ctl_msg *msg = fx_take_answer(c, CTL_REFUSED, request_id);

	assert_string_equal(ctl_reason_name(msg->u.refused.reason), ctl_reason_name(reason));
	assert_true(strlen(msg->u.refused.text) > 0);
}

struct ctl_mr_info
fx_map_now(struct fx_client *c, uint32_t slab, uint32_t generation)
{
	uint32_t id = fx_map(c, slab, generation);
	const struct ctl_msg *msg;

	fx_net(c->fx);
	msg = fx_take_answer(c, CTL_MR_INFO, id);
	assert_int_equal(msg->u.mr_info.slab, slab);
	assert_int_equal(msg->u.mr_info.generation, generation);
	assert_int_equal(msg->u.mr_info.length_bytes, c->fx->config.slab_bytes);
	return msg->u.mr_info;
}

static void
op_done_cb(struct tp_op *op, int status)
{
	op->transport_u64 = (uint64_t)(int64_t)status;
	op->done = NULL;
}

int
fx_io(struct fx_client *c, enum tp_op_kind kind, const struct ctl_mr_info *info,
      uint64_t offset_bytes)
{
	struct tp_op op = {
		.kind = kind,
		.length_bytes = sizeof(c->buf),
		.region = c->region,
		.buf = c->buf,
		.remote_addr = info->addr + offset_bytes,
		.rkey = info->rkey,
		.done = op_done_cb,
	};

	assert_non_null(c->conn);
	tp_post(c->conn, &op);
	assert_true(fake_net_step_op(c->fx->net, &op));
	assert_null(op.done);
	return (int)(int64_t)op.transport_u64;
}
