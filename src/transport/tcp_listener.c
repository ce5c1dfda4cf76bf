/* SPDX-License-Identifier: MIT */
/* Accepts a bounded number a turn; what arrives waits half open for its preamble (tcp_conn.c). */
#include "transport/tcp_listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "transport/address.h"
#include "transport/tcp_conn.h"
#include "transport/tcp_tp.h"

#define ACCEPTS_PER_TURN 16
#define BACKLOG 128
#define PAUSE_SECONDS 0.1

/* Errors of one connection, reported by accept(): the next one may be fine (accept(2)). */
static bool
is_passing(int err)
{
	switch (err) {
	case ECONNABORTED:
	case EINTR:
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return true;
	default:
		return false;
	}
}

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
	int i, r;

	(void)revents;
	for (i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);
		char address[TP_ADDRESS_BYTES_MAX];
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &length,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN)
				return;
			if (is_passing(errno))
				continue;
			r = log_err_errno(errno, "tcp: cannot accept a connection");
			break;
		}
		tp_address_format((struct sockaddr *)&peer, address, sizeof(address));
		r = tcp_conn_new_accepted(l, fd, address);
		if (r < 0) {
			log_err_errno(-r, "tcp: cannot take the connection from %s", address);
			break;
		}
	}
	if (i == ACCEPTS_PER_TURN)
		return;
	ev_io_stop(loop, &l->watcher);
	ev_timer_set(&l->pause, PAUSE_SECONDS, 0);
	ev_timer_start(loop, &l->pause);
}

static int
open_socket(const struct sockaddr_storage *address, socklen_t length, int *ret_fd)
{
	const int one = 1;
	int fd, r;

	fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno == EAFNOSUPPORT ? -ENODEV : -errno;
	/* A restarted daemon must get its port back; v6 means v6, so that both may be listed. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (address->ss_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
	    bind(fd, (const struct sockaddr *)address, length) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int
tcp_listener_new(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		 struct tp_listener **ret_listener)
{
	struct tcp_tp *tcp = container_of(tp, struct tcp_tp, tp);
	struct sockaddr_storage parsed;
	struct tp_listener *l;
	socklen_t length;
	int r;

	r = tp_address_parse(address, &parsed, &length);
	if (r < 0)
		return r;
	if (tcp->is_stopping)
		return -ESHUTDOWN;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	r = open_socket(&parsed, length, &l->fd);
	if (r < 0) {
		free(l);
		return r;
	}
	l->base.tp = tp;
	l->incoming = incoming;
	l->arg = arg;
	ev_timer_init(&l->pause, pause_cb, 0, 0);
	ev_io_init(&l->watcher, acceptable_cb, l->fd, EV_READ);
	ev_io_start(tcp->loop, &l->watcher);
	list_add_tail(&tcp->listeners, &l->node);
	*ret_listener = l;
	return 0;
}

void
tcp_listener_address(const struct tp_listener *l, char *buf, size_t size)
{
	struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
	socklen_t length = sizeof(bound);
	char text[TP_ADDRESS_BYTES_MAX];

	(void)getsockname(l->fd, (struct sockaddr *)&bound, &length);
	tp_address_format((struct sockaddr *)&bound, text, sizeof(text));
	(void)snprintf(buf, size, "tcp:%s", text);
}

void
tcp_listener_close(struct tp_listener *l)
{
	struct tcp_tp *tcp = tcp_tp_of(l);
	struct list *node, *next;

	list_foreach_safe (node, next, &tcp->conns) {
		struct tp_conn *conn = container_of(node, struct tp_conn, node);

		if (conn->listener == l)
			tcp_conn_end(conn, 0);
	}
	ev_io_stop(tcp->loop, &l->watcher);
	ev_timer_stop(tcp->loop, &l->pause);
	(void)close(l->fd);
	list_del(&l->node);
	free(l);
}
