/* SPDX-License-Identifier: MIT */
#include "tcp_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/page.h"
#include "transport/address.h"
#include "transport/shm.h"
#include "wire/bytes.h"

#define WAIT_SECONDS 20.0

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double
fixture_deadline(void)
{
	return now() + WAIT_SECONDS;
}

void
fixture_turn(struct fixture *f, double deadline, const char *what, const char *file, int line)
{
	if (now() > deadline) {
		print_error("no '%s' after %.0f seconds\n", what, WAIT_SECONDS);
		_fail(file, line);
	}
	ev_run(f->loop, EVRUN_ONCE);
}

static void
tick_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
end_up(void *arg)
{
	struct end *e = arg;

	assert_int_equal(e->f->in_call, 0);
	assert_int_equal(e->downs, 0);
	e->ups++;
	if (e->closes_on_up)
		CALL(e->f, tp_close(e->conn));
}

static void
end_message(void *arg, const void *msg, size_t length_bytes)
{
	struct end *e = arg;
	int r;

	assert_int_equal(e->f->in_call, 0);
	assert_int_equal(e->downs, 0);
	assert_in_range(length_bytes, 1, TP_MESSAGE_BYTES_MAX);
	if (e->is_ordered) {
		uint8_t expected[TP_MESSAGE_BYTES_MAX];

		assert_int_equal(length_bytes, pattern_message(e->messages, expected));
		assert_memory_equal(msg, expected, length_bytes);
	}
	e->messages++;
	memcpy(e->message, msg, length_bytes);
	e->message_bytes = length_bytes;
	if (e->echoes) {
		CALL(e->f, r = tp_send(e->conn, msg, length_bytes));
		assert_int_equal(r, 0);
	}
	if (e->closes_on_message)
		CALL(e->f, tp_close(e->conn));
}

static void
end_down(void *arg, int reason)
{
	struct end *e = arg;

	assert_int_equal(e->f->in_call, 0);
	assert_true(strncmp(tp_conn_name(e->conn), e->f->scheme, 4) == 0);
	e->downs++;
	e->reason = reason;
}

const struct tp_conn_events end_events = {
	.up = end_up,
	.message = end_message,
	.down = end_down,
};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct fixture *f = arg;
	struct end *e;

	assert_int_equal(f->in_call, 0);
	if (f->refuses) {
		f->daemons++;
		CALL(f, tp_close(conn));
		return;
	}
	assert_true(f->daemons < ENDS_MAX);
	e = &f->daemon[f->daemons++];
	e->f = f;
	e->conn = conn;
	CALL(f, tp_accept(conn, &end_events, e));
	if (f->closes_accepted)
		CALL(f, tp_close(conn));
}

static void
make_slab(struct fixture *f)
{
	void *slab = NULL;

	if (tp_has_memory(f->tp))
		assert_int_equal(tp_memory_new(f->tp, SLAB_BYTES, false, &slab), 0);
	else
		slab = malloc(SLAB_BYTES);
	assert_non_null(slab);
	f->slab = slab;
	assert_int_equal(tp_region_register(f->tp, f->slab, SLAB_BYTES, TP_LEND, &f->slab_region),
			 0);
}

static void
drop_slab(struct fixture *f, uint8_t *slab, struct tp_region *region)
{
	assert_int_equal(tp_region_release(region), 0);
	if (tp_has_memory(f->tp))
		tp_memory_free(f->tp, slab);
	else
		free(slab);
}

static struct fixture *
setup_loop(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	log_set_level(LOG_LEVEL_ERROR); /* refusals are what is tested here */
	f->loop = ev_loop_new(0);
	assert_non_null(f->loop);
	ev_timer_init(&f->tick, tick_cb, 0.002, 0.002);
	ev_timer_start(f->loop, &f->tick);
	return f;
}

static int
setup_rest(void **state, struct fixture *f, const char *scheme, const char *address)
{
	char text[TP_NAME_BYTES_MAX] = "";

	f->scheme = scheme;
	assert_int_equal(tp_listen(f->tp, address, incoming_cb, f, &f->listener), 0);
	tp_listener_address(f->listener, text, sizeof(text));
	assert_true(strncmp(text, scheme, 4) == 0);
	(void)snprintf(f->address, sizeof(f->address), "%s", text + 4);
	make_slab(f);
	f->buf = malloc(BUF_BYTES);
	assert_non_null(f->buf);
	fill_pattern(f->slab, SLAB_BYTES, 1);
	memset(f->buf, 0, BUF_BYTES);
	assert_int_equal(tp_region_register(f->tp, f->buf, BUF_BYTES, TP_LEND_NOT, &f->buf_region),
			 0);
	*state = f;
	return 0;
}

static int
setup(void **state, const struct tcp_limits *limits, const char *address)
{
	struct fixture *f = setup_loop();

	assert_int_equal(tcp_tp_new_with_limits(f->loop, limits, &f->tp), 0);
	return setup_rest(state, f, "tcp:", address);
}

int
fixture_setup_shm(void **state)
{
	const struct shm_limits limits = {
		.handshake_ms = 300, .stall_ms = 400, .revoke_ms = 300, .half_open_max = 4};
	struct fixture *f = setup_loop();
	char path[64];

	(void)snprintf(f->directory, sizeof(f->directory), "/tmp/test_shm.XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	(void)snprintf(path, sizeof(path), "%s/s", f->directory);
	assert_int_equal(shm_tp_new_with_limits(f->loop, &limits, &f->tp), 0);
	return setup_rest(state, f, "shm:", path);
}

int
fixture_setup(void **state)
{
	const struct tcp_limits limits = {
		.handshake_ms = 300, .stall_ms = 400, .linger_ms = 300, .half_open_max = 4};

	return setup(state, &limits, "127.0.0.1:0");
}

int
fixture_setup_default(void **state)
{
	return setup(state, &TCP_LIMITS_DEFAULT, "127.0.0.1:0");
}

int
fixture_setup_ipv6(void **state)
{
	return setup(state, &TCP_LIMITS_DEFAULT, "[::1]:0");
}

int
fixture_setup_narrow(void **state)
{
	int r = setup(state, &TCP_LIMITS_DEFAULT, "127.0.0.1:0");

	((struct fixture *)*state)->is_narrow = true;
	return r;
}

int
fixture_setup_patient(void **state)
{
	struct tcp_limits limits = TCP_LIMITS_DEFAULT;

	limits.handshake_ms = 60000;
	limits.half_open_max = 4;
	return setup(state, &limits, "127.0.0.1:0");
}

/* The transport's sockets are found by their being sockets of this process. */
static void
make_narrow(struct fixture *f)
{
	const int bytes = 16384;
	int fd;

	for (fd = 3; f->is_narrow && fd < 256; fd++)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void
stopped_cb(void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(f->in_call, 0);
	f->stopped++;
}

void
fixture_stop(struct fixture *f)
{
	CALL(f, tp_shutdown(f->tp, stopped_cb, f));
	WAIT(f, f->stopped);
	assert_int_equal(f->stopped, 1);
	drop_slab(f, f->slab, f->slab_region);
	while (f->n_spent > 0) {
		f->n_spent--;
		drop_slab(f, f->spent[f->n_spent], f->spent_regions[f->n_spent]);
	}
	assert_int_equal(tp_region_release(f->buf_region), 0);
	f->tp = tp_free(f->tp);
	ev_timer_stop(f->loop, &f->tick);
	ev_run(f->loop, 0); /* returns: no watcher was left behind */
}

int
fixture_teardown(void **state)
{
	struct fixture *f = *state;

	/* A test that failed left its ends on a stack that is gone: no callback may run. */
	if (f->tp)
		return -1;
	ev_loop_destroy(f->loop);
	if (f->directory[0])
		assert_int_equal(rmdir(f->directory), 0); /* the socket is gone */
	free(f->buf);
	free(f);
	return 0;
}

void
fixture_connect(struct fixture *f, struct end *end)
{
	int r;

	end->f = f;
	CALL(f, r = tp_connect(f->tp, f->address, 10 * NSEC_PER_SEC, &end_events, end, &end->conn));
	assert_int_equal(r, 0);
}

struct end *
fixture_pair(struct fixture *f, struct end *client)
{
	int before = f->daemons;

	fixture_connect(f, client);
	WAIT(f, client->ups && f->daemons > before);
	make_narrow(f);
	return &f->daemon[before];
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	assert_int_equal(loan->f->in_call, 0);
	assert_ptr_equal(grant, loan->grant);
	loan->granted++;
	loan->status = status;
	tp_grant_remote(grant, &loan->remote);
	if (loan->close_on_granted)
		CALL(loan->f, tp_close(loan->close_on_granted));
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	assert_int_equal(loan->f->in_call, 0);
	assert_ptr_equal(grant, loan->grant);
	assert_int_equal(status, 0);
	loan->revoked++;
	if (loan->close_on_revoked)
		CALL(loan->f, tp_close(loan->close_on_revoked));
}

/* As a daemon has to: what was lent once stays with who had it. */
static void
replace_spent(struct fixture *f)
{
	uint8_t *before = f->slab;

	if (!tp_region_is_spent(f->slab_region))
		return;
	assert_true(f->n_spent < SPENT_MAX);
	f->spent[f->n_spent] = f->slab;
	f->spent_regions[f->n_spent++] = f->slab_region;
	make_slab(f);
	memcpy(f->slab, before, SLAB_BYTES);
}

void
fixture_lend(struct fixture *f, struct tp_conn *conn, struct loan *loan)
{
	int r;

	replace_spent(f);
	loan->f = f;
	CALL(f, r = tp_grant(conn, f->slab_region, granted_cb, loan, &loan->grant));
	assert_int_equal(r, 0);
	assert_int_equal(tp_region_release(f->slab_region), -EBUSY);
	WAIT(f, loan->granted);
	assert_int_equal(loan->status, 0);
	assert_true(loan->remote.length_bytes == SLAB_BYTES);
}

void
fixture_revoke(struct loan *loan)
{
	CALL(loan->f, tp_revoke(loan->grant, revoked_cb, loan));
	WAIT(loan->f, loan->revoked);
}

void
fixture_revoke_or_down(struct loan *loan, const struct end *daemon)
{
	CALL(loan->f, tp_revoke(loan->grant, revoked_cb, loan));
	WAIT(loan->f, loan->revoked || daemon->downs);
}

void
fill_pattern(uint8_t *p, size_t bytes, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 12345u;
	size_t i;

	for (i = 0; i < bytes; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (uint8_t)(x >> 24);
	}
}

bool
is_pattern(const uint8_t *p, size_t bytes, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 12345u;
	size_t i;

	for (i = 0; i < bytes; i++) {
		x = x * 1664525u + 1013904223u;
		if (p[i] != (uint8_t)(x >> 24))
			return false;
	}
	return true;
}

size_t
pattern_message(uint32_t k, uint8_t *msg)
{
	size_t length = 4 + (size_t)k * 37 % (TP_MESSAGE_BYTES_MAX - 3);

	fill_pattern(msg, length, k);
	put_le32(msg, k);
	return length;
}

int
raw_connect(struct fixture *f)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd;

	assert_int_equal(tp_address_parse(f->address, &address, &length), 0);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&address, length) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

int
raw_connect_up(struct fixture *f)
{
	int fd = raw_connect(f);
	struct frame frame;

	raw_send_frame(f, fd, &(struct frame){.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION});
	raw_recv_frame(f, fd, &frame);
	assert_int_equal(frame.kind, FRAME_PREAMBLE);
	assert_int_equal(frame.op_id, FRAME_VERSION);
	make_narrow(f);
	return fd;
}

int
raw_listen(char *ret_address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
	tp_address_format((struct sockaddr *)&in, ret_address, TP_NAME_BYTES_MAX);
	return fd;
}

int
raw_accept(struct fixture *f, int listen_fd)
{
	int fd;

	WAIT(f, (fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0);
	return fd;
}

void
raw_send(struct fixture *f, int fd, const void *bytes, size_t length)
{
	size_t at = 0;

	while (at < length) {
		ssize_t n;

		WAIT(f,
		     (n = send(fd, (const uint8_t *)bytes + at, length - at, MSG_NOSIGNAL)) >= 0 ||
			     (errno != EAGAIN && errno != ENOTCONN));
		assert_true(n > 0);
		at += (size_t)n;
	}
}

void
raw_send_frame(struct fixture *f, int fd, const struct frame *frame)
{
	uint8_t bytes[FRAME_HEADER_BYTES];

	frame_encode(frame, bytes);
	raw_send(f, fd, bytes, sizeof(bytes));
}

void
raw_recv(struct fixture *f, int fd, void *bytes, size_t length)
{
	size_t at = 0;

	while (at < length) {
		ssize_t n;

		WAIT(f, (n = recv(fd, (uint8_t *)bytes + at, length - at, 0)) >= 0 ||
				(errno != EAGAIN && errno != ENOTCONN));
		assert_true(n > 0);
		at += (size_t)n;
	}
}

void
raw_recv_frame(struct fixture *f, int fd, struct frame *ret_frame)
{
	uint8_t bytes[FRAME_HEADER_BYTES];

	raw_recv(f, fd, bytes, sizeof(bytes));
	assert_int_equal(frame_decode(bytes, ret_frame), 0);
}

void
raw_expect_eof(struct fixture *f, int fd)
{
	uint8_t bytes[4096];
	ssize_t n;

	do {
		WAIT(f, (n = recv(fd, bytes, sizeof(bytes), 0)) >= 0 || errno != EAGAIN);
	} while (n > 0);
	assert_true(n == 0 || errno == ECONNRESET);
}
