/* SPDX-License-Identifier: MIT */
/*
 * Happy path: readable -> fill -> run -> steps -> ... -> DISC -> drain -> close.
 * Failure modes: end of file (what was accepted is answered first), a socket error
 * or misbehaviour (closed at once), a deadline.  In all of them the memory is given back
 * when the backend has returned the last piece.
 */
#include "nbd_server/conn.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "nbd_server/handshake.h"
#include "nbd_server/read.h"
#include "nbd_server/write.h"

/* Requests and pieces per run; and reads per event, so that large WRITEs flow. */
#define BUDGET 64
#define READS_PER_EVENT 8

static uint32_t
piece_count(const struct nbds_env *env)
{
	/* The longest held READ, unaligned at both ends; and one for each other request. */
	return (uint32_t)(env->hold_bytes_max / BLOCK_BYTES) + 8 + NBDS_REQUESTS_MAX;
}

static void
waiter_cb(struct nbds_waiter *w)
{
	nbds_conn_run(container_of(w, struct nbds_conn, waiter));
}

int
nbds_conn_new(struct nbds_env *env, struct nbds_conn **ret_conn)
{
	struct nbds_conn *conn;

	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return -ENOMEM;
	conn->env = env;
	conn->fd = -1;
	conn->waiter.run = waiter_cb;
	list_init(&conn->node);
	list_init(&conn->runnable_node);
	list_init(&conn->dirty_node);
	list_init(&conn->waiter.node);
	list_init(&conn->scratch_out.node);
	list_init(&conn->out);
	list_init(&conn->out_later);
	list_init(&conn->active);
	conn->input = calloc(1, NBDS_INPUT_BYTES);
	conn->scratch = calloc(1, NBDS_SCRATCH_BYTES);
	conn->requests = calloc(NBDS_REQUESTS_MAX, sizeof(*conn->requests));
	conn->pieces = calloc(piece_count(env), sizeof(*conn->pieces));
	if (!conn->input || !conn->scratch || !conn->requests || !conn->pieces) {
		nbds_conn_free(conn);
		return -ENOMEM;
	}
	*ret_conn = conn;
	return 0;
}

void
nbds_conn_free(struct nbds_conn *conn)
{
	if (!conn)
		return;
	assert(conn->state == NBDS_CONN_FREE);
	free(conn->pieces);
	free(conn->requests);
	free(conn->scratch);
	free(conn->input);
	free(conn);
}

static void fail(struct nbds_conn *conn, bool is_misbehaving, const char *fmt, va_list args)
	__attribute__((format(printf, 3, 0)));

static void
fail(struct nbds_conn *conn, bool is_misbehaving, const char *fmt, va_list args)
{
	if (conn->has_failed || conn->state == NBDS_CONN_DEAD)
		return;
	conn->has_failed = true;
	conn->is_misbehaving = is_misbehaving;
	(void)vsnprintf(conn->fail_text, sizeof(conn->fail_text), fmt, args);
	nbds_conn_wake(conn);
}

void
nbds_conn_fail(struct nbds_conn *conn, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(conn, false, fmt, args);
	va_end(args);
}

void
nbds_conn_misbehaved(struct nbds_conn *conn, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fail(conn, true, fmt, args);
	va_end(args);
}

void
nbds_conn_wake(struct nbds_conn *conn)
{
	if (conn->state == NBDS_CONN_DEAD || list_is_linked(&conn->runnable_node))
		return;
	list_add_tail(&conn->env->runnable, &conn->runnable_node);
	defer_start(&conn->env->run);
}

void
nbds_conn_unblock(struct nbds_conn *conn)
{
	if (!conn->is_blocked)
		return;
	conn->is_blocked = false;
	nbds_conn_wake(conn);
}

/* The socket is gone from here on; what the backend still has comes back later. */
static void
close_now(struct nbds_conn *conn, const char *why)
{
	struct nbds_env *env = conn->env;
	struct list *node;
	struct list *tmp;

	log_line(conn->is_misbehaving ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
		 "%s: closed: %s (%" PRIu64 " requests)", conn->label, why, conn->request_count);
	conn->state = NBDS_CONN_DEAD;
	conn->is_closing = true;
	ev_io_stop(env->loop, &conn->readable);
	ev_io_stop(env->loop, &conn->writable);
	ev_timer_stop(env->loop, &conn->deadline);
	(void)close(conn->fd);
	conn->fd = -1;
	list_del(&conn->runnable_node);
	list_del(&conn->dirty_node);
	nbds_gate_leave(&env->gate, &conn->waiter);
	nbds_out_drop(conn);
	nbds_write_drop(conn);
	conn->current = NULL;
	list_foreach_safe (node, tmp, &conn->active) {
		struct nbds_request *req = container_of(node, struct nbds_request, node);

		nbds_request_abort(req);
	}
	conn->is_closing = false;
	nbds_conn_maybe_end(conn);
}

void
nbds_conn_maybe_end(struct nbds_conn *conn)
{
	if (conn->is_closing || !list_is_empty(&conn->active))
		return;
	if (conn->state == NBDS_CONN_DEAD) {
		assert(!conn->held_bytes && !conn->stream);
		conn->state = NBDS_CONN_FREE;
		conn->env->stats.connections--;
		conn->env->closed(conn->env, conn);
		return;
	}
	if (conn->is_draining && list_is_empty(&conn->out) && !conn->skip_bytes)
		nbds_conn_wake(conn);
}

/* Whether a draining connection has nothing left to do. */
static bool
is_drained(const struct nbds_conn *conn)
{
	return conn->is_draining && list_is_empty(&conn->active) && list_is_empty(&conn->out) &&
	       !conn->skip_bytes;
}

void
nbds_conn_drain(struct nbds_conn *conn, const char *why)
{
	struct nbds_env *env = conn->env;

	if (conn->is_draining || conn->state == NBDS_CONN_DEAD)
		return;
	conn->is_draining = true;
	conn->drain_text = why;
	conn->progress_seen_bytes = conn->progress_bytes;
	ev_timer_stop(env->loop, &conn->deadline);
	ev_timer_set(&conn->deadline, env->drain_seconds, env->drain_seconds);
	ev_timer_start(env->loop, &conn->deadline);
	nbds_conn_wake(conn);
}

void
nbds_conn_enter_transmission(struct nbds_conn *conn)
{
	conn->state = NBDS_CONN_TRANSMISSION;
	ev_timer_stop(conn->env->loop, &conn->deadline);
	log_info("%s: connected%s", conn->label,
		 conn->handshake.has_structured ? ", structured replies" : "");
}

static void
deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct nbds_conn *conn = container_of(w, struct nbds_conn, deadline);
	bool is_waiting_for_client = !list_is_empty(&conn->out) || nbds_request_payload_left(conn);

	(void)loop;
	(void)revents;
	if (!conn->is_draining) {
		nbds_conn_misbehaved(conn, "no end of the handshake in time");
		return;
	}
	if (is_waiting_for_client && conn->progress_seen_bytes == conn->progress_bytes)
		nbds_conn_fail(conn, "%s, and then took no replies in time", conn->drain_text);
	conn->progress_seen_bytes = conn->progress_bytes;
}

/* Moves what is left of the input to the front: part of a header, or of an option. */
static void
compact(struct nbds_conn *conn)
{
	uint32_t bytes = nbds_conn_input_bytes(conn);

	if (conn->input_start && bytes)
		memmove(conn->input, conn->input + conn->input_start, bytes);
	conn->input_start = 0;
	conn->input_end = bytes;
}

/* One read: first into the piece of a WRITE that is being filled, then into the
 * input buffer.  Returns whether there may be more, -errno, or -EPIPE at the end. */
static int
fill(struct nbds_conn *conn)
{
	struct iovec iov[2];
	int parts = 0;
	uint64_t direct = 0;
	size_t want = 0;
	ssize_t n;

	compact(conn);
	if (conn->write_io) {
		assert(!conn->input_end);
		direct = conn->write_io->length_bytes - conn->write_filled_bytes;
		iov[parts].iov_base = (uint8_t *)conn->write_io->data + conn->write_filled_bytes;
		iov[parts].iov_len = direct;
		want += iov[parts++].iov_len;
	}
	/* Not what could go straight into the next piece. */
	if (direct == nbds_request_payload_left(conn) || !direct) {
		iov[parts].iov_base = conn->input + conn->input_end;
		iov[parts].iov_len = NBDS_INPUT_BYTES - conn->input_end;
		want += iov[parts++].iov_len;
	}
	n = readv(conn->fd, iov, parts);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	conn->progress_bytes += (uint64_t)n;
	conn->input_ns = turn_clock_now(conn->env->clock);
	if ((uint64_t)n <= direct) {
		conn->write_filled_bytes += (uint32_t)n;
	} else {
		conn->write_filled_bytes += (uint32_t)direct;
		conn->input_end += (uint32_t)((uint64_t)n - direct);
	}
	return (size_t)n == want;
}

static void
at_end_of_file(struct nbds_conn *conn)
{
	conn->is_at_eof = true;
	ev_io_stop(conn->env->loop, &conn->readable);
	if (conn->state == NBDS_CONN_HANDSHAKE)
		nbds_conn_fail(conn, "client left in the handshake");
	else if (nbds_request_payload_left(conn))
		nbds_conn_fail(conn, "client left in the middle of a WRITE");
	else
		nbds_conn_drain(conn, "client left");
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct nbds_conn *conn = container_of(w, struct nbds_conn, readable);
	int reads;
	int r = 1;

	(void)loop;
	(void)revents;
	/* Input that is left over goes first, in the turn it was promised. */
	for (reads = 0; r > 0 && reads < READS_PER_EVENT; reads++) {
		if (!ev_is_active(&conn->readable) || list_is_linked(&conn->runnable_node))
			return;
		r = fill(conn);
		if (r == -EPIPE)
			at_end_of_file(conn);
		else if (r < 0)
			nbds_conn_fail(conn, "cannot receive: %s", strerror(-r));
		else
			nbds_conn_run(conn);
	}
}

static void
writable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)revents;
	nbds_out_flush(container_of(w, struct nbds_conn, writable));
}

static void
set_reading(struct nbds_conn *conn, bool want)
{
	if (want && !conn->is_at_eof)
		ev_io_start(conn->env->loop, &conn->readable);
	else
		ev_io_stop(conn->env->loop, &conn->readable);
}

void
nbds_conn_run(struct nbds_conn *conn)
{
	enum nbds_step step = NBDS_STEP_MORE;

	if (conn->has_failed) {
		close_now(conn, conn->fail_text);
		return;
	}
	if (is_drained(conn)) {
		close_now(conn, conn->drain_text);
		return;
	}
	/* In the gate's FIFO: it will be called. */
	if (list_is_linked(&conn->waiter.node))
		return;
	conn->is_blocked = false;
	conn->budget = BUDGET;
	while (step == NBDS_STEP_MORE && conn->budget > 0 && !conn->has_failed)
		step = conn->state == NBDS_CONN_HANDSHAKE ? nbds_handshake_step(conn)
							  : nbds_request_step(conn);
	if (step == NBDS_STEP_MORE)
		nbds_conn_wake(conn);
	else
		set_reading(conn, step == NBDS_STEP_INPUT);
}

void
nbds_conn_start(struct nbds_conn *conn, int fd, const char *label)
{
	struct nbds_env *env = conn->env;
	uint32_t i;

	assert(conn->state == NBDS_CONN_FREE && list_is_empty(&conn->out));
	conn->state = NBDS_CONN_HANDSHAKE;
	(void)snprintf(conn->label, sizeof(conn->label), "%s", label);
	conn->has_failed = false;
	conn->is_misbehaving = false;
	conn->is_draining = false;
	conn->is_at_eof = false;
	conn->is_blocked = false;
	conn->fd = fd;
	conn->progress_bytes = 0;
	conn->input_start = 0;
	conn->input_end = 0;
	conn->handshake = (struct nbds_handshake){0};
	conn->scratch_is_busy = false;
	conn->scratch_bytes = 0;
	conn->out_skip_bytes = 0;
	conn->request_count = 0;
	conn->skip_bytes = 0;
	list_init(&conn->free_requests);
	list_init(&conn->free_pieces);
	for (i = 0; i < NBDS_REQUESTS_MAX; i++) {
		nbds_request_init(&conn->requests[i], conn);
		list_add_tail(&conn->free_requests, &conn->requests[i].node);
	}
	conn->free_piece_count = piece_count(env);
	for (i = 0; i < conn->free_piece_count; i++)
		list_add_tail(&conn->free_pieces, &conn->pieces[i].out.node);
	ev_io_init(&conn->readable, readable_cb, fd, EV_READ);
	ev_io_init(&conn->writable, writable_cb, fd, EV_WRITE);
	ev_timer_init(&conn->deadline, deadline_cb, env->handshake_seconds, 0.);
	ev_timer_start(env->loop, &conn->deadline);
	ev_io_start(env->loop, &conn->readable);
	env->stats.connections++;
	nbds_handshake_greet(conn);
}
