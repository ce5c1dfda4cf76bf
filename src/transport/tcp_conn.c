/* SPDX-License-Identifier: MIT */
/*
 * Happy path: socket, preamble of both sides, up() or incoming(), then rx and
 * tx work until one side ends it.
 * Failure modes: refused, deadline before UP, garbage for a preamble, a peer that
 * stops inside a frame or takes no bytes (stall check), a refused access (linger).
 */
#include "transport/tcp_conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "common/page.h"
#include "transport/address.h"
#include "transport/tcp_grant.h"
#include "transport/tcp_listener.h"
#include "transport/tcp_rx.h"
#include "transport/tcp_tx.h"

/* done()s that one turn runs while a connection ends. */
#define CANCELS_PER_TURN 256u
/* An idle connection whose peer vanished without a word ends after about 5 + 3 * 2 seconds. */
#define KEEPALIVE_IDLE_S 5
#define KEEPALIVE_INTERVAL_S 2
#define KEEPALIVE_PROBES 3
static void readable_cb(struct ev_loop *loop, ev_io *w, int revents);
static void writable_cb(struct ev_loop *loop, ev_io *w, int revents);
static void timer_cb(struct ev_loop *loop, ev_timer *w, int revents);
static void work_cb(void *arg);

static void
set_timer(struct tp_conn *conn, double after, double repeat)
{
	ev_now_update(conn->tcp->loop); /* a long turn must not shorten a deadline */
	ev_timer_stop(conn->tcp->loop, &conn->timer);
	ev_timer_set(&conn->timer, after, repeat);
	ev_timer_start(conn->tcp->loop, &conn->timer);
}

static int
set_socket_options(int fd, uint32_t stall_ms)
{
	const int one = 1;
	const int idle = KEEPALIVE_IDLE_S;
	const int interval = KEEPALIVE_INTERVAL_S;
	const int probes = KEEPALIVE_PROBES;
	const unsigned user_timeout_ms = stall_ms;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
		       sizeof(user_timeout_ms)) < 0)
		return -errno;
	return 0;
}

static struct tp_conn *
conn_new(struct tcp_tp *tcp, int fd, const char *address, bool is_client)
{
	struct tp_conn *conn;

	alloc_scope_enter();
	conn = calloc(1, sizeof(*conn));
	alloc_scope_leave();
	if (!conn)
		return NULL;
	conn->base.tp = &tcp->tp;
	conn->tcp = tcp;
	conn->fd = fd;
	conn->is_client = is_client;
	list_init(&conn->half_open_node);
	list_init(&conn->flush_node);
	list_init(&conn->waiting);
	list_init(&conn->grant_events);
	ev_io_init(&conn->read_watcher, readable_cb, fd, EV_READ);
	ev_io_init(&conn->write_watcher, writable_cb, fd, EV_WRITE);
	ev_timer_init(&conn->timer, timer_cb, 0, 0);
	defer_init(&conn->work, tcp->loop, work_cb, conn);
	(void)snprintf(conn->name, sizeof(conn->name), "tcp:%s#%llu", address,
		       (unsigned long long)++tcp->serial);
	list_add_tail(&tcp->conns, &conn->node);
	return conn;
}

/* The buffers of a connection in use; a half-open one has none.  What was
 * allocated before a failure is freed with the connection. */
static int
allocate_in_scope(struct tp_conn *conn)
{
	conn->rx.buf = malloc(TCP_RX_BYTES);
	conn->tx.messages = calloc(TCP_MESSAGES, sizeof(*conn->tx.messages));
	if (!conn->rx.buf || !conn->tx.messages)
		return -ENOMEM;
	if (!conn->is_client) {
		conn->tx.answers = calloc(TCP_ANSWERS, sizeof(*conn->tx.answers));
		conn->tx.bounce = malloc(FRAME_OP_BYTES_MAX);
		return conn->tx.answers && conn->tx.bounce ? 0 : -ENOMEM;
	}
	conn->tx.slots_to_send = calloc(TCP_SLOTS, sizeof(*conn->tx.slots_to_send));
	conn->slots = calloc(TCP_SLOTS, sizeof(*conn->slots));
	conn->free_slots = calloc(TCP_SLOTS, sizeof(*conn->free_slots));
	if (!conn->tx.slots_to_send || !conn->slots || !conn->free_slots)
		return -ENOMEM;
	for (uint16_t i = 0; i < TCP_SLOTS; i++)
		conn->free_slots[i] = (uint16_t)(TCP_SLOTS - 1 - i);
	conn->free_slots_count = TCP_SLOTS;
	return 0;
}

static int
allocate_buffers(struct tp_conn *conn)
{
	int r;

	alloc_scope_enter();
	r = allocate_in_scope(conn);
	alloc_scope_leave();
	return r;
}

static void
conn_free(struct tp_conn *conn)
{
	list_del(&conn->node);
	defer_stop(&conn->work);
	alloc_scope_enter();
	free(conn->rx.buf);
	free(conn->tx.messages);
	free(conn->tx.answers);
	free(conn->tx.bounce);
	free(conn->tx.slots_to_send);
	free(conn->slots);
	free(conn->free_slots);
	free(conn);
	alloc_scope_leave();
}

static void
leave_half_open(struct tp_conn *conn)
{
	if (!list_is_linked(&conn->half_open_node))
		return;
	list_del(&conn->half_open_node);
	conn->tcp->half_opens--;
}

/* Frees what never was announced to anybody. */
static void
discard(struct tp_conn *conn)
{
	struct ev_loop *loop = conn->tcp->loop;

	leave_half_open(conn);
	list_del(&conn->flush_node);
	ev_io_stop(loop, &conn->read_watcher);
	ev_io_stop(loop, &conn->write_watcher);
	ev_timer_stop(loop, &conn->timer);
	(void)close(conn->fd);
	conn_free(conn);
}

int
tcp_conn_new_accepted(struct tp_listener *listener, int fd, const char *address)
{
	struct tcp_tp *tcp = tcp_tp_of(listener);
	struct tp_conn *conn;
	int r;

	r = set_socket_options(fd, tcp->limits.stall_ms);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	conn = conn_new(tcp, fd, address, false);
	if (!conn) {
		(void)close(fd);
		return -ENOMEM;
	}
	if (tcp->half_opens == tcp->limits.half_open_max) {
		log_debug("tcp: too many connections without preamble; the oldest goes");
		tcp_conn_end(container_of(tcp->half_open.next, struct tp_conn, half_open_node), 0);
	}
	conn->state = TCP_CONN_PREAMBLE;
	conn->listener = listener;
	list_add_tail(&tcp->half_open, &conn->half_open_node);
	tcp->half_opens++;
	set_timer(conn, tcp->limits.handshake_ms / 1e3, 0);
	ev_io_start(tcp->loop, &conn->read_watcher);
	return 0;
}

int
tcp_conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct tcp_tp *tcp = container_of(tp, struct tcp_tp, tp);
	struct sockaddr_storage parsed;
	struct tp_conn *conn;
	socklen_t length;
	int fd, r;

	r = tp_address_parse(address, &parsed, &length);
	if (r < 0)
		return r;
	if (tcp->is_stopping)
		return -ESHUTDOWN;
	fd = socket(parsed.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno == EAFNOSUPPORT ? -ENODEV : -errno;
	conn = conn_new(tcp, fd, address, true);
	if (!conn) {
		(void)close(fd);
		return -ENOMEM;
	}
	r = allocate_buffers(conn);
	if (r == 0)
		r = set_socket_options(fd, tcp->limits.stall_ms);
	if (r < 0) {
		discard(conn);
		return r;
	}
	conn->events = events;
	conn->arg = arg;
	conn->state = TCP_CONN_CONNECTING;
	set_timer(conn, (double)timeout_ns / (double)NSEC_PER_SEC, 0);
	if (connect(fd, (struct sockaddr *)&parsed, length) < 0 && errno != EINPROGRESS)
		tcp_conn_end(conn, -errno);
	else
		ev_io_start(tcp->loop, &conn->write_watcher);
	*ret_conn = conn;
	return 0;
}

/* The socket is connected, or is not going to be. */
static void
finish_connect(struct tp_conn *conn)
{
	socklen_t length = sizeof(int);
	int error = 0;

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error) {
		tcp_conn_end(conn, -error);
		return;
	}
	conn->state = TCP_CONN_PREAMBLE;
	ev_io_stop(conn->tcp->loop, &conn->write_watcher);
	ev_io_start(conn->tcp->loop, &conn->read_watcher);
	tcp_tx_preamble(conn);
}

static void
start_op(struct tp_conn *conn, struct tp_op *op)
{
	uint32_t index = conn->free_slots[--conn->free_slots_count];

	conn->slots[index].op = op;
	conn->slots[index].state = TCP_SLOT_QUEUED;
	tcp_tx_slot(conn, index);
}

/* Ops wait in order: before up(), and while every slot is taken. */
static void
start_waiting(struct tp_conn *conn)
{
	struct list *node;

	while (conn->free_slots_count > 0 && (node = list_pop_head(&conn->waiting)))
		start_op(conn, container_of(node, struct tp_op, node));
}

static void
become_up(struct tp_conn *conn)
{
	double period = conn->tcp->limits.stall_ms / 1e3 / TCP_STALL_CHECKS;

	conn->state = TCP_CONN_UP;
	set_timer(conn, period, period);
	start_waiting(conn);
}

static void
offer(struct tp_conn *conn)
{
	struct tp_listener *listener = conn->listener;

	conn->listener = NULL;
	leave_half_open(conn);
	if (allocate_buffers(conn) < 0) {
		log_err_errno(ENOMEM, "%s: cannot take the connection", conn->name);
		tcp_conn_end(conn, -ENOMEM);
		return;
	}
	conn->state = TCP_CONN_OFFERED;
	listener->incoming(listener->arg, conn);
	/* The callee must have accepted or closed it. */
	assert(conn->state != TCP_CONN_OFFERED);
}

void
tcp_conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	assert(conn->state == TCP_CONN_OFFERED);
	conn->events = events;
	conn->arg = arg;
	become_up(conn);
	tcp_tx_preamble(conn);
}

/* The peer's version is known and not ours: it learns ours, then goes. */
static void
refuse_version(struct tp_conn *conn, uint32_t version)
{
	const struct frame ours = {.kind = FRAME_PREAMBLE, .op_id = FRAME_VERSION};
	uint8_t bytes[FRAME_HEADER_BYTES];

	log_warn("%s: peer speaks tcp frame version %u, not %u; closing", conn->name, version,
		 FRAME_VERSION);
	if (!conn->is_client) {
		frame_encode(&ours, bytes);
		(void)send(conn->fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	tcp_conn_end(conn, -EPROTONOSUPPORT);
}

static void
take_preamble(struct tp_conn *conn)
{
	struct frame frame;

	if (frame_decode(conn->rx.preamble, &frame) < 0 || frame.kind != FRAME_PREAMBLE) {
		tcp_conn_violation(conn, "no preamble");
	} else if (frame.op_id != FRAME_VERSION) {
		refuse_version(conn, frame.op_id);
	} else if (!conn->is_client) {
		offer(conn);
	} else {
		become_up(conn);
		conn->events->up(conn->arg);
	}
}

/* Exactly one header is read, so nothing has to be kept for the next state. */
static void
read_preamble(struct tp_conn *conn)
{
	uint32_t have = conn->rx.preamble_bytes;
	ssize_t n = read(conn->fd, conn->rx.preamble + have, FRAME_HEADER_BYTES - have);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			tcp_conn_end(conn, -errno);
	} else if (n == 0) {
		/* A daemon that does not want us closes instead of answering. */
		tcp_conn_end(conn, -ECONNREFUSED);
	} else {
		conn->rx.preamble_bytes += (uint32_t)n;
		if (conn->rx.preamble_bytes == FRAME_HEADER_BYTES)
			take_preamble(conn);
	}
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, read_watcher);

	(void)loop;
	(void)revents;
	if (conn->state == TCP_CONN_PREAMBLE)
		read_preamble(conn);
	else
		tcp_rx_readable(conn);
}

static void
writable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, write_watcher);

	(void)loop;
	(void)revents;
	if (conn->state == TCP_CONN_CONNECTING)
		finish_connect(conn);
	else
		tcp_tx_schedule(conn);
}

static bool
is_stalled(bool waits, uint64_t bytes, uint64_t *last, uint32_t *checks)
{
	if (!waits || bytes != *last)
		*checks = 0;
	else
		++*checks;
	*last = bytes;
	return *checks >= TCP_STALL_CHECKS;
}

static void
check_stall(struct tp_conn *conn)
{
	struct tcp_stall *s = &conn->stall;
	bool rx = is_stalled(tcp_rx_is_mid_frame(conn), conn->rx.bytes_total, &s->rx_bytes,
			     &s->rx_checks);
	bool tx = is_stalled(!tcp_tx_is_empty(conn), conn->tx.bytes_total, &s->tx_bytes,
			     &s->tx_checks);

	if (!rx && !tx)
		return;
	log_warn("%s: %s for %u ms; closing", conn->name,
		 rx ? "the rest of a frame did not come" : "the peer took no byte",
		 conn->tcp->limits.stall_ms);
	tcp_conn_end(conn, -ETIMEDOUT);
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, timer);

	(void)loop;
	(void)revents;
	if (conn->state == TCP_CONN_UP)
		check_stall(conn);
	else
		tcp_conn_end(conn, conn->state == TCP_CONN_LINGER ? -EACCES : -ETIMEDOUT);
}

static void
close_socket(struct tp_conn *conn)
{
	if (conn->state == TCP_CONN_UP) {
		tcp_tx_farewell(conn);
		/* Unread bytes would turn the close into a RST, which may overtake the farewell. */
		(void)recv(conn->fd, conn->rx.buf, TCP_RX_BYTES, MSG_DONTWAIT);
	}
	(void)close(conn->fd);
	conn->fd = -1;
}

void
tcp_conn_end(struct tp_conn *conn, int reason)
{
	struct ev_loop *loop = conn->tcp->loop;

	if (conn->state == TCP_CONN_ENDING)
		return;
	leave_half_open(conn);
	list_del(&conn->flush_node);
	ev_io_stop(loop, &conn->read_watcher);
	ev_io_stop(loop, &conn->write_watcher);
	ev_timer_stop(loop, &conn->timer);
	close_socket(conn);
	conn->listener = NULL;
	conn->state = TCP_CONN_ENDING;
	conn->reason = reason;
	defer_start(&conn->work);
}

void
tcp_conn_close(struct tp_conn *conn)
{
	tcp_conn_end(conn, 0);
}

void
tcp_conn_violation(struct tp_conn *conn, const char *what)
{
	if (conn->state == TCP_CONN_ENDING)
		return;
	log_warn("%s: %s; closing", conn->name, what);
	tcp_conn_end(conn, -EPROTO);
}

void
tcp_conn_linger(struct tp_conn *conn)
{
	if (conn->state != TCP_CONN_UP)
		return;
	conn->state = TCP_CONN_LINGER;
	conn->rx.is_paused = false;
	conn->rx.left = 0;
	conn->rx.dest = NULL;
	conn->rx.grant = NULL;
	ev_io_start(conn->tcp->loop, &conn->read_watcher);
	tcp_tx_schedule(conn);
	set_timer(conn, conn->tcp->limits.linger_ms / 1e3, 0);
}

const char *
tcp_conn_name(const struct tp_conn *conn)
{
	return conn->name;
}

void
tcp_conn_post(struct tp_conn *conn, struct tp_op *op)
{
	assert(conn->is_client);
	assert(op->length_bytes >= 1 && op->length_bytes <= TP_OP_BYTES_MAX);
	assert((uint8_t *)op->buf >= op->region->mem &&
	       (uint8_t *)op->buf + op->length_bytes <= op->region->mem + op->region->length_bytes);
	op->conn = conn;
	if (conn->state == TCP_CONN_UP && conn->free_slots_count > 0)
		start_op(conn, op);
	else
		list_add_tail(&conn->waiting, &op->node);
}

void
tcp_conn_complete(struct tp_conn *conn, uint32_t index)
{
	struct tcp_slot *slot = &conn->slots[index];
	struct tp_op *op = slot->op;

	slot->op = NULL;
	slot->state = TCP_SLOT_FREE;
	slot->generation++;
	conn->free_slots[conn->free_slots_count++] = (uint16_t)index;
	start_waiting(conn);
	op->done(op, 0);
}

/* Returns true when no op is left. */
static bool
cancel_ops(struct tp_conn *conn)
{
	uint32_t n = 0;
	struct list *node;

	while (conn->slots && conn->cancel_next < TCP_SLOTS && n < CANCELS_PER_TURN) {
		struct tcp_slot *slot = &conn->slots[conn->cancel_next++];
		struct tp_op *op = slot->op;

		if (!op)
			continue;
		n++;
		slot->op = NULL;
		op->done(op, op == conn->failed_op ? conn->failed_status : -ECANCELED);
	}
	while (n++ < CANCELS_PER_TURN && (node = list_pop_head(&conn->waiting))) {
		struct tp_op *op = container_of(node, struct tp_op, node);

		op->done(op, -ECANCELED);
	}
	return (!conn->slots || conn->cancel_next == TCP_SLOTS) && list_is_empty(&conn->waiting);
}

/* The last steps of an ending connection: done()s, then down(). */
static void
finish(struct tp_conn *conn)
{
	struct tcp_tp *tcp = conn->tcp;

	if (!cancel_ops(conn)) {
		defer_start(&conn->work);
		return;
	}
	tcp_grant_free_all(conn);
	if (conn->events)
		conn->events->down(conn->arg, conn->reason);
	conn_free(conn);
	tcp_tp_conn_gone(tcp);
}

static void
work_cb(void *arg)
{
	struct tp_conn *conn = arg;

	if (conn->state != TCP_CONN_ENDING && tcp_grant_run_events(conn))
		defer_start(&conn->work);
	if (conn->state != TCP_CONN_ENDING)
		tcp_rx_resume(conn);
	else
		finish(conn);
}
