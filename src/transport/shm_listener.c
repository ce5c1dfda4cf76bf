/* SPDX-License-Identifier: MIT */
/* Accepts a bounded number a turn; what arrives waits half open for its preamble (shm_conn.c). */
#include "transport/shm_listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "loop/unix_listen.h"
#include "transport/shm_conn.h"
#include "transport/shm_tp.h"

#define ACCEPTS_PER_TURN 16
#define BACKLOG 128
#define PAUSE_SECONDS 0.1

static void
pause_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct tp_listener *l = container_of(w, struct tp_listener, pause);

	(void)revents;
	ev_io_start(loop, &l->watcher);
}

static void
acceptable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct tp_listener *l = container_of(w, struct tp_listener, watcher);
	int i, fd, r;

	(void)revents;
	for (i = 0; i < ACCEPTS_PER_TURN; i++) {
		fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		r = fd < 0 ? -errno : shm_conn_new_accepted(l, fd);
		if (r < 0) {
			log_err_errno(-r, "shm: cannot take a connection");
			break;
		}
	}
	if (i == ACCEPTS_PER_TURN)
		return;
	ev_io_stop(loop, &l->watcher);
	ev_timer_set(&l->pause, PAUSE_SECONDS, 0.);
	ev_timer_start(loop, &l->pause);
}

int
shm_listener_new(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		 struct tp_listener **ret_listener)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);
	struct tp_listener *l;
	int r;

	if (shm->is_stopping)
		return -ESHUTDOWN;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	r = unix_listen(address, SOCK_SEQPACKET, BACKLOG);
	if (r < 0) {
		free(l);
		return r;
	}
	l->fd = r;
	l->base.tp = tp;
	l->incoming = incoming;
	l->arg = arg;
	(void)snprintf(l->path, sizeof(l->path), "%s", address);
	ev_timer_init(&l->pause, pause_cb, 0., 0.);
	ev_io_init(&l->watcher, acceptable_cb, l->fd, EV_READ);
	ev_io_start(shm->loop, &l->watcher);
	list_add_tail(&shm->listeners, &l->node);
	*ret_listener = l;
	return 0;
}

void
shm_listener_address(const struct tp_listener *l, char *buf, size_t size)
{
	(void)snprintf(buf, size, "shm:%s", l->path);
}

void
shm_listener_close(struct tp_listener *l)
{
	struct shm_tp *shm = shm_tp_of(l);
	struct list *node, *next;

	list_foreach_safe (node, next, &shm->conns) {
		struct tp_conn *conn = container_of(node, struct tp_conn, node);

		if (conn->listener == l)
			shm_conn_end(conn, 0);
	}
	ev_io_stop(shm->loop, &l->watcher);
	ev_timer_stop(shm->loop, &l->pause);
	(void)close(l->fd);
	(void)unlink(l->path);
	list_del(&l->node);
	free(l);
}
