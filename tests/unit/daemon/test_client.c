/* SPDX-License-Identifier: MIT */
/* Sessions: who is let in, who is refused and why, who is thrown out and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "unit/daemon/fixture.h"

#define PSK "a pre-shared key of a test"

static struct fx *
new_full(void)
{
	struct fx *fx = fx_new(0);

	fx_start_full(fx);
	return fx;
}

static struct fx *
new_with_psk(void)
{
	struct fx *fx = fx_new(0);

	fx_set_psk(fx, PSK);
	fx_start_full(fx);
	return fx;
}

/* Refused: told so, and closed by the daemon only after a while. */
static void
assert_session_refused(struct fx_client *c, uint32_t id, enum ctl_reason reason)
{
	struct fx *fx = c->fx;
	unsigned rejected = fx->events[DAEMON_EVENT_REJECTED];

	fx_settle(fx);
	fx_take_refused(c, id, reason);
	assert_non_null(c->conn);
	assert_int_equal(fx_stats(fx).clients, 0);
	/* What it still says is not heard. */
	(void)fx_send(c, (struct ctl_msg){.type = CTL_PING});
	fx_settle(fx);
	assert_true(fx_inbox_is_empty(c));
	assert_int_equal(fx->events[DAEMON_EVENT_REJECTED], rejected);
	fx_sleep(fx, 1000 * FX_MSEC);
	assert_null(c->conn);
	assert_int_equal(fx->events[DAEMON_EVENT_REJECTED], rejected + 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_REJECTED], ctl_reason_name(reason)));
	assert_int_equal(fx_stats(fx).timeouts_total, 0);
	assert_int_equal(fx_stats(fx).protocol_errors_total, 0);
}

static void
new__bad_config(void **state)
{
	struct fx *fx = fx_new(0);
	struct daemon_config good, bad;
	struct daemon *d = NULL;

	(void)state;
	fx_start(fx);
	good = fx->config;
#define REFUSES(change)                                                                            \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.change;                                                                        \
		assert_int_equal(daemon_new(&bad, fx->memory, &d), -22);                           \
		assert_null(d);                                                                    \
	} while (0)
	REFUSES(slab_bytes = 0);
	REFUSES(max_slabs = 0);
	REFUSES(max_slabs = DAEMON_SLABS_MAX + 1);
	REFUSES(max_slabs_client = 0);
	REFUSES(beta_milli = 0);
	REFUSES(beta_milli = 1001);
	REFUSES(extra_choices = DAEMON_EXTRA_CHOICES_MAX + 1);
	REFUSES(evict_deadline_ns = 0);
	REFUSES(evict_deadline_ns = UINT64_MAX);
	REFUSES(max_clients = 0);
	REFUSES(max_clients = DAEMON_CLIENTS_MAX + 1);
	REFUSES(hello_timeout_ns = 0);
	REFUSES(client_timeout_ns = 0);
	REFUSES(client_timeout_ns = UINT64_MAX);
	REFUSES(event = NULL);
	REFUSES(psk.length_bytes = AUTH_PSK_BYTES_MAX + 1);
	bad = good;
	bad.psk.length_bytes = 16;
	REFUSES(psk.length_bytes = 16; bad.entropy = NULL);
#undef REFUSES
	fx_free(fx);
}

static void
hello__welcome(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_connect(fx);
	const struct ctl_msg *msg;
	struct daemon_client_info info;

	(void)state;
	assert_int_equal(fx_stats(fx).connections, 1);
	assert_int_equal(fx_stats(fx).clients, 0);
	assert_false(daemon_get_client(fx->daemon, 0, &info));
	(void)fx_send(c, fx_hello(c));
	fx_net(fx);
	msg = fx_take(c, CTL_WELCOME, 1);
	assert_int_equal(msg->u.welcome.slab_bytes, FX_SLAB_BYTES);
	assert_int_equal(msg->u.welcome.epoch, fx->config.epoch);
	assert_int_equal(msg->u.welcome.free_slabs, FX_SLABS_CLIENT);
	assert_int_equal(msg->u.welcome.total_slabs, FX_SLABS);
	assert_int_equal(fx_stats(fx).clients, 1);
	assert_int_equal(fx->events[DAEMON_EVENT_JOINED], 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_JOINED], "swap0"));
	assert_true(daemon_get_client(fx->daemon, 0, &info));
	assert_string_equal(info.device, "swap0");
	assert_string_equal(info.conn_name, tp_conn_name(fake_conn_peer(c->conn)));
	assert_int_equal(info.slabs, 0);
	assert_false(daemon_get_client(fx->daemon, 1, &info));
	fx_client_free(c);
	assert_int_equal(fx->events[DAEMON_EVENT_LEFT], 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "closed by the client"));
	fx_free(fx);
}

static void
hello__other_version(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_connect(fx);
	struct ctl_msg hello = fx_hello(c);

	(void)state;
	hello.version = CTL_VERSION + 1;
	assert_session_refused(c, fx_send(c, hello), CTL_REASON_VERSION);
	fx_client_free(c);
	fx_free(fx);
}

static void
hello__other_slab_size(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_connect(fx);
	struct ctl_msg hello = fx_hello(c);

	(void)state;
	hello.u.hello.slab_bytes *= 2;
	assert_session_refused(c, fx_send(c, hello), CTL_REASON_SLAB_SIZE);
	fx_client_free(c);
	fx_free(fx);
}

static void
hello__too_many_clients(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *served[FX_CLIENTS], *c;
	uint32_t id;

	(void)state;
	for (unsigned i = 0; i < FX_CLIENTS; i++)
		served[i] = fx_join(fx);
	c = fx_connect(fx);
	id = fx_send(c, fx_hello(c));
	fx_settle(fx);
	fx_take_refused(c, id, CTL_REASON_CLIENTS);
	/* One leaves, the next attempt is welcome, even while the refused one lingers. */
	fx_client_free(served[0]);
	served[0] = fx_join(fx);
	fx_client_free(c);
	assert_int_equal(fx_stats(fx).clients, FX_CLIENTS);
	for (unsigned i = 0; i < FX_CLIENTS; i++)
		fx_client_free(served[i]);
	fx_free(fx);
}

static void
refused__peer_that_closes_frees_its_slot_at_once(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_connect(fx);
	struct ctl_msg hello = fx_hello(c);

	(void)state;
	c->close_on_refused = true;
	hello.u.hello.slab_bytes++;
	(void)fx_send(c, hello);
	fx_settle(fx);
	assert_null(c->conn);
	assert_int_equal(fx_stats(fx).connections, 0);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_REJECTED], "slab sizes differ"));
	fx_client_free(c);
	fx_free(fx);
}

static void
s14_more_connections_than_slots(void **state)
{
	const unsigned slots = FX_CLIENTS + DAEMON_SPARE_CONNECTIONS;
	struct fx_client *c[FX_CLIENTS + DAEMON_SPARE_CONNECTIONS], *extra;
	struct fx *fx = new_full();

	(void)state;
	for (unsigned i = 0; i < slots; i++) {
		c[i] = fx_connect(fx);
		assert_true(c[i]->up);
	}
	extra = fx_connect(fx);
	assert_false(extra->up);
	assert_null(extra->conn);
	assert_int_equal(fx->events[DAEMON_EVENT_REJECTED], 1);
	fx_client_free(extra);
	/* The silent ones are thrown out in time; then there is room. */
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS);
	assert_int_equal(fx_stats(fx).connections, 0);
	assert_int_equal(fx_stats(fx).timeouts_total, slots);
	extra = fx_join(fx);
	fx_client_free(extra);
	for (unsigned i = 0; i < slots; i++)
		fx_client_free(c[i]);
	fx_free(fx);
}

static struct ctl_msg
auth_answer(struct fx_client *c, const char *psk, const struct ctl_msg *challenge)
{
	struct ctl_msg msg = {.type = CTL_AUTH};
	struct auth_psk key = {.length_bytes = strlen(psk)};

	memcpy(key.key, psk, strlen(psk));
	auth_proof(&key, AUTH_CLIENT, c->hello, c->hello_bytes, challenge->u.challenge.nonce,
		   msg.u.auth.proof);
	return msg;
}

static const struct ctl_msg *
get_challenge(struct fx_client *c)
{
	uint32_t id = fx_send(c, fx_hello(c));

	fx_net(c->fx);
	return fx_take(c, CTL_CHALLENGE, id);
}

static void
auth__right(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *c = fx_connect(fx);
	const struct ctl_msg *challenge = get_challenge(c);
	uint8_t proof[CTL_PROOF_BYTES];
	uint32_t id;

	(void)state;
	/* The daemon proves itself too. */
	auth_proof(&fx->config.psk, AUTH_DAEMON, c->hello, c->hello_bytes,
		   challenge->u.challenge.nonce, proof);
	assert_memory_equal(challenge->u.challenge.proof, proof, sizeof(proof));
	assert_int_equal(fx_stats(fx).clients, 0);
	id = fx_send(c, auth_answer(c, PSK, challenge));
	fx_net(fx);
	(void)fx_take(c, CTL_WELCOME, id);
	fx_client_free(c);
	fx_free(fx);
}

static void
auth__wrong(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *c = fx_connect(fx);
	const struct ctl_msg *challenge = get_challenge(c);

	(void)state;
	assert_session_refused(c,
			       fx_send(c, auth_answer(c, "another key that is wrong", challenge)),
			       CTL_REASON_AUTH);
	fx_client_free(c);
	fx_free(fx);
}

static void
auth__daemons_own_proof_is_no_answer(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *c = fx_connect(fx);
	const struct ctl_msg *challenge = get_challenge(c);
	struct ctl_msg msg = {.type = CTL_AUTH};

	(void)state;
	memcpy(msg.u.auth.proof, challenge->u.challenge.proof, CTL_PROOF_BYTES);
	assert_session_refused(c, fx_send(c, msg), CTL_REASON_AUTH);
	fx_client_free(c);
	fx_free(fx);
}

static void
auth__replayed(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *first = fx_connect(fx);
	struct fx_client *second;
	struct ctl_msg answer = auth_answer(first, PSK, get_challenge(first));

	(void)state;
	(void)fx_send(first, answer);
	fx_net(fx);
	assert_int_equal(fx_stats(fx).clients, 1);
	fx_client_free(first);
	/* The same HELLO bytes and the same AUTH on another connection. */
	second = fx_connect(fx);
	(void)get_challenge(second);
	assert_session_refused(second, fx_send(second, answer), CTL_REASON_AUTH);
	fx_client_free(second);
	fx_free(fx);
}

static void
auth__missing(void **state)
{
	const enum ctl_type types[] = {CTL_QUERY_MEM, CTL_MAP, CTL_UNMAP, CTL_PING, CTL_HELLO};
	struct fx *fx = new_with_psk();

	(void)state;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct fx_client *c = fx_connect(fx);
		struct ctl_msg msg = fx_hello(c);

		(void)get_challenge(c);
		msg.type = types[i];
		(void)fx_send(c, msg);
		fx_settle(fx);
		assert_null(c->conn);
		assert_true(fx_inbox_is_empty(c));
		assert_int_equal(fx_stats(fx).protocol_errors_total, i + 1);
		fx_client_free(c);
	}
	assert_int_equal(fx_stats(fx).slabs_free, FX_SLABS);
	fx_free(fx);
}

static void
auth__never(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *c = fx_connect(fx);

	(void)state;
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS / 2);
	(void)get_challenge(c);
	/* HELLO does not buy more time. */
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS / 2 - 1);
	assert_non_null(c->conn);
	fx_sleep(fx, 1);
	assert_null(c->conn);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_REJECTED], "no AUTH in time"));
	fx_client_free(c);
	fx_free(fx);
}

static void
hello__missing(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_connect(fx);

	(void)state;
	assert_int_equal(fx->next_ns, fx->now_ns + FX_HELLO_TIMEOUT_NS);
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS - 1);
	assert_non_null(c->conn);
	fx_sleep(fx, 1);
	assert_null(c->conn);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_REJECTED], "no HELLO in time"));
	fx_client_free(c);
	fx_free(fx);
}

enum stage { STAGE_HELLO, STAGE_AUTH, STAGE_SERVING, STAGE_REFUSED, STAGES };

/* A client brought to @stage, in a daemon with a psk. */
static struct fx_client *
client_at(struct fx *fx, enum stage stage)
{
	struct fx_client *c = fx_connect(fx);
	const struct ctl_msg *challenge;

	if (stage == STAGE_HELLO)
		return c;
	challenge = get_challenge(c);
	if (stage == STAGE_AUTH)
		return c;
	(void)fx_send(
		c, auth_answer(c, stage == STAGE_SERVING ? PSK : "not the key at all", challenge));
	fx_net(fx);
	(void)fx_take(c, stage == STAGE_SERVING ? CTL_WELCOME : CTL_REFUSED, 0);
	return c;
}

/* Everything ctl_decode() refuses, and lengths around it, in each state. */
static void
message__malformed_in_each_state(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *other = client_at(fx, STAGE_SERVING);

	(void)state;
	for (enum stage stage = 0; stage < STAGES; stage++) {
		for (unsigned kind = 0; kind < 6; kind++) {
			struct fx_client *c = client_at(fx, stage);
			uint64_t errors = fx_stats(fx).protocol_errors_total;
			struct ctl_msg ping = {.type = CTL_PING, .request_id = 99};
			uint8_t buf[TP_MESSAGE_BYTES_MAX] = {0};
			size_t length = ctl_encode(&ping, buf);

			if (kind == 0)
				buf[0] ^= 1; /* magic */
			else if (kind == 1)
				length--;
			else if (kind == 2)
				length = TP_MESSAGE_BYTES_MAX;
			else if (kind == 3)
				buf[6] = 0xff; /* type */
			else if (kind == 4)
				buf[4] ^= 0x80; /* version, not HELLO */
			else
				buf[20] = 1; /* reserved */
			fx_send_bytes(c, buf, length);
			fx_settle(fx);
			assert_true(fx_inbox_is_empty(c));
			if (stage == STAGE_REFUSED) {
				assert_non_null(c->conn);
			} else {
				assert_null(c->conn);
				assert_int_equal(fx_stats(fx).protocol_errors_total, errors + 1);
			}
			fx_client_free(c);
		}
	}
	/* Nobody else is affected. */
	(void)fx_send(other, (struct ctl_msg){.type = CTL_PING});
	fx_net(fx);
	(void)fx_take_answer(other, CTL_PONG, 0);
	fx_client_free(other);
	fx_free(fx);
}

static void
message__of_each_type_in_each_state(void **state)
{
	struct fx *fx = new_with_psk();

	(void)state;
	for (enum stage stage = 0; stage < STAGES; stage++) {
		for (int type = CTL_HELLO; type <= CTL_PONG; type++) {
			struct fx_client *c = client_at(fx, stage);
			struct ctl_msg msg = {.type = (enum ctl_type)type};
			bool lives = stage == STAGE_REFUSED ||
				     (stage == STAGE_HELLO && type == CTL_HELLO) ||
				     (stage == STAGE_AUTH && type == CTL_AUTH) ||
				     (stage == STAGE_SERVING &&
				      (type == CTL_QUERY_MEM || type == CTL_MAP ||
				       type == CTL_UNMAP || type == CTL_PING));

			if (type == CTL_HELLO)
				msg = fx_hello(c);
			if (type == CTL_MAP || type == CTL_UNMAP)
				msg.u.map.generation = 1;
			(void)fx_send(c, msg);
			fx_settle(fx);
			assert_int_equal(c->conn != NULL, lives);
			fx_client_free(c);
			assert_int_equal(fx_stats(fx).slabs_free, FX_SLABS);
		}
	}
	fx_free(fx);
}

static void
message__without_request_id(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct ctl_msg ping = {.type = CTL_PING};
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];

	(void)state;
	fx_send_bytes(c, buf, ctl_encode(&ping, buf));
	fx_settle(fx);
	assert_null(c->conn);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "PING without a request id"));
	fx_client_free(c);
	fx_free(fx);
}

static void
ping__keeps_a_client_alive(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	uint32_t id;

	(void)state;
	for (int i = 0; i < 5; i++) {
		fx_sleep(fx, FX_CLIENT_TIMEOUT_NS - 1);
		assert_non_null(c->conn);
		id = fx_send(c, (struct ctl_msg){.type = CTL_PING});
		fx_settle(fx);
		(void)fx_take_answer(c, CTL_PONG, id);
	}
	fx_sleep(fx, FX_CLIENT_TIMEOUT_NS);
	assert_null(c->conn);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "silent for 10000 ms"));
	assert_int_equal(fx_stats(fx).timeouts_total, 1);
	fx_client_free(c);
	fx_free(fx);
}

static void
answers__not_taken_by_the_peer(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);
	struct fx_client *other = fx_join(fx);

	(void)state;
	fake_conn_set_deaf(c->conn, true);
	for (unsigned i = 0; i <= TP_SEND_QUEUE_MAX; i++) {
		assert_non_null(c->conn);
		(void)fx_send(c, (struct ctl_msg){.type = CTL_PING});
		fx_settle(fx);
	}
	assert_null(c->conn);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "takes no answers"));
	assert_int_equal(fx_stats(fx).clients, 1);
	fx_client_free(other);
	fx_client_free(c);
	fx_free(fx);
}

static void
down__reason_is_told(void **state)
{
	struct fx *fx = new_full();
	struct fx_client *c = fx_join(fx);

	(void)state;
	fake_net_cut(c->conn, -104);
	fx_settle(fx);
	assert_null(c->conn);
	assert_int_equal(c->down_reason, -104);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "Connection reset"));
	fx_client_free(c);
	fx_free(fx);
}

static void
stop__closes_everybody(void **state)
{
	struct fx *fx = new_with_psk();
	struct fx_client *c[STAGES], *late;

	(void)state;
	for (enum stage stage = 0; stage < STAGES; stage++)
		c[stage] = client_at(fx, stage);
	(void)fx_map(c[STAGE_SERVING], 1, 1);
	fx_net(fx);
	assert_int_equal(fx_stats(fx).slabs_mapped, 1);
	fx_stop(fx);
	assert_false(fx->stopped);
	late = fx_connect(fx);
	assert_false(late->up);
	fx_settle(fx);
	assert_true(fx->stopped);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_LEFT], "the daemon is stopping"));
	assert_null(late->conn);
	fx_client_free(late);
	for (enum stage stage = 0; stage < STAGES; stage++) {
		assert_null(c[stage]->conn);
		fx_client_free(c[stage]);
	}
	fx_free(fx);
}

static void
stop__with_a_pool_half_full(void **state)
{
	struct fx *fx = fx_new(0);

	(void)state;
	fx_start(fx);
	(void)daemon_advance(fx->daemon, fx->now_ns);
	assert_true(fake_slab_memory_step(fx->memory, 0));
	fx_stop(fx);
	(void)daemon_advance(fx->daemon, fx->now_ns);
	assert_false(fx->stopped);
	fx_settle(fx);
	assert_true(fx->stopped);
	assert_int_equal(fx_stats(fx).slabs_empty, FX_SLABS);
	fx_free(fx);
}

static void
free__before_anything_happened(void **state)
{
	struct fx *fx = fx_new(0);

	(void)state;
	fx_start(fx);
	fx_stop(fx);
	assert_false(fx->stopped);
	assert_int_equal(daemon_advance(fx->daemon, 1), UINT64_MAX);
	assert_true(fx->stopped);
	assert_null(daemon_free(NULL));
	fx_free(fx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new__bad_config),
		cmocka_unit_test(hello__welcome),
		cmocka_unit_test(hello__other_version),
		cmocka_unit_test(hello__other_slab_size),
		cmocka_unit_test(hello__too_many_clients),
		cmocka_unit_test(refused__peer_that_closes_frees_its_slot_at_once),
		cmocka_unit_test(s14_more_connections_than_slots),
		cmocka_unit_test(auth__right),
		cmocka_unit_test(auth__wrong),
		cmocka_unit_test(auth__daemons_own_proof_is_no_answer),
		cmocka_unit_test(auth__replayed),
		cmocka_unit_test(auth__missing),
		cmocka_unit_test(auth__never),
		cmocka_unit_test(hello__missing),
		cmocka_unit_test(message__malformed_in_each_state),
		cmocka_unit_test(message__of_each_type_in_each_state),
		cmocka_unit_test(message__without_request_id),
		cmocka_unit_test(ping__keeps_a_client_alive),
		cmocka_unit_test(answers__not_taken_by_the_peer),
		cmocka_unit_test(down__reason_is_told),
		cmocka_unit_test(stop__closes_everybody),
		cmocka_unit_test(stop__with_a_pool_half_full),
		cmocka_unit_test(free__before_anything_happened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
