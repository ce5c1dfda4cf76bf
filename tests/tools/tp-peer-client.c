/* SPDX-License-Identifier: MIT */
/* The tests: each opens its own connections, and sees that the server is clean again. */
#include "tp-peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/list.h"

/* One byte more than a socket's path may have. */
#define TEN_BYTES "/234567890"
#define LONG_PATH                                                                                  \
	TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES  \
		TEN_BYTES "/2345678"

struct client;

/* One connection of the client. */
struct link {
	struct client *client;
	struct tp_conn *conn;
	bool is_up;
	bool is_down;
	int reason;
	uint32_t n_messages;
	uint32_t n_sunk;
	uint32_t n_in_order; /* CMD_ECHO whose number is the next one */
	uint8_t last[TP_MESSAGE_BYTES_MAX];
	size_t last_bytes;
	bool close_in_up;
	bool close_in_message;
	bool close_in_down;
};

struct io {
	struct tp_op op;
	struct client *client;
	uint8_t *buf;
	bool is_done;
	int status;
	bool close_in_done;
	bool post_again; /* as long as it succeeds */
};

struct client {
	struct env *env;
	void *memory;
	struct tp_region *region;
	struct io ios[DEPTH];
	uint32_t n_busy;
	uint32_t n_failed;
	uint64_t random;
};

static double
now(void)
{
	return ev_time();
}

static void
give_up_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	*(bool *)w->data = true;
}

/* Until the condition holds; false after that many seconds. */
static bool
wait_for(struct client *c, bool (*condition)(const void *arg), const void *arg, double seconds)
{
	bool is_late = false;
	ev_timer give_up;

	ev_now_update(c->env->loop);
	ev_timer_init(&give_up, give_up_cb, seconds, 0.);
	give_up.data = &is_late;
	ev_timer_start(c->env->loop, &give_up);
	while (!condition(arg) && !is_late)
		ev_run(c->env->loop, EVRUN_ONCE);
	ev_timer_stop(c->env->loop, &give_up);
	return condition(arg);
}

static bool
is_up_or_down(const void *arg)
{
	const struct link *l = arg;

	return l->is_up || l->is_down;
}

static bool
is_down(const void *arg)
{
	return ((const struct link *)arg)->is_down;
}

static bool
is_idle(const void *arg)
{
	return ((const struct client *)arg)->n_busy == 0;
}

static void
up_cb(void *arg)
{
	struct link *l = arg;

	CHECK(!l->is_up && !l->is_down);
	l->is_up = true;
	if (l->close_in_up)
		tp_close(l->conn);
}

static void
message_cb(void *arg, const void *msg, size_t length_bytes)
{
	struct link *l = arg;
	struct request request = {0};

	CHECK(l->is_up && !l->is_down);
	CHECK(length_bytes >= 1 && length_bytes <= TP_MESSAGE_BYTES_MAX);
	memcpy(&request, msg, length_bytes < sizeof(request) ? length_bytes : sizeof(request));
	l->n_messages++;
	if (request.command == CMD_SINK)
		l->n_sunk++;
	if (request.command == CMD_ECHO && request.value == l->n_in_order)
		l->n_in_order++;
	memcpy(l->last, msg, length_bytes);
	l->last_bytes = length_bytes;
	if (l->close_in_message) {
		l->close_in_message = false;
		tp_close(l->conn);
		CHECK_INT(tp_send(l->conn, msg, length_bytes), -ENOTCONN);
	}
}

static void
down_cb(void *arg, int reason)
{
	struct link *l = arg;

	CHECK(!l->is_down);
	l->is_down = true;
	l->reason = reason;
	if (l->close_in_down)
		tp_close(l->conn);
	l->conn = NULL;
}

static const struct tp_conn_events client_events = {
	.up = up_cb, .message = message_cb, .down = down_cb};

static void
no_incoming_cb(void *arg, struct tp_conn *conn)
{
	(void)arg;
	tp_close(conn);
}

static int
start(struct client *c, struct link *l, const char *address, double seconds)
{
	*l = (struct link){.client = c};
	return tp_connect(c->env->tp, address, (uint64_t)(seconds * 1e9), &client_events, l,
			  &l->conn);
}

static void
connect_link(struct client *c, struct link *l)
{
	CHECK_INT(start(c, l, c->env->address, WAIT_SECONDS), 0);
	CHECK(!l->is_up && !l->is_down);
	CHECK(wait_for(c, is_up_or_down, l, WAIT_SECONDS + 1));
	if (!l->is_up)
		peer_fail("cannot connect to %s: %s", c->env->address, strerror(-l->reason));
}

static void
close_link(struct client *c, struct link *l)
{
	tp_close(l->conn);
	tp_close(l->conn);
	CHECK(!l->is_down);
	CHECK(wait_for(c, is_down, l, WAIT_SECONDS));
	CHECK_INT(l->reason, 0);
}

struct count {
	const uint32_t *value;
	uint32_t at_least;
	const struct link *link;
};

static bool
is_reached(const void *arg)
{
	const struct count *count = arg;

	return *count->value >= count->at_least || count->link->is_down;
}

static bool
wait_count(struct link *l, const uint32_t *value, uint32_t at_least)
{
	const struct count count = {value, at_least, l};

	return wait_for(l->client, is_reached, &count, WAIT_SECONDS) && *value >= at_least;
}

/* Sends even when the queue is full for now. */
static void
send_patiently(struct link *l, const void *msg, size_t length_bytes)
{
	const double deadline = now() + WAIT_SECONDS;
	int r;

	while ((r = tp_send(l->conn, msg, length_bytes)) == -EAGAIN && now() < deadline)
		ev_run(l->client->env->loop, EVRUN_ONCE);
	CHECK_INT(r, 0);
}

static void
ask(struct link *l, enum command command, uint32_t value, void *answer, size_t answer_bytes)
{
	const struct request request = {.command = (uint8_t)command, .value = value};
	const uint32_t before = l->n_messages;

	send_patiently(l, &request, sizeof(request));
	CHECK(wait_count(l, &l->n_messages, before + 1));
	CHECK_INT(l->last[0], command);
	CHECK_INT(l->last_bytes, answer_bytes);
	memcpy(answer, l->last, answer_bytes);
}

static struct tp_remote
ask_grant(struct link *l, uint32_t slab)
{
	struct granted granted;

	ask(l, CMD_GRANT, slab, &granted, sizeof(granted));
	CHECK_INT(granted.status, 0);
	CHECK_INT(granted.remote.length_bytes, slab < SLABS ? SLAB_BYTES : SMALL_BYTES);
	return granted.remote;
}

static struct result
ask_result(struct link *l, enum command command, uint32_t slab)
{
	struct result result;

	ask(l, command, slab, &result, sizeof(result));
	return result;
}

static void
ask_revoke(struct link *l, uint32_t slab)
{
	CHECK_INT(ask_result(l, CMD_REVOKE, slab).status, 0);
}

/* The server has noticed that nobody but @l is left. */
static void
check_server_is_clean(struct link *l)
{
	const double deadline = now() + WAIT_SECONDS;
	struct status status;

	do
		ask(l, CMD_STATUS, 0, &status, sizeof(status));
	while ((status.n_conns > 1 || status.n_granted > 0) && now() < deadline);
	CHECK_INT(status.n_conns, 1);
	CHECK_INT(status.n_granted, 0);
}

static uint32_t
next_random(struct client *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (uint32_t)(c->random >> 32);
}

static void
fill(struct client *c, uint8_t *buf, size_t length_bytes)
{
	size_t i;

	for (i = 0; i < length_bytes; i += 4) {
		const uint32_t value = next_random(c);

		memcpy(buf + i, &value, length_bytes - i < 4 ? length_bytes - i : 4);
	}
}

static void
done_cb(struct tp_op *op, int status)
{
	struct io *io = container_of(op, struct io, op);
	struct client *c = io->client;

	CHECK(!io->is_done);
	if (status == 0 && io->post_again) {
		tp_post(op->conn, op);
		return;
	}
	io->is_done = true;
	io->status = status;
	c->n_busy--;
	c->n_failed += status != 0;
	if (io->close_in_done)
		tp_close(op->conn);
}

static void
post(struct link *l, uint32_t index, enum tp_op_kind kind, uint32_t length_bytes,
     uint64_t remote_addr, uint32_t rkey)
{
	struct client *c = l->client;
	struct io *io = &c->ios[index];

	*io = (struct io){.client = c,
			  .buf = (uint8_t *)c->memory + index * (size_t)TP_OP_BYTES_MAX};
	io->op = (struct tp_op){.kind = kind,
				.length_bytes = length_bytes,
				.region = c->region,
				.buf = io->buf,
				.remote_addr = remote_addr,
				.rkey = rkey,
				.done = done_cb};
	c->n_busy++;
	tp_post(l->conn, &io->op);
	CHECK(!io->is_done);
}

static void
wait_ops(struct client *c)
{
	CHECK(wait_for(c, is_idle, c, WAIT_SECONDS * 3));
}

/* The tests */

static void
test_connect(struct client *c)
{
	struct link l;

	connect_link(c, &l);
	CHECK(strncmp(tp_conn_name(l.conn), c->env->transport, strlen(c->env->transport)) == 0);
	CHECK(strchr(tp_conn_name(l.conn), '#'));
	close_link(c, &l);
}

static void
test_addresses(struct client *c)
{
	static const char *const bad[] = {
		"",	   "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536",	    "localhost:80",
		"[::1:80", "::1:80",  "1.2.3:4",  "[fe80::1%nosuchnic0]:80"};
	static const char *const bad_paths[] = {"", "relative", LONG_PATH};
	const bool is_path = c->env->address[0] == '/';
	const size_t n =
		is_path ? sizeof(bad_paths) / sizeof(bad_paths[0]) : sizeof(bad) / sizeof(bad[0]);
	struct tp_listener *listener;
	struct link l;
	size_t i;
	int r;

	for (i = 0; i < n; i++) {
		const char *address = is_path ? bad_paths[i] : bad[i];

		CHECK_INT(start(c, &l, address, 1), -EINVAL);
		CHECK_INT(tp_listen(c->env->tp, address, no_incoming_cb, NULL, &listener), -EINVAL);
	}
	/* The server has it, or the address is another machine's. */
	r = tp_listen(c->env->tp, c->env->address, no_incoming_cb, NULL, &listener);
	CHECK(r == -EADDRINUSE || r == -EADDRNOTAVAIL);
}

/* Nobody listens at port 1, or at another path. */
static void
test_refused(struct client *c)
{
	char address[TP_NAME_BYTES_MAX];
	const bool is_path = c->env->address[0] == '/';
	const char *port = strrchr(c->env->address, is_path ? '/' : ':');
	struct link l;

	CHECK(port);
	(void)snprintf(address, sizeof(address), "%.*s%s", (int)(port - c->env->address),
		       c->env->address, is_path ? "/none" : ":1");
	CHECK_INT(start(c, &l, address, WAIT_SECONDS), 0);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(!l.is_up);
	CHECK_INT(l.reason, -ECONNREFUSED);
}

static void
test_refusing_server(struct client *c)
{
	struct link l;

	CHECK_INT(start(c, &l, c->env->address, WAIT_SECONDS), 0);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(!l.is_up);
	CHECK_INT(l.reason, -ECONNREFUSED);
}

static void
test_timeout(struct client *c)
{
	const double begin = now();
	struct link l;

	CHECK(c->env->unreachable);
	CHECK_INT(start(c, &l, c->env->unreachable, 0.7), 0);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(!l.is_up);
	CHECK_INT(l.reason, -ETIMEDOUT);
	CHECK(now() - begin >= 0.6 && now() - begin < 2.0);
}

static void
test_messages(struct client *c)
{
	uint8_t msg[TP_MESSAGE_BYTES_MAX + 1];
	size_t length;
	struct link l;

	connect_link(c, &l);
	for (length = 1; length <= TP_MESSAGE_BYTES_MAX; length += length < 16 ? 1 : 31) {
		const uint32_t before = l.n_messages;

		fill(c, msg, length);
		msg[0] = CMD_ECHO;
		CHECK_INT(tp_send(l.conn, msg, length), 0);
		CHECK(wait_count(&l, &l.n_messages, before + 1));
		CHECK_INT(l.last_bytes, length);
		CHECK(memcmp(l.last, msg, length) == 0);
	}
	CHECK_INT(tp_send(l.conn, msg, TP_MESSAGE_BYTES_MAX + 1), -EMSGSIZE);
	close_link(c, &l);
}

/* More than the credits: both directions at once, then each alone. */
static void
test_many_messages(struct client *c)
{
	const uint32_t n = 1000;
	uint8_t msg[TP_MESSAGE_BYTES_MAX] = {0};
	struct request request = {.command = CMD_ECHO};
	struct status before, after;
	uint32_t i;
	struct link l;

	connect_link(c, &l);
	for (i = 0; i < n; i++) {
		request.value = i;
		memcpy(msg, &request, sizeof(request));
		send_patiently(&l, msg, 8 + i % (TP_MESSAGE_BYTES_MAX - 8));
		if (i % 30 == 29) /* the server gives up on those who do not read */
			CHECK(wait_count(&l, &l.n_in_order, i + 1));
	}
	CHECK(wait_count(&l, &l.n_in_order, n));

	ask(&l, CMD_STATUS, 0, &before, sizeof(before));
	msg[0] = CMD_SINK;
	for (i = 0; i < n; i++)
		send_patiently(&l, msg, 100);
	ask(&l, CMD_STATUS, 0, &after, sizeof(after));
	CHECK_INT(after.n_sunk - before.n_sunk, n);

	request = (struct request){.command = CMD_FLOOD, .value = n};
	send_patiently(&l, &request, sizeof(request));
	CHECK(wait_count(&l, &l.n_sunk, n));
	CHECK_INT(l.n_sunk, n);
	close_link(c, &l);
}

/* Nobody runs the loop: the queue takes what it promises and no more. */
static void
test_full_queue(struct client *c)
{
	const struct request request = {.command = CMD_SINK};
	struct status before, after;
	uint32_t n = 0;
	struct link l;
	int r;

	connect_link(c, &l);
	ask(&l, CMD_STATUS, 0, &before, sizeof(before));
	while ((r = tp_send(l.conn, &request, sizeof(request))) == 0 && n < 100000)
		n++;
	CHECK_INT(r, -EAGAIN);
	CHECK(n >= TP_SEND_QUEUE_MAX);
	ask(&l, CMD_STATUS, 0, &after, sizeof(after));
	CHECK_INT(after.n_sunk - before.n_sunk, n);
	close_link(c, &l);
}

static uint32_t
length_of(struct client *c, uint32_t i)
{
	static const uint32_t edges[] = {1, 2, 511, 4095, 4096, 4097, 65536, TP_OP_BYTES_MAX};

	return i < 8 ? edges[i] : 1 + next_random(c) % TP_OP_BYTES_MAX;
}

/* Writes of all sizes at full depth, then reads of the same, compared. */
static void
test_ops(struct client *c)
{
	uint64_t sums[DEPTH];
	uint32_t lengths[DEPTH];
	struct tp_remote remote;
	struct link l;
	uint32_t i, round;

	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < DEPTH; i++) {
			uint8_t *buf = (uint8_t *)c->memory + i * (size_t)TP_OP_BYTES_MAX;

			lengths[i] = length_of(c, i);
			fill(c, buf, TP_OP_BYTES_MAX);
			memset(buf + lengths[i], 0, TP_OP_BYTES_MAX - lengths[i]);
			sums[i] = sum_of(buf, TP_OP_BYTES_MAX);
			post(&l, i, TP_OP_WRITE, lengths[i],
			     remote.addr + i * (uint64_t)TP_OP_BYTES_MAX, remote.rkey);
		}
		wait_ops(c);
		memset(c->memory, 0, (size_t)DEPTH * TP_OP_BYTES_MAX);
		for (i = 0; i < DEPTH; i++)
			post(&l, i, TP_OP_READ, lengths[i],
			     remote.addr + i * (uint64_t)TP_OP_BYTES_MAX, remote.rkey);
		wait_ops(c);
		for (i = 0; i < DEPTH; i++) {
			CHECK_INT(c->ios[i].status, 0);
			CHECK(sum_of(c->ios[i].buf, TP_OP_BYTES_MAX) == sums[i]);
		}
	}
	ask_revoke(&l, 0);
	close_link(c, &l);
}

/* Every op is answered, whatever else goes on. */
static void
test_small_ops(struct client *c)
{
	const uint32_t rounds = 20;
	struct tp_remote remote;
	struct link l;
	uint32_t i, round;

	connect_link(c, &l);
	remote = ask_grant(&l, 1);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < DEPTH; i++)
			post(&l, i, i % 2 ? TP_OP_READ : TP_OP_WRITE, 4096,
			     remote.addr + i * UINT64_C(4096), remote.rkey);
		(void)ask_result(&l, CMD_SUM, SLABS);
		wait_ops(c);
		CHECK_INT(c->n_failed, 0);
	}
	ask_revoke(&l, 1);
	close_link(c, &l);
}

static void
test_many_grants(struct client *c)
{
	struct request request = {.command = CMD_GRANT};
	uint32_t i, before;
	struct link l;

	connect_link(c, &l);
	for (i = 0; i < SMALL_SLABS; i++) {
		request.value = SLABS + i;
		send_patiently(&l, &request, sizeof(request));
	}
	CHECK(wait_count(&l, &l.n_messages, SMALL_SLABS));
	CHECK_INT(ask_result(&l, CMD_RELEASE, SLABS).status, -EBUSY);
	before = l.n_messages;
	request.command = CMD_REVOKE;
	for (i = 0; i < SMALL_SLABS; i++) {
		request.value = SLABS + i;
		send_patiently(&l, &request, sizeof(request));
	}
	CHECK(wait_count(&l, &l.n_messages, before + SMALL_SLABS));
	check_server_is_clean(&l);
	close_link(c, &l);
}

/* One op that must not succeed, and what it must not change. */
static void
check_no_access(struct link *l, struct link *witness, uint32_t slab, enum tp_op_kind kind,
		uint64_t addr, uint32_t rkey)
{
	struct client *c = l->client;
	const uint64_t before = ask_result(witness, CMD_SUM, slab).sum;

	fill(c, c->memory, 4096);
	post(l, 0, kind, 4096, addr, rkey);
	wait_ops(c);
	CHECK(c->ios[0].status == -EACCES || c->ios[0].status == -EIO);
	CHECK(wait_for(c, is_down, l, 2.0));
	CHECK(l->reason < 0);
	CHECK(ask_result(witness, CMD_SUM, slab).sum == before);
}

static void
test_revoked(struct client *c)
{
	struct link l, witness;
	struct tp_remote remote;
	uint32_t i;

	connect_link(c, &witness);
	for (i = 0; i < 2; i++) {
		connect_link(c, &l);
		remote = ask_grant(&l, 0);
		fill(c, c->memory, 4096);
		post(&l, 0, TP_OP_WRITE, 4096, remote.addr, remote.rkey);
		wait_ops(c);
		CHECK_INT(c->ios[0].status, 0);
		ask_revoke(&l, 0);
		check_no_access(&l, &witness, 0, i ? TP_OP_READ : TP_OP_WRITE, remote.addr,
				remote.rkey);
	}
	check_server_is_clean(&witness);
	close_link(c, &witness);
}

static void
test_foreign_rkey(struct client *c)
{
	struct link l, other;
	struct tp_remote remote;

	connect_link(c, &l);
	connect_link(c, &other);
	remote = ask_grant(&l, 0);
	check_no_access(&other, &l, 0, TP_OP_WRITE, remote.addr, remote.rkey);
	/* The owner goes on. */
	post(&l, 0, TP_OP_READ, 4096, remote.addr, remote.rkey);
	wait_ops(c);
	CHECK_INT(c->ios[0].status, 0);
	ask_revoke(&l, 0);
	close_link(c, &l);
}

static void
test_out_of_bounds(struct client *c)
{
	struct link l, witness;
	struct tp_remote remote;

	connect_link(c, &witness);
	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	check_no_access(&l, &witness, 0, TP_OP_WRITE, remote.addr + SLAB_BYTES - 4095, remote.rkey);
	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	check_no_access(&l, &witness, 0, TP_OP_READ, remote.addr - 1, remote.rkey);
	close_link(c, &witness);
}

static void
test_close_in_callbacks(struct client *c)
{
	struct tp_remote remote;
	struct link l, last;
	uint8_t msg[1] = {CMD_ECHO};
	uint32_t i;

	CHECK_INT(start(c, &l, c->env->address, WAIT_SECONDS), 0);
	l.close_in_up = true;
	l.close_in_down = true;
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(l.is_up);

	CHECK_INT(start(c, &l, c->env->address, WAIT_SECONDS), 0);
	tp_close(l.conn);
	CHECK(!l.is_down);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(!l.is_up);
	CHECK_INT(l.reason, 0);

	connect_link(c, &l);
	l.close_in_message = true;
	for (i = 0; i < 5; i++)
		CHECK_INT(tp_send(l.conn, msg, sizeof(msg)), 0);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK_INT(l.n_messages, 1);

	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	for (i = 0; i < DEPTH; i++)
		post(&l, i, TP_OP_READ, 4096, remote.addr, remote.rkey);
	c->ios[3].close_in_done = true;
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK_INT(c->n_busy, 0);
	for (i = 0; i < DEPTH; i++)
		CHECK(c->ios[i].status == 0 || c->ios[i].status == -ECANCELED);
	connect_link(c, &last);
	check_server_is_clean(&last);
	close_link(c, &last);
}

static void
test_post_while_closing(struct client *c)
{
	struct tp_remote remote;
	struct link l;

	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	tp_close(l.conn);
	post(&l, 0, TP_OP_READ, 4096, remote.addr, remote.rkey);
	CHECK_INT(tp_send(l.conn, "E", 1), -ENOTCONN);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK(c->ios[0].is_done);
	CHECK_INT(c->ios[0].status, -ECANCELED);
}

/* The peer's close: what it said before arrives, and the reason is 0. */
static void
test_closed_by_peer(struct client *c)
{
	const struct request request = {.command = CMD_SAY_AND_CLOSE};
	struct link l;

	connect_link(c, &l);
	CHECK_INT(tp_send(l.conn, &request, sizeof(request)), 0);
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK_INT(l.reason, 0);
	CHECK_INT(l.n_sunk, 10);
}

static unsigned
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static void
test_churn(struct client *c)
{
	unsigned files = 0;
	struct link l;
	uint32_t i;

	for (i = 0; i < 200; i++) {
		connect_link(c, &l);
		if (i % 4 == 1)
			(void)ask_grant(&l, 0);
		if (i % 4 == 3) {
			const struct request request = {.command = CMD_CLOSE};

			CHECK_INT(tp_send(l.conn, &request, sizeof(request)), 0);
			CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
			CHECK_INT(l.reason, 0);
		} else {
			close_link(c, &l);
		}
		if (i % 4 == 1) { /* before the slab is asked for again */
			connect_link(c, &l);
			check_server_is_clean(&l);
			close_link(c, &l);
		}
		if (i == 10)
			files = open_files();
	}
	CHECK_INT(open_files(), files);
	connect_link(c, &l);
	check_server_is_clean(&l);
	close_link(c, &l);
}

/* The server dies with ops in flight: every done(), then down(), in time. */
static void
lose_server(struct client *c, bool kill_it)
{
	const struct request request = {.command = CMD_KILL};
	struct tp_remote remote;
	struct link l;
	double begin;
	uint32_t i;

	connect_link(c, &l);
	remote = ask_grant(&l, 0);
	for (i = 0; i < DEPTH; i++) {
		post(&l, i, i % 2 ? TP_OP_WRITE : TP_OP_READ, 4096, remote.addr + i * 4096,
		     remote.rkey);
		c->ios[i].post_again = true;
	}
	if (kill_it)
		CHECK_INT(tp_send(l.conn, &request, sizeof(request)), 0);
	(void)printf("in flight\n");
	(void)fflush(stdout);
	CHECK(wait_for(c, is_idle, c, 60.0) || c->n_busy < DEPTH);
	begin = now();
	CHECK(wait_for(c, is_down, &l, WAIT_SECONDS));
	CHECK_INT(c->n_busy, 0);
	CHECK_INT(c->n_failed, DEPTH);
	for (i = 0; i < DEPTH; i++)
		CHECK(c->ios[i].status < 0);
	(void)printf("reason %d, %.3f s after the last op\n", l.reason, now() - begin);
	CHECK(now() - begin < 2.0);
}

static void
test_kill_server(struct client *c)
{
	const double begin = now();

	lose_server(c, true);
	CHECK(now() - begin < 2.0 + WAIT_SECONDS);
}

/* The harness pulls a plug when it reads "in flight". */
static void
test_lose_server(struct client *c)
{
	lose_server(c, false);
}

/* The server is gone by and by; new connections meet only what is clean. */
static void
test_server_clean(struct client *c)
{
	struct link l;

	connect_link(c, &l);
	check_server_is_clean(&l);
	close_link(c, &l);
}

struct test {
	const char *name;
	void (*run)(struct client *c);
	bool is_special; /* needs more than a plain server: not part of "all" */
};

static const struct test tests[] = {
	{"connect", test_connect, false},
	{"addresses", test_addresses, false},
	{"refused", test_refused, false},
	{"messages", test_messages, false},
	{"many-messages", test_many_messages, false},
	{"full-queue", test_full_queue, false},
	{"ops", test_ops, false},
	{"small-ops", test_small_ops, false},
	{"many-grants", test_many_grants, false},
	{"revoked", test_revoked, false},
	{"foreign-rkey", test_foreign_rkey, false},
	{"out-of-bounds", test_out_of_bounds, false},
	{"close-in-callbacks", test_close_in_callbacks, false},
	{"post-while-closing", test_post_while_closing, false},
	{"closed-by-peer", test_closed_by_peer, false},
	{"churn", test_churn, false},
	{"server-clean", test_server_clean, false},
	{"refusing-server", test_refusing_server, true},
	{"timeout", test_timeout, true},
	{"kill-server", test_kill_server, true},
	{"lose-server", test_lose_server, true},
};

static void
run_tests(struct client *c, const char *names)
{
	const size_t names_bytes = strlen(names) + 3;
	char *list = malloc(names_bytes), wanted[64];
	unsigned n = 0;
	size_t i;

	CHECK(list);
	(void)snprintf(list, names_bytes, ",%s,", names);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		const double begin = now();

		(void)snprintf(wanted, sizeof(wanted), ",%s,", tests[i].name);
		if (!strstr(list, wanted) && (strcmp(names, "all") != 0 || tests[i].is_special))
			continue;
		c->n_failed = 0;
		tests[i].run(c);
		CHECK_INT(c->n_busy, 0);
		(void)printf("ok %s %.1f\n", tests[i].name, now() - begin);
		(void)fflush(stdout);
		n++;
	}
	free(list);
	if (n == 0)
		peer_fail("no such test: %s", names);
}

int
run_client(struct env *env, const char *names)
{
	struct client *c = calloc(1, sizeof(*c));

	CHECK(c);
	c->env = env;
	c->random = UINT64_C(88172645463325252);
	c->memory = map_memory((size_t)DEPTH * TP_OP_BYTES_MAX);
	CHECK_INT(tp_region_register(env->tp, c->memory, (size_t)DEPTH * TP_OP_BYTES_MAX,
				     TP_LEND_NOT, &c->region),
		  0);
	run_tests(c, names);
	tp_shutdown(env->tp, shutdown_done, env);
	while (!env->is_down)
		ev_run(env->loop, EVRUN_ONCE);
	CHECK_INT(tp_region_release(c->region), 0);
	CHECK_INT(munmap(c->memory, (size_t)DEPTH * TP_OP_BYTES_MAX), 0);
	free(c);
	return 0;
}
