/* SPDX-License-Identifier: MIT */
/*
 * The tcp transport and a peer of raw sockets that keeps no rule, over loopback: the
 * first byte of the input chooses whether ours is the daemon's side or the client's,
 * the rest is the list of what happens.
 *
 * Held, daemon: bytes outside a granted region and those of a revoked one never change.
 * Held, client: each op is done once, a READ that succeeded has the bytes that were sent,
 * nobody touches a buffer behind the op's length or after done().  Both: every connection goes down, once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

#include "common/log.h"
#include "fuzz.h"
#include "transport/address.h"
#include "transport/tcp.h"
#include "wire/frame.h"

#define LIMITS                                                                                     \
	(struct tcp_limits)                                                                        \
	{                                                                                          \
		.handshake_ms = 5000, .stall_ms = 10000, .linger_ms = 1000, .half_open_max = 4     \
	}
#define REGIONS 2u
#define REGION_BYTES 16384u
#define GUARD_BYTES 4096u
#define OPS 16u
#define OP_BYTES 8192u
#define ASKED_MAX 64u
#define TURNS_TO_END 10000
#define FILLER 0x5a
#define GUARD 0xcc
#define TAKEN_BACK 0x77

/* Lives as long as the process. */
struct bench {
	struct ev_loop *loop;
	struct tp *tp;
	struct tp_listener *listener;
	char address[TP_NAME_BYTES_MAX];
	int raw_listen_fd;
	char raw_address[TP_NAME_BYTES_MAX];
	uint8_t lent[REGIONS][GUARD_BYTES + REGION_BYTES + GUARD_BYTES];
	struct tp_region *regions[REGIONS];
	uint8_t buf[OPS][OP_BYTES];
	struct tp_region *buf_region;
	struct scene *scene; /* of this input */
};

struct loan {
	struct scene *s;
	struct tp_grant *grant; /* NULL: not lent */
	bool is_granted;
	bool is_revoking;
	struct tp_remote remote; /* also of the last loan that is over */
};

struct scene_op {
	struct tp_op op; /* first */
	struct scene *s;
	bool is_posted;
	bool is_over; /* its bytes are ours again and stay as they are */
};

struct scene {
	struct bench *b;
	struct fuzz_input in;
	int fd;		      /* the raw peer's; -1: closed */
	struct tp_conn *conn; /* ours; NULL: none yet, or down */
	bool is_up;
	bool has_come;
	bool is_deaf;
	bool echoes;
	bool is_exact; /* every payload so far was whole: FILLER is all that a READ can bring */
	int downs;
	struct loan loans[REGIONS];
	struct scene_op ops[OPS];
	/* What the raw daemon was asked for. */
	uint8_t rx[FRAME_HEADER_BYTES];
	uint32_t rx_bytes;
	uint32_t skip_bytes;
	struct frame asked[ASKED_MAX];
	uint32_t asked_count;
};

static void
up_cb(void *arg)
{
	struct scene *s = arg;

	FUZZ_CHECK(!s->is_up);
	s->is_up = true;
}

static void
message_cb(void *arg, const void *msg, size_t length_bytes)
{
	struct scene *s = arg;

	FUZZ_CHECK(s->conn && length_bytes >= 1 && length_bytes <= TP_MESSAGE_BYTES_MAX);
	if (s->echoes)
		(void)tp_send(s->conn, msg, length_bytes);
}

static void
take_back(struct bench *b, struct loan *loan)
{
	const size_t index = (size_t)(loan - loan->s->loans);

	memset(b->lent[index] + GUARD_BYTES, TAKEN_BACK, REGION_BYTES);
	loan->grant = NULL;
	loan->is_granted = loan->is_revoking = false;
}

static void
down_cb(void *arg, int reason)
{
	struct scene *s = arg;

	FUZZ_CHECK(reason <= 0 && s->conn && s->downs == 0);
	s->downs++;
	s->conn = NULL;
	for (uint32_t i = 0; i < REGIONS; i++)
		if (s->loans[i].grant)
			take_back(s->b, &s->loans[i]);
	for (uint32_t i = 0; i < OPS; i++)
		FUZZ_CHECK(!s->ops[i].is_posted);
}

static const struct tp_conn_events EVENTS = {.up = up_cb, .message = message_cb, .down = down_cb};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct bench *b = arg;
	struct scene *s = b->scene;

	FUZZ_CHECK(s && !s->has_come);
	s->has_come = true;
	s->conn = conn;
	s->is_up = true;
	tp_accept(conn, &EVENTS, s);
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	FUZZ_CHECK(loan->grant == grant && status == 0 && !loan->is_granted);
	loan->is_granted = true;
	tp_grant_remote(grant, &loan->remote);
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	FUZZ_CHECK(loan->grant == grant && status == 0 && loan->is_revoking);
	take_back(loan->s->b, loan);
}

static void
done_cb(struct tp_op *op, int status)
{
	struct scene_op *o = (struct scene_op *)op;

	FUZZ_CHECK(o->is_posted && status <= 0);
	o->is_posted = false;
	if (status == 0 && op->kind == TP_OP_READ && o->s->is_exact)
		for (uint32_t i = 0; i < op->length_bytes; i++)
			FUZZ_CHECK(((uint8_t *)op->buf)[i] == FILLER);
	for (uint32_t i = op->length_bytes; i < OP_BYTES; i++)
		FUZZ_CHECK(((uint8_t *)op->buf)[i] == GUARD);
	memset(op->buf, TAKEN_BACK, OP_BYTES);
	o->is_over = true;
}

static void
bench_start(struct bench *b)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(in);
	char text[TP_NAME_BYTES_MAX];

	log_set_level(LOG_LEVEL_ERROR);
	b->loop = ev_loop_new(EVFLAG_AUTO);
	FUZZ_CHECK(b->loop && tcp_tp_new_with_limits(b->loop, &LIMITS, &b->tp) == 0);
	FUZZ_CHECK(tp_listen(b->tp, "127.0.0.1:0", incoming_cb, b, &b->listener) == 0);
	tp_listener_address(b->listener, text, sizeof(text));
	(void)snprintf(b->address, sizeof(b->address), "%s", text + 4);
	b->raw_listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	FUZZ_CHECK(b->raw_listen_fd >= 0);
	FUZZ_CHECK(bind(b->raw_listen_fd, (struct sockaddr *)&in, length) == 0);
	FUZZ_CHECK(listen(b->raw_listen_fd, 8) == 0);
	FUZZ_CHECK(getsockname(b->raw_listen_fd, (struct sockaddr *)&in, &length) == 0);
	tp_address_format((struct sockaddr *)&in, b->raw_address, sizeof(b->raw_address));
	memset(b->lent, GUARD, sizeof(b->lent));
	for (uint32_t i = 0; i < REGIONS; i++)
		FUZZ_CHECK(tp_region_register(b->tp, b->lent[i] + GUARD_BYTES, REGION_BYTES,
					      TP_LEND, &b->regions[i]) == 0);
	FUZZ_CHECK(tp_region_register(b->tp, b->buf, sizeof(b->buf), TP_LEND_NOT, &b->buf_region) ==
		   0);
}

static struct bench *
bench(void)
{
	static struct bench b;

	if (!b.loop)
		bench_start(&b);
	return &b;
}

static void
raw_close(struct scene *s)
{
	/* A reset: the port is free at once. */
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (s->fd < 0)
		return;
	(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(s->fd);
	s->fd = -1;
}

static void
note_asked(struct scene *s)
{
	struct frame frame;

	s->rx_bytes = 0;
	FUZZ_CHECK(frame_decode(s->rx, &frame) == 0); /* ours are well formed, whatever came */
	if (frame.kind == FRAME_MESSAGE || frame.kind == FRAME_WRITE ||
	    (frame.kind == FRAME_READ_DONE && frame.status == FRAME_STATUS_OK))
		s->skip_bytes = frame.length_bytes;
	if (frame.kind == FRAME_READ || frame.kind == FRAME_WRITE)
		s->asked[s->asked_count++ % ASKED_MAX] = frame;
}

static void
raw_read(struct scene *s)
{
	uint8_t bytes[16384];
	ssize_t n;

	while (s->fd >= 0 && (n = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		for (ssize_t at = 0; at < n;) {
			uint32_t part = (uint32_t)(n - at);

			if (s->skip_bytes > 0) {
				part = part < s->skip_bytes ? part : s->skip_bytes;
				s->skip_bytes -= part;
			} else {
				const uint32_t want = FRAME_HEADER_BYTES - s->rx_bytes;

				part = part < want ? part : want;
				memcpy(s->rx + s->rx_bytes, bytes + at, part);
				s->rx_bytes += part;
				if (s->rx_bytes == FRAME_HEADER_BYTES)
					note_asked(s);
			}
			at += part;
		}
	}
}

static void
turn(struct scene *s)
{
	ev_run(s->b->loop, EVRUN_NOWAIT);
	if (!s->is_deaf)
		raw_read(s);
}

/* What is not taken in a few turns is lost. */
static void
raw_say(struct scene *s, const void *bytes, size_t length)
{
	const uint8_t *p = bytes;

	for (int tries = 0; length && s->fd >= 0 && tries < 4;) {
		const ssize_t n = send(s->fd, p, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			p += n;
			length -= (size_t)n;
		} else {
			tries++;
			turn(s);
		}
	}
	if (length)
		s->is_exact = false;
}

static void
raw_say_frame(struct scene *s, const struct frame *frame)
{
	uint8_t bytes[FRAME_HEADER_BYTES];

	frame_encode(frame, bytes);
	raw_say(s, bytes, sizeof(bytes));
}

static void
raw_say_filler(struct scene *s, uint32_t bytes)
{
	uint8_t filler[4096];

	memset(filler, FILLER, sizeof(filler));
	for (; bytes; bytes -= bytes < sizeof(filler) ? bytes : (uint32_t)sizeof(filler))
		raw_say(s, filler, bytes < sizeof(filler) ? bytes : sizeof(filler));
}

static void
preamble(struct scene *s)
{
	const uint8_t how = fuzz_u8(&s->in);

	raw_say_frame(s, &(struct frame){.kind = FRAME_PREAMBLE,
					 .op_id = how ? fuzz_u32(&s->in) : FRAME_VERSION});
}

static void
any_frame(struct scene *s)
{
	struct frame frame = {0};

	frame.kind = (enum frame_kind)fuzz_below(&s->in, FRAME_WRITE_DONE + 2);
	frame.status = fuzz_u8(&s->in);
	frame.op_id = fuzz_u32(&s->in);
	frame.rkey = fuzz_u32(&s->in);
	frame.addr = fuzz_u64(&s->in);
	frame.length_bytes = fuzz_u32(&s->in);
	raw_say_frame(s, &frame);
}

/* --- daemon's side --- */

/* READ or WRITE through a loan that is, or was; the input says what is wrong with it. */
static void
access_loan(struct scene *s)
{
	const uint8_t how = fuzz_u8(&s->in);
	const struct loan *loan = &s->loans[how & 1];
	struct frame frame = {.kind = how & 2 ? FRAME_READ : FRAME_WRITE};

	frame.op_id = fuzz_u8(&s->in);
	frame.rkey = loan->remote.rkey ^ (how & 4 ? fuzz_u8(&s->in) : 0);
	frame.addr = loan->remote.addr + fuzz_u16(&s->in) % (2 * REGION_BYTES);
	frame.length_bytes = 1 + fuzz_u16(&s->in) % REGION_BYTES;
	if (how & 8)
		frame.addr -= GUARD_BYTES;
	raw_say_frame(s, &frame);
	if (frame.kind == FRAME_WRITE)
		raw_say_filler(s, how & 16 ? frame.length_bytes / 2 : frame.length_bytes);
}

static void
lend(struct scene *s)
{
	const uint32_t i = fuzz_below(&s->in, REGIONS);
	struct loan *loan = &s->loans[i];

	if (!s->conn || loan->grant)
		return;
	loan->s = s;
	FUZZ_CHECK(tp_grant(s->conn, s->b->regions[i], granted_cb, loan, &loan->grant) == 0 ||
		   !loan->grant);
}

static void
take_loan(struct scene *s)
{
	struct loan *loan = &s->loans[fuzz_below(&s->in, REGIONS)];

	if (!s->conn || !loan->is_granted || loan->is_revoking)
		return;
	loan->is_revoking = true;
	tp_revoke(loan->grant, revoked_cb, loan);
}

/* --- client's side --- */

static void
post(struct scene *s)
{
	const uint8_t how = fuzz_u8(&s->in);
	struct scene_op *o = &s->ops[how % OPS];
	const uint32_t length = 1 + fuzz_u16(&s->in) % OP_BYTES;

	if (!s->conn || o->is_posted)
		return;
	*o = (struct scene_op){.s = s, .is_posted = true};
	memset(s->b->buf[how % OPS], GUARD, OP_BYTES);
	o->op = (struct tp_op){
		.kind = how & 0x80 ? TP_OP_READ : TP_OP_WRITE,
		.length_bytes = length,
		.region = s->b->buf_region,
		.buf = s->b->buf[how % OPS],
		.remote_addr = 0x1000,
		.rkey = 0x2000,
		.done = done_cb,
	};
	tp_post(s->conn, &o->op);
}

/* An answer to something that was asked; the input says what is wrong with it. */
static void
answer(struct scene *s)
{
	const uint8_t how = fuzz_u8(&s->in);
	const struct frame *asked = &s->asked[how % ASKED_MAX];
	const uint8_t wrong = fuzz_u8(&s->in);
	const bool is_read = (asked->kind == FRAME_READ) != (wrong & 1);
	struct frame frame = {
		.kind = is_read ? FRAME_READ_DONE : FRAME_WRITE_DONE,
		.length_bytes = is_read ? asked->length_bytes : 0,
	};

	frame.op_id = asked->op_id ^ (wrong & 2 ? 1u << fuzz_u8(&s->in) % 32 : 0);
	frame.status = wrong & 4 ? fuzz_u8(&s->in) : 0;
	if (frame.status)
		frame.length_bytes = 0;
	if (wrong & 8)
		frame.length_bytes += fuzz_u8(&s->in);
	if (wrong & (8 | 16))
		s->is_exact = false;
	raw_say_frame(s, &frame);
	raw_say_filler(s, wrong & 16 ? frame.length_bytes / 2 : frame.length_bytes);
}

/* --- both --- */

static void
send_message(struct scene *s)
{
	uint8_t message[TP_MESSAGE_BYTES_MAX] = {1, 2, 3};
	const size_t length = 1 + fuzz_u16(&s->in) % TP_MESSAGE_BYTES_MAX;

	if (s->conn && s->is_up)
		(void)tp_send(s->conn, message, length);
}

static void
operate(struct scene *s, bool is_client)
{
	const uint8_t op = fuzz_u8(&s->in);
	const uint8_t *bytes;
	size_t length;

	if (op % 12 >= 4 && op % 12 <= 7)
		s->is_exact = false;
	switch (op % 12) {
	case 0:
	case 1:
		if (is_client)
			answer(s);
		else
			access_loan(s);
		break;
	case 2:
		if (is_client)
			post(s);
		else
			lend(s);
		break;
	case 3:
		if (is_client)
			post(s);
		else
			take_loan(s);
		break;
	case 4:
		preamble(s);
		break;
	case 5:
		any_frame(s);
		break;
	case 6:
		bytes = fuzz_take(&s->in, fuzz_u8(&s->in), &length);
		raw_say(s, bytes, length);
		break;
	case 7:
		raw_say_filler(s, fuzz_u16(&s->in));
		break;
	case 8:
		send_message(s);
		break;
	case 9:
		if (op & 0x80 && s->conn)
			tp_close(s->conn);
		else if (op & 0x40 && s->fd >= 0)
			(void)shutdown(s->fd, SHUT_WR);
		break;
	case 10:
		s->is_deaf = op & 0x80;
		s->echoes = op & 0x40;
		break;
	default:
		break;
	}
	turn(s);
}

/* libFuzzer's timer may interrupt it; asked again, Linux goes on waiting. */
static bool
connect_to(int fd, const struct sockaddr_storage *address, socklen_t length)
{
	int r;

	do
		r = connect(fd, (const struct sockaddr *)address, length);
	while (r < 0 && errno == EINTR);
	return r == 0;
}

static void
begin(struct scene *s, bool is_client)
{
	struct bench *b = s->b;
	struct sockaddr_storage address;
	const int one = 1;
	socklen_t length;

	b->scene = s;
	for (uint32_t i = 0; i < REGIONS; i++)
		s->loans[i].s = s;
	if (is_client) {
		FUZZ_CHECK(tp_connect(b->tp, b->raw_address, UINT64_C(5000000000), &EVENTS, s,
				      &s->conn) == 0);
		s->has_come = true;
		s->fd = accept4(b->raw_listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		FUZZ_CHECK(s->fd >= 0); /* loopback: it was there when connect() returned */
	} else {
		FUZZ_CHECK(tp_address_parse(b->address, &address, &length) == 0);
		s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		FUZZ_CHECK(s->fd >= 0);
		FUZZ_CHECK(connect_to(s->fd, &address, length));
	}
	/* Else what follows the first write waits for an answer. */
	FUZZ_CHECK(setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
	turn(s);
}

static void
check_memory(struct scene *s)
{
	uint8_t guard[GUARD_BYTES], taken_back[REGION_BYTES];

	memset(guard, GUARD, sizeof(guard));
	memset(taken_back, TAKEN_BACK, sizeof(taken_back));
	for (uint32_t i = 0; i < REGIONS; i++) {
		const uint8_t *p = s->b->lent[i];

		FUZZ_CHECK(memcmp(p, guard, GUARD_BYTES) == 0);
		FUZZ_CHECK(memcmp(p + GUARD_BYTES + REGION_BYTES, guard, GUARD_BYTES) == 0);
		if (s->loans[i].remote.rkey)
			FUZZ_CHECK(memcmp(p + GUARD_BYTES, taken_back, REGION_BYTES) == 0);
	}
	for (uint32_t i = 0; i < OPS; i++)
		if (s->ops[i].is_over)
			FUZZ_CHECK(memcmp(s->b->buf[i], taken_back, OP_BYTES) == 0);
}

static void
end(struct scene *s)
{
	int turns;

	for (turns = 0; turns < 3; turns++)
		turn(s);
	raw_close(s);
	for (turns = 0; turns < TURNS_TO_END && (turns < 3 || s->conn); turns++)
		ev_run(s->b->loop, EVRUN_NOWAIT);
	FUZZ_CHECK(!s->conn);
	FUZZ_CHECK(s->downs == (s->has_come ? 1 : 0));
	check_memory(s);
	s->b->scene = NULL;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scene s = {.b = bench(), .in = {data, size}, .fd = -1, .is_exact = true};
	const uint8_t how = fuzz_u8(&s.in);
	const bool is_client = how & 1;

	begin(&s, is_client);
	if (how & 2) { /* what most inputs need */
		raw_say_frame(&s, &(struct frame){.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION});
		turn(&s);
	}
	while (s.in.left)
		operate(&s, is_client);
	end(&s);
	return 0;
}
