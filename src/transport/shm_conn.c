/* SPDX-License-Identifier: MIT */
/*
 * Happy path: socket, credentials, preamble of both sides, up() or incoming(), then
 * packets and ops until one side ends it.
 * Failure modes: nobody listens, another user, deadline before UP, garbage for a
 * preamble, a peer that takes no packets, one that does not unmap in time.
 */
#include "transport/shm_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "common/page.h"
#include "loop/unix_listen.h"
#include "transport/shm_grant.h"
#include "transport/shm_holder.h"
#include "transport/shm_listener.h"
#include "transport/shm_map.h"
#include "transport/shm_op.h"
#include "transport/shm_packet.h"

static void readable_cb(struct ev_loop *loop, ev_io *w, int revents);
static void writable_cb(struct ev_loop *loop, ev_io *w, int revents);
static void timer_cb(struct ev_loop *loop, ev_timer *w, int revents);
static void revoke_cb(struct ev_loop *loop, ev_timer *w, int revents);
static void work_cb(void *arg);

static void
set_timer(struct tp_conn *conn, double after)
{
	ev_now_update(conn->shm->loop); /* a long turn must not shorten a deadline */
	ev_timer_stop(conn->shm->loop, &conn->timer);
	ev_timer_set(&conn->timer, after, 0.);
	ev_timer_start(conn->shm->loop, &conn->timer);
}

static struct tp_conn *
allocate(bool is_client)
{
	struct tp_conn *conn;

	alloc_scope_enter();
	conn = calloc(1, sizeof(*conn));
	if (conn) {
		conn->tx.messages = calloc(TP_SEND_QUEUE_MAX, sizeof(*conn->tx.messages));
		conn->holder = is_client ? NULL : calloc(1, sizeof(*conn->holder));
		if (!conn->tx.messages || (!is_client && !conn->holder)) {
			free(conn->tx.messages);
			free(conn->holder);
			free(conn);
			conn = NULL;
		}
	}
	alloc_scope_leave();
	return conn;
}

static struct tp_conn *
conn_new(struct shm_tp *shm, int fd, const char *peer, bool is_client)
{
	struct tp_conn *conn = allocate(is_client);

	if (!conn)
		return NULL;
	conn->base.tp = &shm->tp;
	conn->shm = shm;
	conn->fd = fd;
	conn->is_client = is_client;
	conn->state = SHM_CONN_PREAMBLE;
	list_init(&conn->half_open_node);
	list_init(&conn->flush_node);
	list_init(&conn->ready_node);
	list_init(&conn->waiting);
	list_init(&conn->running);
	list_init(&conn->to_grant);
	list_init(&conn->to_revoke);
	list_init(&conn->revoking);
	list_init(&conn->grant_events);
	ev_io_init(&conn->read_watcher, readable_cb, fd, EV_READ);
	ev_io_init(&conn->write_watcher, writable_cb, fd, EV_WRITE);
	ev_timer_init(&conn->timer, timer_cb, 0., 0.);
	ev_timer_init(&conn->revoke, revoke_cb, 0., 0.);
	defer_init(&conn->work, shm->loop, work_cb, conn);
	(void)snprintf(conn->name, sizeof(conn->name), "shm:%s#%llu", peer,
		       (unsigned long long)++shm->serial);
	list_add_tail(&shm->conns, &conn->node);
	return conn;
}

static void
conn_free(struct tp_conn *conn)
{
	list_del(&conn->node);
	defer_stop(&conn->work);
	alloc_scope_enter();
	free(conn->tx.messages);
	free(conn->table.entries);
	free(conn->holder);
	free(conn);
	alloc_scope_leave();
}

static void
leave_half_open(struct tp_conn *conn)
{
	if (!list_is_linked(&conn->half_open_node))
		return;
	list_del(&conn->half_open_node);
	conn->shm->half_opens--;
}

/* The same user, or root, who may do to us what he likes anyway. */
static int
check_peer(int fd, struct ucred *ret_peer)
{
	socklen_t length = sizeof(*ret_peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &length) < 0)
		return -errno;
	return ret_peer->uid == geteuid() || ret_peer->uid == 0 ? 0 : -EACCES;
}

int
shm_conn_new_accepted(struct tp_listener *listener, int fd)
{
	struct shm_tp *shm = shm_tp_of(listener);
	struct tp_conn *conn;
	struct ucred peer;
	char name[32];
	int r = check_peer(fd, &peer);

	if (r < 0) {
		if (r == -EACCES)
			log_warn("shm: process %d of user %u is neither root nor our user; closing",
				 (int)peer.pid, (unsigned)peer.uid);
		(void)close(fd);
		return r == -EACCES ? 0 : r;
	}
	(void)snprintf(name, sizeof(name), "pid-%d", (int)peer.pid);
	conn = conn_new(shm, fd, name, false);
	if (!conn) {
		(void)close(fd);
		return -ENOMEM;
	}
	if (shm->half_opens == shm->limits.half_open_max) {
		log_debug("shm: too many connections without preamble; the oldest goes");
		shm_conn_end(container_of(shm->half_open.next, struct tp_conn, half_open_node), 0);
	}
	conn->listener = listener;
	list_add_tail(&shm->half_open, &conn->half_open_node);
	shm->half_opens++;
	set_timer(conn, shm->limits.handshake_ms / 1e3);
	ev_io_start(shm->loop, &conn->read_watcher);
	return 0;
}

/* A Unix socket connects at once or not at all. */
static int
connect_socket(int fd, const struct sockaddr_un *address, const char *path)
{
	struct ucred peer;
	int r;

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		/* No such path, or its backlog is full: nobody listens. */
		if (errno == ENOENT || errno == EAGAIN)
			return -ECONNREFUSED;
		return -errno;
	}
	r = check_peer(fd, &peer);
	if (r == -EACCES)
		log_warn("shm:%s: user %u, who listens there, is neither root nor our user", path,
			 (unsigned)peer.uid);
	return r;
}

int
shm_conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);
	struct sockaddr_un un;
	struct tp_conn *conn;
	int fd, r;

	r = unix_address(address, &un);
	if (r < 0)
		return r;
	if (shm->is_stopping)
		return -ESHUTDOWN;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	conn = conn_new(shm, fd, address, true);
	if (!conn) {
		(void)close(fd);
		return -ENOMEM;
	}
	conn->events = events;
	conn->arg = arg;
	*ret_conn = conn;
	r = connect_socket(fd, &un, address);
	if (r < 0) {
		shm_conn_end(conn, r);
		return 0;
	}
	set_timer(conn, (double)timeout_ns / (double)NSEC_PER_SEC);
	ev_io_start(shm->loop, &conn->read_watcher);
	shm_packet_preamble(conn);
	return 0;
}

static void
become_up(struct tp_conn *conn)
{
	conn->state = SHM_CONN_UP;
	ev_timer_stop(conn->shm->loop, &conn->timer);
	if (conn->is_client)
		shm_ops_start(conn);
}

static void
offer(struct tp_conn *conn)
{
	struct tp_listener *listener = conn->listener;

	conn->listener = NULL;
	leave_half_open(conn);
	conn->state = SHM_CONN_OFFERED;
	listener->incoming(listener->arg, conn);
	/* The callee must have accepted or closed it. */
	assert(conn->state != SHM_CONN_OFFERED);
}

void
shm_conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	assert(conn->state == SHM_CONN_OFFERED);
	conn->events = events;
	conn->arg = arg;
	become_up(conn);
	shm_packet_preamble(conn);
}

void
shm_conn_take_preamble(struct tp_conn *conn, const struct shm_frame *frame)
{
	if (frame->value != SHM_FRAME_VERSION) {
		log_warn("%s: peer speaks shm version %llu, not %u; closing", conn->name,
			 (unsigned long long)frame->value, SHM_FRAME_VERSION);
		/* It learns ours. */
		if (!conn->is_client)
			shm_packet_preamble(conn);
		shm_conn_end(conn, -EPROTONOSUPPORT);
	} else if (!conn->is_client) {
		offer(conn);
	} else {
		become_up(conn);
		conn->events->up(conn->arg);
	}
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)revents;
	shm_packet_readable(container_of(w, struct tp_conn, read_watcher));
}

static void
writable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, write_watcher);

	ev_io_stop(loop, w);
	(void)revents;
	shm_packet_schedule(conn);
}

void
shm_conn_set_stuck(struct tp_conn *conn, bool is_stuck)
{
	if (is_stuck) {
		ev_io_start(conn->shm->loop, &conn->write_watcher);
		if (conn->state == SHM_CONN_UP && !ev_is_active(&conn->timer))
			set_timer(conn, conn->shm->limits.stall_ms / 1e3);
	} else if (conn->state == SHM_CONN_UP) {
		ev_timer_stop(conn->shm->loop, &conn->timer);
	}
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, timer);

	(void)loop;
	(void)revents;
	if (conn->state == SHM_CONN_UP)
		log_warn("%s: the peer took nothing for %u ms; closing", conn->name,
			 conn->shm->limits.stall_ms);
	shm_conn_end(conn, -ETIMEDOUT);
}

static void
revoke_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct tp_conn *conn = container_of(w, struct tp_conn, revoke);

	(void)loop;
	(void)revents;
	log_warn("%s: a slab that it has to give back was not unmapped for %u ms; closing",
		 conn->name, conn->shm->limits.revoke_ms);
	shm_conn_end(conn, -ETIMEDOUT);
}

void
shm_conn_end(struct tp_conn *conn, int reason)
{
	struct ev_loop *loop = conn->shm->loop;

	if (conn->state == SHM_CONN_ENDING)
		return;
	leave_half_open(conn);
	list_del(&conn->ready_node);
	ev_io_stop(loop, &conn->read_watcher);
	ev_timer_stop(loop, &conn->timer);
	ev_timer_stop(loop, &conn->revoke);
	shm_packet_farewell(conn);
	ev_io_stop(loop, &conn->write_watcher);
	list_del(&conn->flush_node);
	conn->listener = NULL;
	conn->state = SHM_CONN_ENDING;
	conn->reason = reason;
	defer_start(&conn->work);
}

void
shm_conn_close(struct tp_conn *conn)
{
	shm_conn_end(conn, 0);
}

void
shm_conn_violation(struct tp_conn *conn, const char *what)
{
	if (conn->state == SHM_CONN_ENDING)
		return;
	log_warn("%s: %s; closing", conn->name, what);
	shm_conn_end(conn, -EPROTO);
}

const char *
shm_conn_name(const struct tp_conn *conn)
{
	return conn->name;
}

/* The last steps of an ending connection: done()s, mappings, grants, then down(). */
static void
finish(struct tp_conn *conn)
{
	struct shm_tp *shm = conn->shm;

	if (conn->is_client && (!shm_ops_cancel(conn) || !shm_maps_unmap(conn))) {
		defer_start(&conn->work);
		return;
	}
	/* Its own count of what the peer may hold closes the socket later. */
	if (conn->is_client || !shm_holder_keep(conn))
		(void)close(conn->fd);
	if (!conn->is_client)
		shm_grants_free_all(conn);
	if (conn->events)
		conn->events->down(conn->arg, conn->reason);
	conn_free(conn);
	shm_tp_conn_gone(shm);
}

static void
work_cb(void *arg)
{
	struct tp_conn *conn = arg;

	if (conn->state == SHM_CONN_ENDING)
		finish(conn);
	else if (conn->n_faulting > 0)
		shm_map_fault_in(conn);
	else if (shm_grants_run_events(conn))
		defer_start(&conn->work);
}
