/* SPDX-License-Identifier: MIT */
/* A client's side against a daemon of raw sockets that keeps no rule. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/page.h"
#include "tcp_fixture.h"

#define LENGTH 4096u
#define OPS_MAX 40

struct scene;

struct scene_op {
	struct tp_op op; /* first */
	struct scene *scene;
	int dones;
	int status;
};

/* A client of a raw daemon, with ops in flight. */
struct scene {
	struct fixture *f;
	struct end client;
	int listen_fd;
	int fd;
	struct scene_op ops[OPS_MAX];
	uint32_t ids[OPS_MAX]; /* as the client numbered them */
};

static void
op_done(struct tp_op *op, int status)
{
	struct scene_op *o = (struct scene_op *)op;

	assert_int_equal(o->scene->f->in_call, 0);
	assert_int_equal(o->scene->client.downs, 0);
	o->dones++;
	o->status = status;
	memset(op->buf, 0x77, op->length_bytes); /* ours again: nobody else may write to it */
}

static void
begin(struct fixture *f, struct scene *s)
{
	char address[TP_NAME_BYTES_MAX];
	int r;

	memset(s, 0, sizeof(*s));
	s->f = f;
	s->client.f = f;
	s->listen_fd = raw_listen(address);
	CALL(f, r = tp_connect(f->tp, address, NSEC_PER_SEC, &end_events, &s->client,
			       &s->client.conn));
	assert_int_equal(r, 0);
	s->fd = raw_accept(f, s->listen_fd);
}

static void
begin_up(struct fixture *f, struct scene *s)
{
	struct frame frame;

	begin(f, s);
	raw_recv_frame(f, s->fd, &frame);
	assert_int_equal(frame.kind, FRAME_PREAMBLE);
	assert_int_equal(frame.op_id, FRAME_VERSION);
	raw_send_frame(f, s->fd, &frame);
	WAIT(f, s->client.ups);
}

/* Posts @n ops of @kind and takes their requests off the socket. */
static void
post(struct scene *s, enum tp_op_kind kind, int n)
{
	uint8_t data[LENGTH];
	int i;

	for (i = 0; i < n; i++) {
		struct tp_op *op = &s->ops[i].op;

		s->ops[i].scene = s;
		op->kind = kind;
		op->length_bytes = LENGTH;
		op->region = s->f->buf_region;
		op->buf = s->f->buf + (size_t)i * LENGTH;
		op->remote_addr = 0x1000;
		op->rkey = 0x2000;
		op->done = op_done;
		fill_pattern(op->buf, LENGTH, (uint32_t)i);
		CALL(s->f, tp_post(s->client.conn, op));
	}
	for (i = 0; i < n; i++) {
		struct frame frame;

		raw_recv_frame(s->f, s->fd, &frame);
		assert_int_equal(frame.kind, kind == TP_OP_READ ? FRAME_READ : FRAME_WRITE);
		assert_int_equal(frame.rkey, 0x2000);
		assert_true(frame.addr == 0x1000);
		assert_int_equal(frame.length_bytes, LENGTH);
		s->ids[i] = frame.op_id;
		if (kind == TP_OP_WRITE) {
			raw_recv(s->f, s->fd, data, LENGTH);
			assert_true(is_pattern(data, LENGTH, (uint32_t)i));
		}
	}
}

/* Every op is done, once, and the client's end is down. */
static void
finish(struct scene *s, int reason)
{
	int i;

	WAIT(s->f, s->client.downs);
	assert_int_equal(s->client.reason, reason);
	assert_int_equal(s->client.downs, 1);
	for (i = 0; i < OPS_MAX; i++)
		if (s->ops[i].scene)
			assert_int_equal(s->ops[i].dones, 1);
	close(s->fd);
	close(s->listen_fd);
}

static void
preamble__bad(void **state)
{
	static const struct {
		struct frame frame;
		int reason;
	} cases[] = {
		{{.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION + 1}, -EPROTONOSUPPORT},
		{{.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION, .rkey = 1}, -EPROTO},
		{{.kind = FRAME_MESSAGE, .length_bytes = 3}, -EPROTO},
		{{.kind = (enum frame_kind)0}, -EPROTO},
	};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene s;

		begin(f, &s);
		raw_send_frame(f, s.fd, &cases[i].frame);
		finish(&s, cases[i].reason);
		assert_int_equal(s.client.ups, 0);
	}
	fixture_stop(f);
}

static void
preamble__closed_or_silent(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	int r;

	begin(f, &s);
	raw_send(f, s.fd, "SSWT", 4);
	close(s.fd);
	s.fd = dup(s.listen_fd);
	/* With our preamble unread the peer's close is a reset. */
	WAIT(f, s.client.downs);
	r = s.client.reason;
	assert_true(r == -ECONNREFUSED || r == -ECONNRESET);
	finish(&s, r);
	begin(f, &s);
	raw_send(f, s.fd, "SSWT", 4);
	finish(&s, -ETIMEDOUT);
	fixture_stop(f);
}

static void
answers__that_fit_no_op(void **state)
{
	static const struct {
		struct frame frame;
		uint32_t id_flip;
	} cases[] = {
		{{.kind = FRAME_READ_DONE, .length_bytes = LENGTH}, 0x10000}, /* generation */
		{{.kind = FRAME_READ_DONE, .length_bytes = LENGTH}, 0x200},   /* a free slot */
		{{.kind = FRAME_READ_DONE, .length_bytes = LENGTH}, 0x8000},  /* no slot */
		{{.kind = FRAME_READ_DONE, .status = FRAME_STATUS_ACCESS}, 0x200},
		{{.kind = FRAME_READ_DONE, .length_bytes = LENGTH - 1}, 0},
		{{.kind = FRAME_READ_DONE, .length_bytes = LENGTH + 1}, 0},
		{{.kind = FRAME_WRITE_DONE}, 0}, /* for a READ */
		{{.kind = FRAME_READ, .rkey = 1, .length_bytes = 1}, 0},
		{{.kind = FRAME_WRITE, .rkey = 1, .length_bytes = 1}, 0},
		{{.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION}, 0},
	};
	struct fixture *f = *state;
	size_t i;
	int k;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct frame frame = cases[i].frame;
		struct scene s;

		begin_up(f, &s);
		post(&s, TP_OP_READ, 3);
		if (frame.kind != FRAME_PREAMBLE)
			frame.op_id = s.ids[1] ^ cases[i].id_flip;
		raw_send_frame(f, s.fd, &frame);
		finish(&s, -EPROTO);
		for (k = 0; k < 3; k++)
			assert_int_equal(s.ops[k].status, -ECANCELED);
	}
	fixture_stop(f);
}

static void
answers__twice(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	struct frame frame = {.kind = FRAME_WRITE_DONE};

	begin_up(f, &s);
	post(&s, TP_OP_WRITE, 2);
	frame.op_id = s.ids[0];
	raw_send_frame(f, s.fd, &frame);
	raw_send_frame(f, s.fd, &frame);
	finish(&s, -EPROTO);
	assert_int_equal(s.ops[0].status, 0);
	assert_int_equal(s.ops[1].status, -ECANCELED);
	fixture_stop(f);
}

static void
answers__in_any_order(void **state)
{
	struct fixture *f = *state;
	uint8_t data[LENGTH];
	struct scene s;
	int i;

	begin_up(f, &s);
	post(&s, TP_OP_WRITE, OPS_MAX);
	for (i = OPS_MAX - 1; i >= 0; i--)
		raw_send_frame(f, s.fd,
			       &(struct frame){.kind = FRAME_WRITE_DONE, .op_id = s.ids[i]});
	for (i = 0; i < OPS_MAX; i++) {
		WAIT(f, s.ops[i].dones == 1);
		assert_int_equal(s.ops[i].status, 0);
		s.ops[i].dones = 0;
	}
	post(&s, TP_OP_READ, 2);
	for (i = 1; i >= 0; i--) {
		fill_pattern(data, LENGTH, 100);
		raw_send_frame(f, s.fd,
			       &(struct frame){.kind = FRAME_READ_DONE,
					       .op_id = s.ids[i],
					       .length_bytes = LENGTH});
		raw_send(f, s.fd, data, LENGTH / 2);
		WAIT(f, is_pattern(f->buf + (size_t)i * LENGTH, LENGTH / 2, 100));
		assert_int_equal(s.ops[i].dones, 0);
		raw_send(f, s.fd, data + LENGTH / 2, LENGTH / 2);
		WAIT(f, s.ops[i].dones == 1);
		assert_int_equal(s.ops[i].status, 0);
	}
	for (i = 2; i < OPS_MAX; i++)
		s.ops[i].dones = 1;
	close(s.fd);
	s.fd = dup(s.listen_fd);
	finish(&s, 0);
	fixture_stop(f);
}

static void
answers__with_status(void **state)
{
	static const struct {
		uint16_t wire;
		int status;
	} cases[] = {{FRAME_STATUS_ACCESS, -EACCES}, {1, -EIO}, {UINT16_MAX, -EIO}};
	struct fixture *f = *state;
	size_t i;

	for (i = 0; i < 3; i++) {
		struct scene s;

		begin_up(f, &s);
		post(&s, i % 2 ? TP_OP_READ : TP_OP_WRITE, 3);
		raw_send_frame(f, s.fd,
			       &(struct frame){.kind = i % 2 ? FRAME_READ_DONE : FRAME_WRITE_DONE,
					       .status = cases[i].wire,
					       .op_id = s.ids[1]});
		finish(&s, cases[i].status);
		assert_int_equal(s.ops[0].status, -ECANCELED);
		assert_int_equal(s.ops[1].status, cases[i].status);
		assert_int_equal(s.ops[2].status, -ECANCELED);
	}
	fixture_stop(f);
}

/* Closes or goes silent in the middle of the payload of a READ. */
static void
read_answer__half(void **state)
{
	struct fixture *f = *state;
	uint8_t data[LENGTH];
	struct scene s;
	int stalls;

	for (stalls = 0; stalls < 2; stalls++) {
		begin_up(f, &s);
		post(&s, TP_OP_READ, 3);
		memset(data, 0x11, sizeof(data));
		raw_send_frame(f, s.fd,
			       &(struct frame){.kind = FRAME_READ_DONE,
					       .op_id = s.ids[0],
					       .length_bytes = LENGTH});
		raw_send(f, s.fd, data, 100);
		WAIT(f, f->buf[99] == 0x11);
		if (!stalls) {
			close(s.fd);
			s.fd = dup(s.listen_fd);
		}
		finish(&s, stalls ? -ETIMEDOUT : -ECONNRESET);
		assert_int_equal(s.ops[0].status, -ECANCELED);
		assert_int_equal(f->buf[99], 0x77);
	}
	fixture_stop(f);
}

/* The client closes while a payload comes in: its buffer is left alone from done() on. */
static void
read_answer__half_then_close(void **state)
{
	struct fixture *f = *state;
	uint8_t data[LENGTH];
	struct scene s;
	size_t i;

	begin_up(f, &s);
	post(&s, TP_OP_READ, 1);
	memset(data, 0x11, sizeof(data));
	raw_send_frame(f, s.fd,
		       &(struct frame){
			       .kind = FRAME_READ_DONE, .op_id = s.ids[0], .length_bytes = LENGTH});
	raw_send(f, s.fd, data, 100);
	WAIT(f, f->buf[99] == 0x11);
	CALL(f, tp_close(s.client.conn));
	(void)send(s.fd, data, 1000, MSG_NOSIGNAL);
	finish(&s, 0);
	for (i = 0; i < LENGTH; i++)
		assert_int_equal(f->buf[i], 0x77);
	fixture_stop(f);
}

/* Takes no bytes: WRITEs pile up in the socket, then the stall check ends it. */
static void
write__peer_takes_nothing(void **state)
{
	struct fixture *f = *state;
	struct scene s;
	int i;

	begin_up(f, &s);
	for (i = 0; i < OPS_MAX; i++) {
		struct tp_op *op = &s.ops[i].op;

		s.ops[i].scene = &s;
		*op = (struct tp_op){.kind = TP_OP_WRITE,
				     .length_bytes = TP_OP_BYTES_MAX,
				     .region = f->buf_region,
				     .buf = f->buf,
				     .rkey = 1,
				     .done = op_done};
		CALL(f, tp_post(s.client.conn, op));
	}
	finish(&s, -ETIMEDOUT);
	for (i = 0; i < OPS_MAX; i++)
		assert_int_equal(s.ops[i].status, -ECANCELED);
	fixture_stop(f);
}

/* Success for a WRITE whose payload is not out yet cannot be. */
static void
write__answered_before_its_end(void **state)
{
	struct fixture *f = *state;
	struct frame frame;
	struct scene s;
	int i;

	begin_up(f, &s);
	for (i = 0; i < OPS_MAX; i++) {
		s.ops[i].scene = &s;
		s.ops[i].op = (struct tp_op){.kind = TP_OP_WRITE,
					     .length_bytes = TP_OP_BYTES_MAX,
					     .region = f->buf_region,
					     .buf = f->buf,
					     .rkey = 1,
					     .done = op_done};
		CALL(f, tp_post(s.client.conn, &s.ops[i].op));
	}
	raw_recv_frame(f, s.fd, &frame);
	for (i = 0; i < 5; i++)
		ev_run(f->loop, EVRUN_ONCE);
	frame = (struct frame){.kind = FRAME_WRITE_DONE, .op_id = frame.op_id + OPS_MAX - 1};
	/* Slots are given out in order, and the sockets hold less than all of it. */
	raw_send_frame(f, s.fd, &frame);
	finish(&s, -EPROTO);
	fixture_stop(f);
}

/* What the daemon said before it closed arrives, even if our next send fails. */
static void
closed_by_daemon__last_message_is_read(void **state)
{
	const struct linger hard = {.l_onoff = 1, .l_linger = 0};
	struct fixture *f = *state;
	struct scene s;
	int r;

	begin_up(f, &s);
	raw_send_frame(f, s.fd, &(struct frame){.kind = FRAME_MESSAGE, .length_bytes = 3});
	raw_send(f, s.fd, "bye", 3);
	assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(s.fd); /* a reset: our send fails before we have read */
	s.fd = dup(s.listen_fd);
	CALL(f, r = tp_send(s.client.conn, "ping", 4));
	assert_int_equal(r, 0);
	WAIT(f, s.client.downs);
	assert_int_equal(s.client.messages, 1);
	assert_memory_equal(s.client.message, "bye", 3);
	finish(&s, s.client.reason);
	fixture_stop(f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(preamble__bad),
		TEST(preamble__closed_or_silent),
		TEST(answers__that_fit_no_op),
		TEST(answers__twice),
		TEST(answers__in_any_order),
		TEST(answers__with_status),
		TEST(read_answer__half),
		TEST(read_answer__half_then_close),
		TEST(write__peer_takes_nothing),
		TEST(write__answered_before_its_end),
		TEST(closed_by_daemon__last_message_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
