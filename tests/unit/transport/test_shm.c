/* SPDX-License-Identifier: MIT */
/* What only shm has: memory of its own, peers that keep it, paths, one daemon and a client that is a bare socket. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/page.h"
#include "tcp_fixture.h"
#include "transport/shm.h"
#include "transport/shm_conn.h"
#include "wire/shm_frame.h"

#define BIG_BYTES ((size_t)64 << 20)

/* A loan that is announced by a message, as the daemon does. */
struct big {
	struct fixture *f;
	struct end *daemon;
	struct tp_remote remote;
	bool is_revoked;
};

/* A client that is a socket. */
struct raw {
	struct fixture *f;
	int fd;
	uint8_t bytes[SHM_FRAME_BYTES_MAX];
	struct shm_frame frame; /* the last one that came */
	int memory;		/* the last descriptor that came */
};

static void
connect_raw(struct fixture *f, struct raw *raw)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	*raw = (struct raw){.f = f, .memory = -1};
	memcpy(un.sun_path, f->address, strlen(f->address));
	raw->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	assert_true(raw->fd >= 0);
	assert_int_equal(connect(raw->fd, (struct sockaddr *)&un, sizeof(un)), 0);
}

static void
send_raw(struct raw *raw, enum shm_frame_kind kind, uint32_t rkey, uint64_t value)
{
	const struct shm_frame frame = {.kind = kind, .rkey = rkey, .value = value};
	uint8_t bytes[SHM_FRAME_HEADER_BYTES];

	shm_frame_encode(&frame, bytes);
	assert_int_equal(send(raw->fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
}

/* Whether a packet came, not the end. */
static bool
receive_raw(struct raw *raw)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {.iov_base = raw->bytes, .iov_len = sizeof(raw->bytes)};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = &control,
				.msg_controllen = sizeof(control)};
	const struct cmsghdr *c;
	ssize_t n;

	WAIT(raw->f, (n = recvmsg(raw->fd, &header, 0)) >= 0 || errno != EAGAIN);
	if (n <= 0)
		return false;
	c = CMSG_FIRSTHDR(&header);
	if (c)
		memcpy(&raw->memory, CMSG_DATA(c), sizeof(int));
	assert_int_equal(shm_frame_decode(raw->bytes, (size_t)n, c ? 1 : 0, &raw->frame), 0);
	return true;
}

static void
expect_end(struct raw *raw)
{
	while (receive_raw(raw))
		continue;
}

static struct end *
raw_pair(struct fixture *f, struct raw *raw)
{
	const int before = f->daemons;

	connect_raw(f, raw);
	send_raw(raw, SHM_FRAME_PREAMBLE, 0, SHM_FRAME_VERSION);
	assert_true(receive_raw(raw));
	assert_int_equal(raw->frame.kind, SHM_FRAME_PREAMBLE);
	assert_int_equal(f->daemons, before + 1);
	return &f->daemon[before];
}

static int
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static void
addresses(void **state)
{
	struct fixture *f = *state;
	struct end client = {.f = f};
	struct tp_listener *second;
	char path[128];
	int r;

	CALL(f, r = tp_connect(f->tp, "s", NSEC_PER_SEC, &end_events, &client, &client.conn));
	assert_int_equal(r, -EINVAL);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	CALL(f, r = tp_listen(f->tp, path, NULL, NULL, &second));
	assert_int_equal(r, -EINVAL);
	CALL(f, r = tp_listen(f->tp, f->address, NULL, NULL, &second));
	assert_int_equal(r, -EADDRINUSE);
	CALL(f, r = tp_listen(f->tp, "/none/s", NULL, NULL, &second));
	assert_int_equal(r, -ENOENT);
	CALL(f, r = tp_connect(f->tp, "/none/s", NSEC_PER_SEC, &end_events, &client, &client.conn));
	assert_int_equal(r, 0);
	CALL(f, r = tp_send(client.conn, "x", 1));
	assert_int_equal(r, -ENOTCONN);
	assert_int_equal(client.downs, 0);
	WAIT(f, client.downs);
	assert_int_equal(client.reason, -ECONNREFUSED);
	fixture_stop(f);
}

/* Each handshake that ends without a connection, and the one that is too many. */
static void
handshake__silent_wrong_and_too_many(void **state)
{
	struct fixture *f = *state;
	struct raw silent, wrong, many[5];
	int i;

	connect_raw(f, &silent);
	expect_end(&silent);
	connect_raw(f, &wrong);
	send_raw(&wrong, SHM_FRAME_PREAMBLE, 0, SHM_FRAME_VERSION + 1);
	assert_true(receive_raw(&wrong)); /* it learns ours */
	assert_int_equal(wrong.frame.value, SHM_FRAME_VERSION);
	expect_end(&wrong);
	connect_raw(f, &many[0]);
	send_raw(&many[0], SHM_FRAME_REVOKED, 1, 0);
	expect_end(&many[0]);
	close(many[0].fd);
	for (i = 0; i < 5; i++)
		connect_raw(f, &many[i]);
	expect_end(&many[0]);
	assert_int_equal(f->daemons, 0);
	for (i = 0; i < 5; i++)
		close(many[i].fd);
	close(silent.fd);
	close(wrong.fd);
	fixture_stop(f);
}

/* Of a connection that is up, each packet that does not fit it. */
static void
packets__that_do_not_fit(void **state)
{
	static const struct shm_frame bad[] = {
		{.kind = SHM_FRAME_PREAMBLE, .value = SHM_FRAME_VERSION},
		{.kind = SHM_FRAME_REVOKE, .rkey = 1},
		{.kind = SHM_FRAME_BYE},
		{.kind = SHM_FRAME_REVOKED, .rkey = 0x10000},
		{.kind = SHM_FRAME_REVOKED, .rkey = UINT32_MAX},
	};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct raw raw;
		struct end *daemon = raw_pair(f, &raw);
		struct loan loan = {0};

		/* Granted, but not to be given back. */
		fixture_lend(f, daemon->conn, &loan);
		send_raw(&raw, bad[i].kind, i == 3 ? loan.remote.rkey : bad[i].rkey, bad[i].value);
		WAIT(f, daemon->downs);
		assert_int_equal(daemon->reason, -EPROTO);
		while (raw.frame.kind != SHM_FRAME_BYE)
			assert_true(receive_raw(&raw));
		close(raw.memory);
		close(raw.fd);
	}
	WAIT(f, tp_memory_held(f->tp) == 0);
	fixture_stop(f);
}

static void
region__is_spent_by_its_grant(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct loan loan = {0};
	struct tp_grant *grant;
	struct tp_region *region;
	int r;

	assert_false(tp_region_is_spent(f->slab_region));
	fixture_lend(f, daemon->conn, &loan);
	assert_true(tp_region_is_spent(f->slab_region));
	CALL(f, r = tp_grant(daemon->conn, f->slab_region, NULL, NULL, &grant));
	assert_int_equal(r, -EINVAL);
	fixture_revoke(&loan);
	assert_true(tp_region_is_spent(f->slab_region));
	CALL(f, r = tp_grant(daemon->conn, f->slab_region, NULL, NULL, &grant));
	assert_int_equal(r, -EINVAL);
	assert_int_equal(tp_memory_held(f->tp), 0); /* it was given back */
	/* Only memory of the transport's own can be lent. */
	assert_int_equal(tp_region_register(f->tp, f->buf, BUF_BYTES, TP_LEND, &region), -EINVAL);
	assert_int_equal(tp_region_register(f->tp, f->slab, SLAB_BYTES / 2, TP_LEND, &region),
			 -EINVAL);
	fixture_stop(f);
}

/* It is closed in time, its memory is counted until it goes. */
static void
revoke__without_answer(void **state)
{
	struct fixture *f = *state;
	struct raw raw;
	struct end *daemon = raw_pair(f, &raw);
	struct loan loan = {0};
	uint8_t *mapped;
	const double begin = ev_time();

	fixture_lend(f, daemon->conn, &loan);
	assert_true(receive_raw(&raw));
	assert_int_equal(raw.frame.kind, SHM_FRAME_GRANT);
	assert_true(raw.frame.value == SLAB_BYTES);
	mapped = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, raw.memory, 0);
	assert_true(mapped != MAP_FAILED);
	assert_memory_equal(mapped, f->slab, SLAB_BYTES);
	/* Sealed: it cannot shrink or grow. */
	assert_int_equal(ftruncate(raw.memory, 0), -1);
	assert_int_equal(ftruncate(raw.memory, SLAB_BYTES * 2), -1);
	fixture_revoke_or_down(&loan, daemon);
	assert_int_equal(loan.revoked, 0);
	assert_int_equal(daemon->reason, -ETIMEDOUT);
	assert_true(ev_time() - begin > 0.25 && ev_time() - begin < 5.);
	assert_true(tp_memory_held(f->tp) == SLAB_BYTES);
	memset(mapped, 0x77, SLAB_BYTES);
	assert_true(receive_raw(&raw));
	assert_int_equal(raw.frame.kind, SHM_FRAME_REVOKE);
	assert_true(receive_raw(&raw));
	assert_int_equal(raw.frame.kind, SHM_FRAME_BYE);
	/* It says no more, but lives. */
	(void)shutdown(raw.fd, SHUT_WR);
	ev_sleep(0.6);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_true(tp_memory_held(f->tp) == SLAB_BYTES);
	assert_int_equal(munmap(mapped, SLAB_BYTES), 0);
	close(raw.memory);
	close(raw.fd);
	WAIT(f, tp_memory_held(f->tp) == 0);
	fixture_stop(f);
}

/* The client's own end or death: nothing is held, with or without a word. */
static void
client__gone_holds_nothing(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct raw raw;
	struct loan first = {0}, second = {0};
	struct end *daemon = fixture_pair(f, &client);

	fixture_lend(f, daemon->conn, &first);
	CALL(f, tp_close(client.conn));
	WAIT(f, daemon->downs);
	assert_int_equal(tp_memory_held(f->tp), 0);
	daemon = raw_pair(f, &raw);
	fixture_lend(f, daemon->conn, &second);
	close(raw.fd);
	WAIT(f, daemon->downs);
	assert_int_equal(tp_memory_held(f->tp), 0);
	fixture_stop(f);
}

static void
grants__leave_no_descriptor(void **state)
{
	struct fixture *f = *state;
	int before = 0, i;

	for (i = 0; i < 12; i++) {
		struct end client = {0};
		struct end *daemon;
		struct loan loan = {0};

		f->daemons = 0;
		memset(&f->daemon[0], 0, sizeof(f->daemon[0]));
		daemon = fixture_pair(f, &client);
		fixture_lend(f, daemon->conn, &loan);
		if (i % 2)
			fixture_revoke(&loan);
		CALL(f, tp_close(i % 3 ? client.conn : daemon->conn));
		WAIT(f, client.downs && daemon->downs && tp_memory_held(f->tp) == 0);
		if (i == 0)
			before = open_files();
	}
	/* The fixture keeps the slabs that it lent. */
	assert_int_equal(open_files() - before, 11);
	fixture_stop(f);
}

static void
big_granted(void *arg, struct tp_grant *grant, int status)
{
	struct big *big = arg;
	int r;

	assert_int_equal(status, 0);
	tp_grant_remote(grant, &big->remote);
	CALL(big->f, r = tp_send(big->daemon->conn, "lent", 4));
	assert_int_equal(r, 0);
}

static void
big_revoked(void *arg, struct tp_grant *grant, int status)
{
	struct big *big = arg;

	(void)grant;
	assert_int_equal(status, 0);
	big->is_revoked = true;
}

static void
op_done(struct tp_op *op, int status)
{
	assert_int_equal(status, 0);
	op->buf = NULL;
}

/* What comes behind the grant does not wait until every page is in the page tables. */
static void
mapping__is_used_while_it_is_filled(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct big big = {.f = f, .daemon = fixture_pair(f, &client)};
	struct tp_op op = {.kind = TP_OP_READ, .region = f->buf_region, .length_bytes = PAGE_BYTES};
	struct tp_region *region;
	struct tp_grant *grant;
	void *memory;
	int r;

	assert_int_equal(tp_memory_new(f->tp, BIG_BYTES, false, &memory), 0);
	assert_int_equal(tp_region_register(f->tp, memory, BIG_BYTES, TP_LEND, &region), 0);
	memset((uint8_t *)memory + BIG_BYTES - PAGE_BYTES, 0x5a, PAGE_BYTES);
	CALL(f, r = tp_grant(big.daemon->conn, region, big_granted, &big, &grant));
	assert_int_equal(r, 0);
	WAIT(f, client.messages == 1);
	assert_int_equal(client.conn->n_faulting, 1);
	op.buf = f->buf;
	op.remote_addr = big.remote.addr + BIG_BYTES - PAGE_BYTES;
	op.rkey = big.remote.rkey;
	op.done = op_done;
	CALL(f, tp_post(client.conn, &op));
	WAIT(f, !op.buf);
	assert_int_equal(f->buf[0], 0x5a);
	assert_int_equal(client.conn->n_faulting, 1);
	CALL(f, tp_revoke(grant, big_revoked, &big));
	WAIT(f, big.is_revoked);
	assert_int_equal(client.conn->n_faulting, 0);
	assert_int_equal(tp_region_release(region), 0);
	tp_memory_free(f->tp, memory);
	fixture_stop(f);
}

static long
faults(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_minflt;
}

/* And in the end they are: writing to its pages takes no page fault. */
static void
mapping__is_filled_in_the_end(void **state)
{
	struct fixture *f = *state;
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct tp_op op = {
		.kind = TP_OP_WRITE, .region = f->buf_region, .length_bytes = PAGE_BYTES};
	struct loan loan = {0};
	long before;

	fixture_lend(f, daemon->conn, &loan);
	WAIT(f, client.conn->table.size > 0 && client.conn->n_faulting == 0);
	before = faults();
	for (uint32_t page = 0; page < SLAB_BYTES / PAGE_BYTES; page++) {
		op.buf = f->buf;
		op.remote_addr = loan.remote.addr + (uint64_t)page * PAGE_BYTES;
		op.rkey = loan.remote.rkey;
		op.done = op_done;
		CALL(f, tp_post(client.conn, &op));
		WAIT(f, !op.buf);
	}
	assert_true(faults() - before < SLAB_BYTES / PAGE_BYTES / 4);
	fixture_stop(f);
}

/* A daemon that is gone takes its socket along; who is connected stays. */
static void
listener_close__keeps_connections(void **state)
{
	struct fixture *f = *state;
	struct end client = {0}, late = {0};
	struct end *daemon = fixture_pair(f, &client);
	struct raw half;
	int r;

	connect_raw(f, &half);
	for (r = 0; r < 5; r++)
		ev_run(f->loop, EVRUN_ONCE);
	CALL(f, tp_listener_close(f->listener));
	expect_end(&half);
	close(half.fd);
	CALL(f, r = tp_send(client.conn, "hi", 2));
	assert_int_equal(r, 0);
	WAIT(f, daemon->messages == 1);
	fixture_connect(f, &late);
	WAIT(f, late.downs);
	assert_int_equal(late.reason, -ECONNREFUSED);
	fixture_stop(f);
}

/* Who reads nothing is given up, with the send queue full. */
static void
send__to_who_reads_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t msg[TP_MESSAGE_BYTES_MAX] = {0};
	struct raw raw;
	struct end *daemon = raw_pair(f, &raw);
	int r = 0;

	while (!daemon->downs && r != -ENOTCONN) {
		CALL(f, r = tp_send(daemon->conn, msg, sizeof(msg)));
		assert_true(r == 0 || r == -EAGAIN || r == -ENOTCONN);
		ev_run(f->loop, r == 0 ? EVRUN_NOWAIT : EVRUN_ONCE);
	}
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -ETIMEDOUT);
	close(raw.fd);
	fixture_stop(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup_shm, fixture_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(addresses),
		TEST(handshake__silent_wrong_and_too_many),
		TEST(packets__that_do_not_fit),
		TEST(region__is_spent_by_its_grant),
		TEST(revoke__without_answer),
		TEST(client__gone_holds_nothing),
		TEST(grants__leave_no_descriptor),
		TEST(mapping__is_used_while_it_is_filled),
		TEST(mapping__is_filled_in_the_end),
		TEST(listener_close__keeps_connections),
		TEST(send__to_who_reads_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
