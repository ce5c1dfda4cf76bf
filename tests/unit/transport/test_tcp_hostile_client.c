/* SPDX-License-Identifier: MIT */
/* A daemon's side against a peer of raw sockets that keeps no rule. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "tcp_fixture.h"
#include "wire/bytes.h"

static const struct frame preamble = {.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION};

/* A raw peer that is up, and the daemon's end of it. */
static int
peer_up(struct fixture *f, struct end **ret_daemon)
{
	int before = f->daemons;
	int fd = raw_connect_up(f);

	WAIT(f, f->daemons > before);
	*ret_daemon = &f->daemon[before];
	return fd;
}

/* An honest client still gets its service. */
static void
assert_serves(struct fixture *f)
{
	struct end client = {0};
	struct end *daemon = fixture_pair(f, &client);
	int r;

	daemon->echoes = true;
	CALL(f, r = tp_send(client.conn, "ping", 4));
	assert_int_equal(r, 0);
	WAIT(f, client.messages);
	CALL(f, tp_close(client.conn));
	WAIT(f, client.downs && daemon->downs);
}

static void
preamble__every_byte_wrong(void **state)
{
	struct fixture *f = *state;
	size_t at;

	for (at = 0; at < FRAME_HEADER_BYTES; at++) {
		uint8_t bytes[FRAME_HEADER_BYTES];
		struct frame answer;
		int fd = raw_connect(f);

		frame_encode(&preamble, bytes);
		bytes[at] ^= 0x10;
		raw_send(f, fd, bytes, sizeof(bytes));
		if (at >= 8 && at < 12) { /* the version: it learns ours */
			raw_recv_frame(f, fd, &answer);
			assert_int_equal(answer.kind, FRAME_PREAMBLE);
			assert_int_equal(answer.op_id, FRAME_VERSION);
		}
		raw_expect_eof(f, fd);
		close(fd);
	}
	assert_int_equal(f->daemons, 0);
	assert_serves(f);
	fixture_stop(f);
}

static void
preamble__another_kind_or_nothing(void **state)
{
	struct fixture *f = *state;
	int fd = raw_connect(f);
	size_t n;

	raw_send_frame(f, fd, &(struct frame){.kind = FRAME_MESSAGE, .length_bytes = 1});
	raw_expect_eof(f, fd);
	close(fd);
	fd = raw_connect(f); /* the handshake's deadline */
	raw_expect_eof(f, fd);
	close(fd);
	for (n = 0; n < FRAME_HEADER_BYTES; n++) { /* closes, at every byte */
		uint8_t bytes[FRAME_HEADER_BYTES];

		frame_encode(&preamble, bytes);
		fd = raw_connect(f);
		raw_send(f, fd, bytes, n);
		ev_run(f->loop, EVRUN_ONCE);
		close(fd);
	}
	assert_serves(f);
	assert_int_equal(f->daemons, 1);
	fixture_stop(f);
}

static void
half_open__oldest_goes(void **state)
{
	struct fixture *f = *state;
	int fds[6], i;
	char byte;

	for (i = 0; i < 6; i++) {
		fds[i] = raw_connect(f);
		raw_send(f, fds[i], "S", 1);
		ev_run(f->loop, EVRUN_ONCE);
		ev_run(f->loop, EVRUN_ONCE);
	}
	raw_expect_eof(f, fds[0]);
	raw_expect_eof(f, fds[1]);
	assert_int_equal(recv(fds[2], &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_serves(f);
	for (i = 0; i < 6; i++)
		close(fds[i]);
	fixture_stop(f);
}

static void
frames__that_no_client_sends(void **state)
{
	static const struct frame frames[] = {
		{.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION},
		{.kind = FRAME_READ_DONE, .op_id = 0, .length_bytes = 5},
		{.kind = FRAME_WRITE_DONE, .op_id = 0},
		{.kind = FRAME_MESSAGE, .length_bytes = 0},
		{.kind = FRAME_MESSAGE, .length_bytes = FRAME_MESSAGE_BYTES_MAX + 1},
		{.kind = FRAME_READ, .length_bytes = FRAME_OP_BYTES_MAX + 1},
		{.kind = FRAME_WRITE, .length_bytes = UINT32_MAX},
		{.kind = FRAME_READ, .length_bytes = 0},
		{.kind = (enum frame_kind)99},
	};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		struct end *daemon;
		int fd = peer_up(f, &daemon);

		raw_send_frame(f, fd, &frames[i]);
		raw_expect_eof(f, fd);
		WAIT(f, daemon->downs);
		assert_int_equal(daemon->reason, -EPROTO);
		assert_int_equal(daemon->messages, 0);
		close(fd);
	}
	assert_serves(f);
	fixture_stop(f);
}

/* A message cut at every byte by the end of the stream. */
static void
frames__truncated(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[FRAME_HEADER_BYTES + 20] = {0};
	size_t n;

	frame_encode(&(struct frame){.kind = FRAME_MESSAGE, .length_bytes = 20}, bytes);
	for (n = 0; n <= sizeof(bytes); n++) {
		bool is_whole = n == 0 || n == sizeof(bytes);
		struct end *daemon;
		int fd;

		f->daemons = 0;
		memset(&f->daemon[0], 0, sizeof(f->daemon[0]));
		fd = peer_up(f, &daemon);
		raw_send(f, fd, bytes, n);
		close(fd);
		WAIT(f, daemon->downs);
		assert_int_equal(daemon->reason, is_whole ? 0 : -ECONNRESET);
		assert_int_equal(daemon->messages, n == sizeof(bytes));
	}
	fixture_stop(f);
}

static void
frames__byte_by_byte(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[4 * FRAME_HEADER_BYTES + 3 + 10] = {0};
	uint8_t *p = bytes;
	struct frame answer;
	struct loan loan = {0};
	struct end *daemon;
	uint8_t data[10];
	size_t i;
	int fd = raw_connect(f);

	frame_encode(&preamble, p);
	for (i = 0; i < FRAME_HEADER_BYTES; i++, p++) {
		raw_send(f, fd, p, 1);
		ev_run(f->loop, EVRUN_ONCE);
	}
	raw_recv_frame(f, fd, &answer);
	daemon = &f->daemon[0];
	fixture_lend(f, daemon->conn, &loan);
	frame_encode(&(struct frame){.kind = FRAME_MESSAGE, .length_bytes = 3}, p);
	memcpy(p + FRAME_HEADER_BYTES, "abc", 3);
	p += FRAME_HEADER_BYTES + 3;
	frame_encode(&(struct frame){.kind = FRAME_WRITE,
				     .op_id = 11,
				     .rkey = loan.remote.rkey,
				     .addr = loan.remote.addr + 5,
				     .length_bytes = 10},
		     p);
	memcpy(p + FRAME_HEADER_BYTES, "0123456789", 10);
	p += FRAME_HEADER_BYTES + 10;
	frame_encode(&(struct frame){.kind = FRAME_READ,
				     .op_id = 12,
				     .rkey = loan.remote.rkey,
				     .addr = loan.remote.addr + 5,
				     .length_bytes = 10},
		     p);
	for (i = FRAME_HEADER_BYTES; i < sizeof(bytes); i++) {
		raw_send(f, fd, bytes + i, 1);
		ev_run(f->loop, EVRUN_ONCE);
	}
	raw_recv_frame(f, fd, &answer);
	assert_int_equal(answer.kind, FRAME_WRITE_DONE);
	assert_int_equal(answer.op_id, 11);
	raw_recv_frame(f, fd, &answer);
	assert_int_equal(answer.kind, FRAME_READ_DONE);
	assert_int_equal(answer.op_id, 12);
	raw_recv(f, fd, data, sizeof(data));
	assert_memory_equal(data, "0123456789", 10);
	assert_memory_equal(f->slab + 5, "0123456789", 10);
	assert_int_equal(daemon->messages, 1);
	close(fd);
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, 0);
	fixture_stop(f);
}

static void
stall__inside_frames(void **state)
{
	struct fixture *f = *state;
	struct loan loan = {0};
	struct end *in_header, *in_payload;
	int first = peer_up(f, &in_header), second = peer_up(f, &in_payload);

	fixture_lend(f, in_payload->conn, &loan);
	raw_send(f, first, "SSWT\2", 5);
	raw_send_frame(f, second,
		       &(struct frame){.kind = FRAME_WRITE,
				       .rkey = loan.remote.rkey,
				       .addr = loan.remote.addr,
				       .length_bytes = 4096});
	raw_send(f, second, "half", 4);
	assert_serves(f);
	WAIT(f, in_header->downs && in_payload->downs);
	assert_int_equal(in_header->reason, -ETIMEDOUT);
	assert_int_equal(in_payload->reason, -ETIMEDOUT);
	close(first);
	close(second);
	fixture_stop(f);
}

/* Who is slow but moves is not stalled. */
static void
stall__not_when_slow(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[FRAME_HEADER_BYTES + 8] = {0};
	struct end *daemon;
	int fd = peer_up(f, &daemon);
	size_t i;

	frame_encode(&(struct frame){.kind = FRAME_MESSAGE, .length_bytes = 8}, bytes);
	for (i = 0; i < sizeof(bytes); i++) { /* 40 * 30 ms = 3 times the limit */
		double until = ev_time() + 0.03;

		raw_send(f, fd, bytes + i, 1);
		WAIT(f, ev_time() > until);
	}
	WAIT(f, daemon->messages == 1);
	assert_int_equal(daemon->downs, 0);
	close(fd);
	fixture_stop(f);
}

static void
send_read(struct fixture *f, int fd, const struct loan *loan, uint32_t id, uint32_t length)
{
	raw_send_frame(f, fd,
		       &(struct frame){.kind = FRAME_READ,
				       .op_id = id,
				       .rkey = loan->remote.rkey,
				       .addr = loan->remote.addr,
				       .length_bytes = length});
}

/* Requests as fast as they go, answers unread: the daemon stops reading, serves
 * others, and when the peer reads at last every answer is there. */
static void
backpressure__answers_unread(void **state)
{
	enum { REQUESTS = 200000, LENGTH = 1000 };
	struct fixture *f = *state;
	struct loan loan = {0};
	struct end *daemon;
	int fd = peer_up(f, &daemon);
	uint8_t request[FRAME_HEADER_BYTES], data[LENGTH];
	uint32_t sent = 0, i;
	int idle = 0;
	size_t at = 0;

	fixture_lend(f, daemon->conn, &loan);
	while (sent < REQUESTS && idle < 5) {
		ssize_t n;

		frame_encode(&(struct frame){.kind = FRAME_READ,
					     .op_id = sent,
					     .rkey = loan.remote.rkey,
					     .addr = loan.remote.addr,
					     .length_bytes = LENGTH},
			     request);
		n = send(fd, request + at, sizeof(request) - at, MSG_NOSIGNAL);
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			idle++;
			ev_run(f->loop, EVRUN_ONCE);
			continue;
		}
		idle = 0;
		at += (size_t)n;
		if (at == sizeof(request)) {
			at = 0;
			sent++;
		}
	}
	assert_true(sent < REQUESTS); /* else it read them all and queued without limit */
	assert_serves(f);
	for (i = 0; i < sent; i++) {
		struct frame answer;

		raw_recv_frame(f, fd, &answer);
		assert_int_equal(answer.op_id, i);
		assert_int_equal(answer.status, 0);
		assert_int_equal(answer.length_bytes, LENGTH);
		raw_recv(f, fd, data, LENGTH);
		assert_memory_equal(data, f->slab, LENGTH);
	}
	assert_int_equal(daemon->downs, 0);
	close(fd);
	WAIT(f, daemon->downs);
	fixture_stop(f);
}

static void
backpressure__never_reads(void **state)
{
	struct fixture *f = *state;
	struct loan loan = {0};
	struct end *daemon;
	int fd = peer_up(f, &daemon);
	uint32_t i;

	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < 500; i++)
		send_read(f, fd, &loan, i, FRAME_OP_BYTES_MAX);
	assert_serves(f);
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -ETIMEDOUT);
	close(fd);
	fixture_stop(f);
}

static void
messages__flood(void **state)
{
	enum { N = 20000 };
	struct fixture *f = *state;
	uint8_t *bytes = malloc(N * (FRAME_HEADER_BYTES + TP_MESSAGE_BYTES_MAX));
	uint8_t *p = bytes;
	struct end *daemon;
	int fd = peer_up(f, &daemon);
	size_t at = 0;
	uint32_t i;

	assert_non_null(bytes);
	daemon->is_ordered = true;
	for (i = 0; i < N; i++) {
		uint32_t length = (uint32_t)pattern_message(i, p + FRAME_HEADER_BYTES);

		frame_encode(&(struct frame){.kind = FRAME_MESSAGE, .length_bytes = length}, p);
		p += FRAME_HEADER_BYTES + length;
	}
	while (daemon->messages < N) { /* 128: what came in, and the rest of an earlier turn */
		uint32_t before = daemon->messages;
		ssize_t n = send(fd, bytes + at, (size_t)(p - bytes) - at, MSG_NOSIGNAL);

		at += n > 0 ? (size_t)n : 0;
		ev_run(f->loop, EVRUN_ONCE);
		assert_in_range(daemon->messages - before, 0, 128);
	}
	free(bytes);
	close(fd);
	fixture_stop(f);
}

/* The answer is readable even by one that is in the middle of sending much. */
static void
access__refused_write_of_much(void **state)
{
	struct fixture *f = *state;
	struct frame answer;
	struct end *daemon;
	uint8_t data[FRAME_OP_BYTES_MAX] = {0};
	int fd = peer_up(f, &daemon), i;

	send_read(f, fd, &(struct loan){.remote = {.rkey = 0x10000}}, 5, 4096);
	raw_send(f, fd, data, sizeof(data));
	raw_recv_frame(f, fd, &answer);
	assert_int_equal(answer.kind, FRAME_READ_DONE);
	assert_int_equal(answer.op_id, 5);
	assert_int_equal(answer.status, FRAME_STATUS_ACCESS);
	raw_expect_eof(f, fd);
	for (i = 0; i < 5; i++)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(daemon->downs, 0); /* waits for us to close, up to its deadline */
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -EACCES);
	close(fd);
	fixture_stop(f);
}

static void
revoke__half_received_write(void **state)
{
	struct fixture *f = *state;
	struct frame answer;
	struct loan loan = {0};
	struct end *daemon;
	uint8_t data[FRAME_OP_BYTES_MAX];
	int fd = peer_up(f, &daemon);
	uint32_t i;

	fixture_lend(f, daemon->conn, &loan);
	memset(data, 0xaa, sizeof(data));
	raw_send_frame(f, fd,
		       &(struct frame){.kind = FRAME_WRITE,
				       .op_id = 3,
				       .rkey = loan.remote.rkey,
				       .addr = loan.remote.addr,
				       .length_bytes = sizeof(data)});
	raw_send(f, fd, data, 1000);
	WAIT(f, f->slab[999] == 0xaa);
	fixture_revoke(&loan);
	fill_pattern(f->slab, SLAB_BYTES, 5); /* the next owner's */
	raw_send(f, fd, data, sizeof(data) - 1000);
	raw_recv_frame(f, fd, &answer);
	assert_int_equal(answer.kind, FRAME_WRITE_DONE);
	assert_int_equal(answer.op_id, 3);
	assert_int_equal(answer.status, FRAME_STATUS_ACCESS);
	for (i = 0; i < 10; i++)
		ev_run(f->loop, EVRUN_ONCE);
	assert_true(is_pattern(f->slab, SLAB_BYTES, 5));
	close(fd);
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -EACCES);
	fixture_stop(f);
}

/* Of two grants one is revoked (its READ turns into an error, so the connection
 * goes): a WRITE on its way into the other stops at once. */
static void
revoke__other_grant_stops_too(void **state)
{
	struct fixture *f = *state;
	struct loan first = {0}, second = {0};
	struct end *daemon;
	uint8_t data[1000];
	int fd = peer_up(f, &daemon);
	uint32_t i;

	fixture_lend(f, daemon->conn, &first);
	fixture_lend(f, daemon->conn, &second);
	for (i = 0; i < 500; i++) /* more than the socket takes */
		send_read(f, fd, &first, i, FRAME_OP_BYTES_MAX);
	raw_send_frame(f, fd,
		       &(struct frame){.kind = FRAME_WRITE,
				       .rkey = second.remote.rkey,
				       .addr = second.remote.addr,
				       .length_bytes = 2 * sizeof(data)});
	memset(data, 0xaa, sizeof(data));
	raw_send(f, fd, data, sizeof(data));
	WAIT(f, f->slab[999] == 0xaa);
	fixture_revoke(&first);
	fill_pattern(f->slab, SLAB_BYTES, 5);
	raw_send(f, fd, data, sizeof(data));
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -EACCES);
	assert_true(is_pattern(f->slab, SLAB_BYTES, 5));
	close(fd);
	fixture_stop(f);
}

/* Answers that wait for a slow reader when the slab goes to somebody else: those
 * that come carry the old bytes whole, the rest are errors, none the new bytes. */
static void
revoke__queued_answers(void **state)
{
	enum { REQUESTS = 200 };
	struct fixture *f = *state;
	struct loan loan = {0};
	struct end *daemon;
	uint8_t *data = malloc(FRAME_OP_BYTES_MAX);
	int fd = peer_up(f, &daemon);
	uint32_t i, good = 0, refused = 0;

	assert_non_null(data);
	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < REQUESTS; i++)
		send_read(f, fd, &loan, i, FRAME_OP_BYTES_MAX);
	for (i = 0; i < 50; i++)
		ev_run(f->loop, EVRUN_ONCE);
	fixture_revoke(&loan);
	memset(f->slab, 0xee, SLAB_BYTES);
	for (i = 0; i < REQUESTS; i++) {
		struct frame answer;

		raw_recv_frame(f, fd, &answer);
		assert_int_equal(answer.kind, FRAME_READ_DONE);
		assert_int_equal(answer.op_id, i);
		if (answer.status != 0) {
			assert_int_equal(answer.status, FRAME_STATUS_ACCESS);
			refused++;
			continue;
		}
		assert_int_equal(refused, 0);
		good++;
		raw_recv(f, fd, data, FRAME_OP_BYTES_MAX);
		assert_true(is_pattern(data, FRAME_OP_BYTES_MAX, 1));
	}
	assert_true(good > 0);
	assert_true(refused > 0);
	raw_expect_eof(f, fd);
	close(fd);
	WAIT(f, daemon->downs);
	assert_int_equal(daemon->reason, -EACCES);
	free(data);
	fixture_stop(f);
}

/* Every answer was out: a revoke alone does not end the connection. */
static void
revoke__nothing_queued_keeps_connection(void **state)
{
	struct fixture *f = *state;
	struct frame answer;
	struct loan loan = {0};
	struct end *daemon;
	uint8_t data[64];
	int fd = peer_up(f, &daemon), r;

	fixture_lend(f, daemon->conn, &loan);
	send_read(f, fd, &loan, 1, sizeof(data));
	raw_recv_frame(f, fd, &answer);
	raw_recv(f, fd, data, sizeof(data));
	fixture_revoke(&loan);
	CALL(f, r = tp_send(daemon->conn, "hello", 5));
	assert_int_equal(r, 0);
	raw_recv_frame(f, fd, &answer);
	assert_int_equal(answer.kind, FRAME_MESSAGE);
	close(fd);
	fixture_stop(f);
}

/* A message must not go out in the middle of an answer, not even as the last word. */
static void
close__inside_an_answer(void **state)
{
	struct fixture *f = *state;
	struct frame answer;
	struct loan loan = {0};
	struct end *daemon;
	uint8_t *data = malloc(FRAME_OP_BYTES_MAX);
	size_t at = 0;
	ssize_t n;
	int fd = peer_up(f, &daemon), i, r;

	assert_non_null(data);
	fixture_lend(f, daemon->conn, &loan);
	send_read(f, fd, &loan, 1, FRAME_OP_BYTES_MAX);
	for (i = 0; i < 5; i++)
		ev_run(f->loop, EVRUN_ONCE);
	CALL(f, r = tp_send(daemon->conn, "last words", 10));
	assert_int_equal(r, 0);
	raw_recv_frame(f, fd, &answer);
	while ((n = recv(fd, data + at, FRAME_OP_BYTES_MAX - at, 0)) > 0)
		at += (size_t)n; /* now the socket has room */
	assert_in_range(at, 1, FRAME_OP_BYTES_MAX - 1);
	CALL(f, tp_close(daemon->conn));
	while ((n = recv(fd, data + at, FRAME_OP_BYTES_MAX - at, 0)) > 0)
		at += (size_t)n;
	assert_true(is_pattern(data, at, 1));
	free(data);
	close(fd);
	fixture_stop(f);
}

static void
accept__out_of_descriptors(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, low;
	struct end *daemon;
	int fd = raw_connect(f), turns = 0;
	double until = ev_time() + 0.25;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = before;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	log_set_level((enum log_level)0);
	raw_send_frame(f, fd, &preamble);
	while (ev_time() < until) {
		ev_run(f->loop, EVRUN_ONCE);
		turns++;
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(f->daemons, 0);
	assert_in_range(turns, 1, 300); /* the fixture's tick, not a busy loop */
	WAIT(f, f->daemons == 1);
	daemon = &f->daemon[0];
	close(fd);
	WAIT(f, daemon->downs);
	fixture_stop(f);
}

static void
peer_resets__in_every_state(void **state)
{
	const struct linger hard = {.l_onoff = 1, .l_linger = 0};
	struct fixture *f = *state;
	struct loan loan = {0};
	struct end *daemon;
	int fd, i;

	fd = raw_connect(f);
	for (i = 0; i < 3; i++)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(fd);

	fd = peer_up(f, &daemon);
	fixture_lend(f, daemon->conn, &loan);
	for (i = 0; i < 100; i++)
		send_read(f, fd, &loan, (uint32_t)i, FRAME_OP_BYTES_MAX);
	for (i = 0; i < 10; i++)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(fd);
	WAIT(f, daemon->downs);
	assert_true(daemon->reason == -ECONNRESET || daemon->reason == -EPIPE);
	assert_serves(f);
	fixture_stop(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
#define TEST_SLOW(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup_default, fixture_teardown)

#define TEST_NARROW(fn)                                                                            \
	{                                                                                          \
#fn "__narrow", fn, fixture_setup_narrow, fixture_teardown, NULL                   \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(preamble__every_byte_wrong),
		TEST(preamble__another_kind_or_nothing),
		cmocka_unit_test_setup_teardown(half_open__oldest_goes, fixture_setup_patient,
						fixture_teardown),
		TEST(frames__that_no_client_sends),
		TEST_SLOW(frames__truncated),
		TEST_SLOW(frames__byte_by_byte),
		TEST(stall__inside_frames),
		TEST(stall__not_when_slow),
		TEST_SLOW(backpressure__answers_unread),
		TEST(backpressure__never_reads),
		TEST_SLOW(messages__flood),
		TEST_SLOW(access__refused_write_of_much),
		TEST_SLOW(revoke__half_received_write),
		TEST(revoke__other_grant_stops_too),
		TEST_SLOW(revoke__queued_answers),
		TEST_NARROW(revoke__queued_answers),
		TEST_NARROW(frames__byte_by_byte),
		TEST_SLOW(revoke__nothing_queued_keeps_connection),
		TEST_NARROW(close__inside_an_answer),
		TEST_SLOW(accept__out_of_descriptors),
		TEST_SLOW(peer_resets__in_every_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
