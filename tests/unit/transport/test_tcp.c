/* SPDX-License-Identifier: MIT */
/* Both sides keep the rules: the life of connections, messages, ops, grants. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/page.h"
#include "tcp_fixture.h"

#define OPS_MAX 4000

/* An op and what became of it. */
struct try_op {
	struct tp_op op; /* first */
	struct fixture *f;
	int dones;
	int status;
	int reposts; /* posts itself so often in done() */
	bool closes; /* closes the connection in done() */
};

static void
op_done(struct tp_op *op, int status)
{
	struct try_op *t = (struct try_op *)op;

	assert_int_equal(t->f->in_call, 0);
	t->dones++;
	t->status = status;
	if (t->closes)
		CALL(t->f, tp_close(op->conn));
	if (t->reposts-- > 0)
		CALL(t->f, tp_post(op->conn, op));
}

static void
prepare(struct fixture *f, struct try_op *t, enum tp_op_kind kind, const struct tp_remote *remote,
	size_t at, size_t remote_at, uint32_t length)
{
	*t = (struct try_op){.f = f};
	t->op.kind = kind;
	t->op.length_bytes = length;
	t->op.region = f->buf_region;
	t->op.buf = f->buf + at;
	t->op.remote_addr = remote->addr + remote_at;
	t->op.rkey = remote->rkey;
	t->op.done = op_done;
}

static void
post(struct end *client, struct try_op *t)
{
	CALL(client->f, tp_post(client->conn, &t->op));
	assert_int_equal(t->dones, 0);
}

static int
count_done(const struct try_op *ops, int n)
{
	int i, done = 0;

	for (i = 0; i < n; i++)
		done += ops[i].dones > 0;
	return done;
}

/* The client may be down already. */
static void
close_pair(struct end *client, struct end *daemon)
{
	if (!client->downs)
		CALL(client->f, tp_close(client->conn));
	WAIT(client->f, client->downs && daemon->downs);
}

static void
exchange(struct fixture *f, struct end *from, struct end *to)
{
	uint8_t msg[TP_MESSAGE_BYTES_MAX];
	uint32_t k;
	int r;

	to->is_ordered = true;
	for (k = 0; k < 1000; k++) {
		size_t length = pattern_message(k, msg);

		do {
			CALL(f, r = tp_send(from->conn, msg, length));
			if (r == -EAGAIN)
				WAIT(f, to->messages + 10 > k);
		} while (r == -EAGAIN);
		assert_int_equal(r, 0);
	}
	WAIT(f, to->messages == 1000);
}

static void
life(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	char prefix[TP_NAME_BYTES_MAX + 8];

	(void)snprintf(prefix, sizeof(prefix), "%s%s#", f->scheme, f->address);
	assert_true(strncmp(tp_conn_name(client.conn), prefix, strlen(prefix)) == 0);
	assert_string_not_equal(tp_conn_name(client.conn), tp_conn_name(daemon->conn));
	exchange(f, &client, daemon);
	exchange(f, daemon, &client);
	CALL(f, tp_close(client.conn));
	CALL(f, tp_close(client.conn));
	assert_int_equal(client.downs, 0);
	WAIT(f, client.downs && daemon->downs);
	assert_int_equal(client.reason, 0);
	assert_int_equal(daemon->reason, 0);
	assert_int_equal(client.ups, 1);
	assert_int_equal(daemon->ups, 0);
	fixture_stop(f);
}

static void
close__by_daemon_delivers_last_messages(void **state)
{
	struct fixture *f = *state;
	struct end client = {.is_ordered = true};
	struct end *daemon = fixture_pair(f, &client);
	uint8_t msg[TP_MESSAGE_BYTES_MAX];
	uint32_t k;
	int r;

	for (k = 0; k < 20; k++) {
		size_t length = pattern_message(k, msg);

		CALL(f, r = tp_send(daemon->conn, msg, length));
		assert_int_equal(r, 0);
		CALL(f, r = tp_send(client.conn, msg, length)); /* unread when it closes */
		assert_int_equal(r, 0);
	}
	CALL(f, tp_close(daemon->conn));
	CALL(f, r = tp_send(daemon->conn, msg, 4));
	assert_int_equal(r, -ENOTCONN);
	WAIT(f, client.downs && daemon->downs);
	assert_int_equal(client.messages, 20);
	fixture_stop(f);
}

static void
connect__errors(void **state)
{
	struct fixture *f = *state;
	struct tp_listener *second;
	struct end client = {.f = f};
	char address[TP_NAME_BYTES_MAX];
	int fd, r;

	CALL(f, r = tp_connect(f->tp, "localhost:1", NSEC_PER_SEC, &end_events, &client,
			       &client.conn));
	assert_int_equal(r, -EINVAL);
	CALL(f, r = tp_listen(f->tp, "127.0.0.1", NULL, NULL, &second));
	assert_int_equal(r, -EINVAL);
	CALL(f, r = tp_listen(f->tp, f->address, NULL, NULL, &second));
	assert_int_equal(r, -EADDRINUSE);
	CALL(f, r = tp_listen(f->tp, "192.0.2.1:0", NULL, NULL, &second));
	assert_int_equal(r, -EADDRNOTAVAIL);

	fd = raw_listen(address); /* a port where nobody listens any more */
	close(fd);
	CALL(f, r = tp_connect(f->tp, address, NSEC_PER_SEC, &end_events, &client, &client.conn));
	assert_int_equal(r, 0);
	CALL(f, r = tp_send(client.conn, "x", 1));
	assert_int_equal(r, -ENOTCONN);
	WAIT(f, client.downs);
	assert_int_equal(client.reason, -ECONNREFUSED);
	assert_int_equal(client.ups, 0);
	fixture_stop(f);
}

static void
connect__timeout(void **state)
{
	struct fixture *f = *state;
	struct end client = {.f = f};
	char address[TP_NAME_BYTES_MAX];
	int fd = raw_listen(address), r;
	double begin = ev_time();

	CALL(f, r = tp_connect(f->tp, address, 100 * NSEC_PER_MSEC, &end_events, &client,
			       &client.conn));
	assert_int_equal(r, 0);
	WAIT(f, client.downs);
	assert_int_equal(client.reason, -ETIMEDOUT);
	assert_true(ev_time() - begin > 0.09);
	close(fd);
	fixture_stop(f);
}

static void
connect__closed_before_up(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};

	fixture_connect(f, &client);
	CALL(f, tp_close(client.conn));
	WAIT(f, client.downs);
	assert_int_equal(client.reason, 0);
	assert_int_equal(client.ups, 0);
	fixture_stop(f);
}

static void
incoming__refuses(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};

	f->refuses = true;
	fixture_connect(f, &client);
	WAIT(f, client.downs);
	assert_int_equal(client.reason, -ECONNREFUSED);
	assert_int_equal(client.ups, 0);
	assert_int_equal(f->daemons, 1);
	fixture_stop(f);
}

static void
incoming__accepts_and_closes(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};

	f->closes_accepted = true;
	fixture_connect(f, &client);
	WAIT(f, client.downs && f->daemon[0].downs);
	assert_int_equal(f->daemon[0].reason, 0);
	fixture_stop(f);
}

static void
close__inside_up_and_message(void **state)
{
	struct fixture *f = *state;
	struct end first = {.closes_on_up = true}, second = {0};
	struct end *daemon;
	int r, i;

	fixture_connect(f, &first);
	WAIT(f, first.downs && f->daemons == 1 && f->daemon[0].downs);
	daemon = fixture_pair(f, &second);
	daemon->closes_on_message = true;
	for (i = 0; i < 3; i++) {
		CALL(f, r = tp_send(second.conn, "abc", 3));
		assert_int_equal(r, 0);
	}
	WAIT(f, second.downs && daemon->downs);
	assert_int_equal(daemon->messages, 1);
	fixture_stop(f);
}

static void
send__limits(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	uint8_t msg[TP_MESSAGE_BYTES_MAX + 1] = {0};
	uint32_t i;
	int r;

	CALL(f, r = tp_send(client.conn, msg, sizeof(msg)));
	assert_int_equal(r, -EMSGSIZE);
	CALL(f, r = tp_send(client.conn, msg, 0));
	assert_int_equal(r, -EMSGSIZE);
	for (i = 0; i < TP_SEND_QUEUE_MAX; i++) {
		CALL(f, r = tp_send(client.conn, msg, sizeof(msg) - 1));
		assert_int_equal(r, 0);
	}
	CALL(f, r = tp_send(client.conn, msg, 1));
	assert_int_equal(r, -EAGAIN);
	WAIT(f, daemon->messages == TP_SEND_QUEUE_MAX);
	CALL(f, r = tp_send(client.conn, msg, 1));
	assert_int_equal(r, 0);
	WAIT(f, daemon->messages == TP_SEND_QUEUE_MAX + 1);
	fixture_stop(f);
}

static void
ops__more_than_slots_arrive_and_come_back(void **state)
{
	struct fixture *f = *state;
	struct try_op *ops = calloc(OPS_MAX, sizeof(*ops));
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loan = {0};
	const uint32_t n = OPS_MAX, length = SLAB_BYTES / OPS_MAX; /* odd size on purpose */
	uint32_t i;

	assert_non_null(ops);
	fixture_lend(f, daemon->conn, &loan);
	fill_pattern(f->buf, SLAB_BYTES, 7);
	for (i = 0; i < n; i++) {
		prepare(f, &ops[i], TP_OP_WRITE, &loan.remote, i * length, i * length, length);
		post(&client, &ops[i]);
	}
	WAIT(f, count_done(ops, OPS_MAX) == OPS_MAX);
	assert_true(is_pattern(f->slab, (size_t)n * length, 7));
	memset(f->buf, 0, SLAB_BYTES);
	for (i = 0; i < n; i++) {
		assert_int_equal(ops[i].status, 0);
		assert_int_equal(ops[i].dones, 1);
		prepare(f, &ops[i], TP_OP_READ, &loan.remote, i * length, i * length, length);
		post(&client, &ops[i]);
	}
	WAIT(f, count_done(ops, OPS_MAX) == OPS_MAX);
	for (i = 0; i < n; i++)
		assert_int_equal(ops[i].status, 0);
	assert_true(is_pattern(f->buf, (size_t)n * length, 7));
	fixture_revoke(&loan);
	fixture_stop(f);
	free(ops);
}

/* All lengths around the borders, both kinds in flight together, with messages between. */
static void
ops__sizes_mixed_with_messages(void **state)
{
	static const uint32_t lengths[] = {1,	 2,	31,    32,    33,     4095,   4096,
					   4097, 65535, 65536, 65537, 131040, 131071, 131072};
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loan = {0};
	struct try_op ops[64];
	const size_t half = SLAB_BYTES / 2;
	uint32_t i, round;
	int r;

	fixture_lend(f, daemon->conn, &loan);
	daemon->is_ordered = true;
	for (round = 0; round < 14; round++) {
		uint32_t length = lengths[round];
		int n = 0;

		fill_pattern(f->buf, length, round);
		memset(f->buf + half, 0, BUF_BYTES - half);
		for (i = 0; i < 30; i++) {
			uint8_t msg[TP_MESSAGE_BYTES_MAX];
			size_t bytes = pattern_message(round * 30 + i, msg);

			prepare(f, &ops[n], TP_OP_WRITE, &loan.remote, 0, i % 4 * 131072, length);
			post(&client, &ops[n++]);
			prepare(f, &ops[n], TP_OP_READ, &loan.remote, half + i * 131072ul,
				half + i % 4 * 131072, length);
			post(&client, &ops[n++]);
			CALL(f, r = tp_send(client.conn, msg, bytes));
			assert_int_equal(r, 0);
		}
		WAIT(f, count_done(ops, n) == n && daemon->messages == (round + 1) * 30);
		for (i = 0; i < 30; i++) {
			assert_int_equal(ops[2 * i].status, 0);
			assert_int_equal(ops[2 * i + 1].status, 0);
			assert_true(is_pattern(f->slab + i % 4 * 131072, length, round));
			assert_memory_equal(f->buf + half + i * 131072ul,
					    f->slab + half + i % 4 * 131072, length);
		}
	}
	fixture_revoke(&loan);
	fixture_stop(f);
}

static void
ops__before_up_wait_for_it(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct try_op t;

	fixture_connect(f, &client);
	prepare(f, &t, TP_OP_READ, &(struct tp_remote){.rkey = 1}, 0, 0, 4096);
	post(&client, &t);
	WAIT(f, t.dones && client.downs);
	assert_int_equal(t.status, -EACCES); /* it was asked, and refused */
	fixture_stop(f);
}

static void
ops__cancelled_by_close(void **state)
{
	struct fixture *f = *state;
	struct try_op *ops = calloc(OPS_MAX, sizeof(*ops));
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loan = {0};
	int i;

	assert_non_null(ops);
	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < OPS_MAX; i++) {
		prepare(f, &ops[i], i % 2 ? TP_OP_READ : TP_OP_WRITE, &loan.remote, 0, 0, 64);
		post(&client, &ops[i]);
		ops[i].reposts = i % 7 == 0 ? 2 : 0; /* posting on goes on being answered */
	}
	CALL(f, tp_close(client.conn));
	assert_int_equal(count_done(ops, OPS_MAX), 0);
	WAIT(f, client.downs);
	for (i = 0; i < OPS_MAX; i++) {
		assert_int_equal(ops[i].dones, i % 7 == 0 ? 3 : 1);
		assert_int_equal(ops[i].status, -ECANCELED);
	}
	WAIT(f, daemon->downs);
	fixture_stop(f);
	free(ops);
}

static void
ops__close_inside_done(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loan = {0};
	struct try_op ops[10];
	int i;

	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < 10; i++) {
		prepare(f, &ops[i], TP_OP_READ, &loan.remote, 0, 0, 4096);
		ops[i].closes = true;
		post(&client, &ops[i]);
	}
	WAIT(f, client.downs && daemon->downs);
	assert_int_equal(ops[0].status, 0);
	for (i = 1; i < 10; i++) {
		assert_int_equal(ops[i].dones, 1);
		assert_int_equal(ops[i].status, -ECANCELED);
	}
	fixture_stop(f);
}

/* What the daemon's side says of a peer that reached where it must not: over shm the
 * client's own side refuses, and closes. */
static int
reason_of_refused(const struct fixture *f)
{
	return strcmp(f->scheme, "shm:") == 0 ? 0 : -EACCES;
}

static void
expect_refused(struct fixture *f, enum tp_op_kind kind, uint32_t rkey, uint64_t addr,
	       uint32_t length)
{
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct try_op bad, behind;

	prepare(f, &bad, kind, &(struct tp_remote){.addr = addr, .rkey = rkey}, 0, 0, length);
	behind = bad;
	post(&client, &bad);
	post(&client, &behind);
	WAIT(f, client.downs && daemon->downs);
	assert_int_equal(bad.status, -EACCES);
	assert_int_equal(bad.dones, 1);
	assert_int_equal(behind.status, -ECANCELED);
	assert_int_equal(behind.dones, 1);
	assert_int_equal(client.reason, -EACCES);
	assert_int_equal(daemon->reason, reason_of_refused(f));
}

static void
grant__wrong_rkeys(void **state)
{
	struct fixture *f = *state;
	struct end owner = {0};
	struct end *daemon = fixture_pair(f, &owner);
	struct loan loan = {0};
	struct try_op good;

	fixture_lend(f, daemon->conn, &loan);
	/* On other connections: the right one of this, nonsense, entries out of the table. */
	expect_refused(f, TP_OP_READ, loan.remote.rkey, loan.remote.addr, 4096);
	expect_refused(f, TP_OP_WRITE, loan.remote.rkey, loan.remote.addr, 131072);
	expect_refused(f, TP_OP_READ, 0, 0, 1);
	expect_refused(f, TP_OP_WRITE, UINT32_MAX, UINT64_MAX, 131072);
	assert_true(is_pattern(f->slab, SLAB_BYTES, 1));
	/* Its owner is untouched by all that. */
	prepare(f, &good, TP_OP_READ, &loan.remote, 0, 0, 4096);
	post(&owner, &good);
	WAIT(f, good.dones);
	assert_int_equal(good.status, 0);
	assert_true(is_pattern(f->buf, 4096, 1));
	fixture_stop(f);
}

static void
grant__out_of_range(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t length;
		int status;
	} cases[] = {
		{SLAB_BYTES - 1, 1, 0},
		{SLAB_BYTES - 131072, 131072, 0},
		{SLAB_BYTES, 1, -EACCES},
		{SLAB_BYTES - 1, 2, -EACCES},
		{SLAB_BYTES - 131071, 131072, -EACCES},
		{UINT64_MAX, 1, -EACCES}, /* one byte before */
		{UINT64_MAX, 2, -EACCES}, /* and over into it */
		{UINT64_MAX / 2, 4096, -EACCES},
		{UINT64_MAX - 4095, 4096, -EACCES},
		{SLAB_BYTES + 1, UINT16_MAX, -EACCES},
	};
	struct fixture *f = *state;
	size_t i;
	int kind;

	for (kind = TP_OP_READ; kind <= (int)TP_OP_WRITE; kind++) {
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct end client = {0};
			struct end *daemon;
			struct loan loan = {0};
			struct try_op t;

			f->daemons = 0; /* the ends of earlier cases are down */
			memset(&f->daemon[0], 0, sizeof(f->daemon[0]));
			daemon = fixture_pair(f, &client);
			fixture_lend(f, daemon->conn, &loan);
			prepare(f, &t, (enum tp_op_kind)kind, &loan.remote, 0, cases[i].offset,
				cases[i].length);
			post(&client, &t);
			WAIT(f, t.dones);
			assert_int_equal(t.status, cases[i].status);
			close_pair(&client, daemon);
			assert_int_equal(daemon->reason,
					 cases[i].status ? reason_of_refused(f) : 0);
		}
	}
	fixture_stop(f);
}

static void
grant__stale_rkey(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan first = {0}, second = {0};
	struct try_op t;

	fixture_lend(f, daemon->conn, &first);
	fixture_revoke(&first);
	assert_int_equal(first.revoked, 1);
	fixture_lend(f, daemon->conn, &second);
	assert_int_not_equal(first.remote.rkey, second.remote.rkey);
	prepare(f, &t, TP_OP_WRITE, &second.remote, 0, 0, 4096);
	t.op.rkey = first.remote.rkey;
	post(&client, &t);
	WAIT(f, client.downs && daemon->downs);
	assert_int_equal(t.status, -EACCES);
	assert_true(is_pattern(f->slab, SLAB_BYTES, 1));
	/* The second grant went with its connection. */
	assert_int_equal(second.revoked, 0);
	fixture_stop(f);
}

static void
grant__errors(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct tp_region *region;
	struct tp_grant *grant;
	int r;

	CALL(f, r = tp_grant(client.conn, f->slab_region, NULL, NULL, &grant));
	assert_int_equal(r, -EINVAL);
	CALL(f, r = tp_grant(daemon->conn, f->buf_region, NULL, NULL, &grant));
	assert_int_equal(r, -EINVAL);
	assert_int_equal(tp_region_register(f->tp, f->buf, 0, TP_LEND, &region), -EINVAL);
	assert_int_equal(tp_region_register(f->tp, NULL, 1, TP_LEND, &region), -EINVAL);
	CALL(f, tp_close(daemon->conn));
	CALL(f, r = tp_grant(daemon->conn, f->slab_region, NULL, NULL, &grant));
	assert_int_equal(r, -ENOTCONN);
	WAIT(f, daemon->downs);
	fixture_stop(f);
}

/* A grant to read lets nobody write, and who tries loses his connection only. */
static void
grant__to_read_only(void **state)
{
	struct fixture *f = *state;
	struct end client = {0}, other = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct end *other_daemon = fixture_pair(f, &other);
	struct tp_region *slab_region = f->slab_region;
	struct loan loan = {0}, other_loan = {0};
	struct try_op t;

	memset(f->slab, 0x17, 100);
	assert_int_equal(
		tp_region_register(f->tp, f->slab, SLAB_BYTES, TP_LEND_READ, &f->slab_region), 0);
	fixture_lend(f, daemon->conn, &loan);
	fixture_lend(f, other_daemon->conn, &other_loan);
	prepare(f, &t, TP_OP_READ, &loan.remote, 0, 0, 100);
	post(&client, &t);
	WAIT(f, t.dones);
	assert_int_equal(t.status, 0);
	assert_memory_equal(f->buf, f->slab, 100);
	memset(f->buf, 0x18, 100);
	prepare(f, &t, TP_OP_WRITE, &loan.remote, 0, 0, 100);
	post(&client, &t);
	WAIT(f, t.dones && client.downs && daemon->downs);
	assert_int_equal(t.status, -EACCES);
	assert_int_equal(f->slab[0], 0x17);
	prepare(f, &t, TP_OP_READ, &other_loan.remote, 0, 0, 100);
	post(&other, &t);
	WAIT(f, t.dones);
	assert_int_equal(t.status, 0);
	fixture_revoke(&other_loan);
	WAIT(f, other_loan.revoked);
	assert_int_equal(tp_region_release(f->slab_region), 0);
	f->slab_region = slab_region;
	fixture_stop(f);
}

/* More than the first table, revoked in another order, entries used again. */
static void
grant__many(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loans[200] = {0};
	struct try_op t;
	int i, k;

	for (i = 0; i < 200; i++)
		fixture_lend(f, daemon->conn, &loans[i]);
	for (i = 0; i < 200; i += 2)
		fixture_revoke(&loans[i]);
	for (i = 0; i < 200; i += 2) {
		loans[i] = (struct loan){0};
		fixture_lend(f, daemon->conn, &loans[i]);
	}
	for (i = 0; i < 200; i++) {
		for (k = 0; k < i; k++)
			assert_int_not_equal(loans[i].remote.rkey, loans[k].remote.rkey);
		prepare(f, &t, TP_OP_READ, &loans[i].remote, 0, 0, 100);
		post(&client, &t);
		WAIT(f, t.dones);
		assert_int_equal(t.status, 0);
	}
	fixture_stop(f);
}

static void
grant__close_inside_granted_and_revoked(void **state)
{
	struct fixture *f = *state;
	struct end a = {0}, b = {0};
	struct end *daemon_a = fixture_pair(f, &a);
	struct end *daemon_b = fixture_pair(f, &b);
	struct loan first = {.close_on_granted = daemon_a->conn};
	struct loan second = {.close_on_revoked = daemon_b->conn}, third = {0};

	fixture_lend(f, daemon_a->conn, &first);
	WAIT(f, a.downs && daemon_a->downs);
	fixture_lend(f, daemon_b->conn, &second);
	fixture_lend(f, daemon_b->conn, &third);
	fixture_revoke(&second);
	WAIT(f, b.downs && daemon_b->downs);
	assert_int_equal(third.revoked, 0);
	assert_int_equal(tp_region_release(f->slab_region), 0);
	assert_int_equal(tp_region_register(f->tp, f->slab, SLAB_BYTES, TP_LEND, &f->slab_region),
			 0);
	fixture_stop(f);
}

/* Posted and revoked in one turn, READs and WRITEs on their way: each ends once, with
 * success or an error, and nothing is written after revoked(). */
static void
revoke__with_ops_in_flight(void **state)
{
	struct fixture *f = *state;
	int turns;

	for (turns = 0; turns < 12; turns++) {
		struct end client = {0};
		struct end *daemon;
		struct loan loan = {0};
		struct try_op ops[32];
		int i, failed = 0;

		f->daemons = 0;
		memset(&f->daemon[0], 0, sizeof(f->daemon[0]));
		daemon = fixture_pair(f, &client);
		fixture_lend(f, daemon->conn, &loan);
		fill_pattern(f->buf, BUF_BYTES, 9);
		for (i = 0; i < 32; i++) {
			prepare(f, &ops[i], i % 2 ? TP_OP_READ : TP_OP_WRITE, &loan.remote, 0, 0,
				131072);
			post(&client, &ops[i]);
		}
		for (i = 0; i < turns; i++)
			ev_run(f->loop, EVRUN_ONCE);
		if (strcmp(f->scheme, "shm:") == 0)
			fixture_revoke_or_down(&loan, daemon);
		else
			fixture_revoke(&loan);
		memset(f->slab, 0xee, SLAB_BYTES); /* the next owner's bytes */
		WAIT(f, count_done(ops, 32) == 32);
		for (i = 0; i < (int)SLAB_BYTES; i++)
			assert_int_equal(f->slab[i], 0xee);
		for (i = 0; i < 32; i++) {
			assert_int_equal(ops[i].dones, 1);
			failed += ops[i].status != 0;
		}
		close_pair(&client, daemon);
		if (failed)
			assert_int_equal(daemon->reason, reason_of_refused(f));
		fill_pattern(f->slab, SLAB_BYTES, 1);
	}
	fixture_stop(f);
}

static void
listener_close__keeps_connections(void **state)
{
	struct fixture *f = *state;
	struct end client = {0}, late = {0};
	struct end *daemon = fixture_pair(f, &client);
	uint8_t bytes[FRAME_HEADER_BYTES];
	int fd = raw_connect(f), r; /* half open: goes with the listener */

	frame_encode(&(struct frame){.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION}, bytes);
	raw_send(f, fd, bytes, 1);
	for (r = 0; r < 5; r++)
		ev_run(f->loop, EVRUN_ONCE);
	CALL(f, tp_listener_close(f->listener));
	(void)send(fd, bytes + 1, sizeof(bytes) - 1, MSG_NOSIGNAL);
	raw_expect_eof(f, fd);
	assert_int_equal(f->daemons, 1);
	close(fd);
	CALL(f, r = tp_send(client.conn, "hi", 2));
	assert_int_equal(r, 0);
	WAIT(f, daemon->messages == 1);
	fixture_connect(f, &late);
	WAIT(f, late.downs);
	assert_int_equal(late.reason, -ECONNREFUSED);
	fixture_stop(f);
}

static void
count_stop(void *arg)
{
	(*(int *)arg)++;
}

static void
shutdown__with_everything_in_flight(void **state)
{
	struct fixture *f = *state;
	struct tp *tp;
	struct end client = {0}, half = {0};
	struct end *daemon;
	struct tp_listener *listener;
	struct loan loan = {0};
	struct try_op ops[100];
	int i, r, stops = 0;

	daemon = fixture_pair(f, &client);
	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < 100; i++) {
		prepare(f, &ops[i], TP_OP_WRITE, &loan.remote, 0, 0, 131072);
		post(&client, &ops[i]);
	}
	ev_run(f->loop, EVRUN_ONCE);
	fixture_connect(f, &half);
	assert_int_equal(tcp_tp_new(f->loop, &tp), 0);
	CALL(f, tp_shutdown(tp, count_stop, &stops));
	assert_int_equal(stops, 0);
	CALL(f, r = tp_connect(tp, f->address, 1, &end_events, &half, &half.conn));
	assert_int_equal(r, -ESHUTDOWN);
	CALL(f, r = tp_listen(tp, "127.0.0.1:0", NULL, NULL, &listener));
	assert_int_equal(r, -ESHUTDOWN);
	WAIT(f, stops == 1);
	assert_null(tp_free(tp));
	assert_null(tp_free(NULL));
	assert_int_equal(client.downs, 0);

	fixture_stop(f);
	assert_int_equal(client.downs, 1);
	assert_int_equal(daemon->downs, 1);
	assert_int_equal(half.downs, 1);
	for (i = 0; i < 100; i++)
		assert_int_equal(ops[i].dones, 1);
	assert_int_equal(ops[99].status, -ECANCELED);
	assert_int_equal(loan.revoked, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup_default, fixture_teardown)
#define TEST_IPV6(fn)                                                                              \
	{                                                                                          \
#fn "__ipv6", fn, fixture_setup_ipv6, fixture_teardown, NULL                       \
	}

#define TEST_SHM(fn)                                                                               \
	{                                                                                          \
#fn "__shm", fn, fixture_setup_shm, fixture_teardown, NULL                         \
	}

#define TEST_NARROW(fn)                                                                            \
	{                                                                                          \
#fn "__narrow", fn, fixture_setup_narrow, fixture_teardown, NULL                   \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(life),
		TEST_SHM(life),
		TEST_IPV6(life),
		TEST(close__by_daemon_delivers_last_messages),
		TEST_SHM(close__by_daemon_delivers_last_messages),
		TEST(connect__errors),
		TEST(connect__timeout),
		TEST(connect__closed_before_up),
		TEST_SHM(connect__closed_before_up),
		TEST(incoming__refuses),
		TEST_SHM(incoming__refuses),
		TEST(incoming__accepts_and_closes),
		TEST_SHM(incoming__accepts_and_closes),
		TEST(close__inside_up_and_message),
		TEST_SHM(close__inside_up_and_message),
		TEST(send__limits),
		TEST_SHM(send__limits),
		TEST(ops__more_than_slots_arrive_and_come_back),
		TEST_SHM(ops__more_than_slots_arrive_and_come_back),
		TEST_IPV6(ops__more_than_slots_arrive_and_come_back),
		TEST(ops__sizes_mixed_with_messages),
		TEST_SHM(ops__sizes_mixed_with_messages),
		TEST_NARROW(ops__sizes_mixed_with_messages),
		TEST(ops__before_up_wait_for_it),
		TEST_SHM(ops__before_up_wait_for_it),
		TEST(ops__cancelled_by_close),
		TEST_SHM(ops__cancelled_by_close),
		TEST(ops__close_inside_done),
		TEST_SHM(ops__close_inside_done),
		TEST(grant__wrong_rkeys),
		TEST_SHM(grant__wrong_rkeys),
		TEST(grant__out_of_range),
		TEST_SHM(grant__out_of_range),
		TEST(grant__stale_rkey),
		TEST_SHM(grant__stale_rkey),
		TEST(grant__errors),
		TEST_SHM(grant__errors),
		TEST(grant__to_read_only),
		TEST_SHM(grant__to_read_only),
		TEST(grant__many),
		TEST(grant__close_inside_granted_and_revoked),
		TEST_SHM(grant__close_inside_granted_and_revoked),
		TEST(revoke__with_ops_in_flight),
		TEST_SHM(revoke__with_ops_in_flight),
		TEST(listener_close__keeps_connections),
		TEST(shutdown__with_everything_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
