/* SPDX-License-Identifier: MIT */
/*
 * Happy path: bind, listen, accept until there is nobody left.
 * Failure modes: a socket file of a dead server (replaced), of a living one
 * (refused); no descriptors or memory for accept() (tried again after a pause, since
 * the socket stays readable and would spin the loop).
 */
#include "nbd_server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/list.h"
#include "common/log.h"

#define BACKLOG 64
#define ACCEPTS_PER_EVENT 16
#define RETRY_SECONDS 1.0
/* A TCP client whose machine is gone is noticed after about KEEP_IDLE + KEEP_COUNT * KEEP_INTERVAL. */
#define KEEP_IDLE_SECONDS 30
#define KEEP_INTERVAL_SECONDS 10
#define KEEP_COUNT 6

union any_address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

static void
format_address(const union any_address *at, socklen_t bytes, char *out, size_t out_bytes)
{
	char host[64];
	char port[8];

	if (at->any.sa_family == AF_UNIX) {
		(void)snprintf(out, out_bytes, "unix:%.108s",
			       bytes > offsetof(struct sockaddr_un, sun_path) ? at->un.sun_path
									      : "");
		return;
	}
	if (getnameinfo(&at->any, bytes, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV)) {
		(void)snprintf(out, out_bytes, "unknown address");
		return;
	}
	(void)snprintf(out, out_bytes, at->any.sa_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s",
		       host, port);
}

/* Whether nobody listens on the socket at @at. */
static bool
is_stale(const struct sockaddr_un *at)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(at->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 && errno == ECONNREFUSED;
	(void)close(fd);
	return stale;
}

static int
bind_private(int fd, const struct sockaddr_un *at)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ? -errno : 0;

	(void)umask(mask);
	return r;
}

static int
open_unix(struct nbds_listener *listener, const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;
	int r;

	if (!*path || strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = bind_private(fd, &at);
	if (r == -EADDRINUSE && is_stale(&at)) {
		log_notice("%s: replacing the socket of a server that is gone", path);
		(void)unlink(path);
		r = bind_private(fd, &at);
	}
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r == 0 && lstat(path, &st) == 0) {
		listener->owns_path = true;
		listener->path_dev = st.st_dev;
		listener->path_ino = st.st_ino;
	}
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	listener->fd = fd;
	return 0;
}

/* getaddrinfo() takes 70000 as 4464. */
static bool
is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && digits <= 5 && !text[digits] && strtoul(text, NULL, 10) <= UINT16_MAX;
}

/* "host:port" or "[v6]:port" */
static int
resolve(const char *text, struct addrinfo **ret_info)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	const char *colon = strrchr(text, ':');
	char host[NBDS_ADDRESS_BYTES];
	size_t bytes;
	int r;

	if (!colon || colon == text || !colon[1])
		return -EINVAL;
	bytes = (size_t)(colon - text);
	if (*text == '[') {
		if (bytes < 3 || text[bytes - 1] != ']')
			return -EINVAL;
		text++;
		bytes -= 2;
	} else if (memchr(text, ':', bytes)) {
		return -EINVAL;
	}
	if (bytes >= sizeof(host) || !is_port(colon + 1))
		return -EINVAL;
	memcpy(host, text, bytes);
	host[bytes] = '\0';
	r = getaddrinfo(host, colon + 1, &hints, ret_info);
	if (r == EAI_SYSTEM)
		return -errno;
	return r == 0 ? 0 : r == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
}

static int
open_tcp(struct nbds_listener *listener, const char *text)
{
	struct addrinfo *info;
	int one = 1;
	int fd;
	int r;

	r = resolve(text, &info);
	if (r < 0)
		return r;
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		goto out_info;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		(void)close(fd);
		goto out_info;
	}
	listener->fd = fd;

out_info:
	freeaddrinfo(info);
	return r;
}

/* The address that the kernel gave it: the port when 0 was asked for. */
static void
learn_address(struct nbds_listener *listener)
{
	union any_address at = {0};
	socklen_t bytes = sizeof(at);

	if (getsockname(listener->fd, &at.any, &bytes) < 0)
		bytes = 0;
	format_address(&at, bytes, listener->address, sizeof(listener->address));
}

int
nbds_listener_open(struct nbds_listener *listener, const char *address)
{
	int r;

	*listener = (struct nbds_listener){.fd = -1};
	if (!strncmp(address, "unix:", 5))
		r = open_unix(listener, address + 5);
	else if (!strncmp(address, "tcp:", 4))
		r = open_tcp(listener, address + 4);
	else
		r = -EINVAL;
	if (r < 0)
		return log_err_errno(-r, "cannot listen on %s", address);
	learn_address(listener);
	return 0;
}

int
nbds_listener_adopt(struct nbds_listener *listener, int fd)
{
	int is_listening = 0;
	socklen_t bytes = sizeof(is_listening);
	int flags;

	*listener = (struct nbds_listener){.fd = -1};
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &bytes) < 0)
		return log_err_errno(errno, "descriptor %d is not a listening socket", fd);
	if (!is_listening)
		return log_err_errno(EINVAL, "descriptor %d is not a listening socket", fd);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return log_err_errno(errno, "cannot set up the listening socket %d", fd);
	listener->fd = fd;
	learn_address(listener);
	return 0;
}

static void
set_tcp_options(int fd)
{
	int one = 1;
	int idle = KEEP_IDLE_SECONDS;
	int interval = KEEP_INTERVAL_SECONDS;
	int keep_count = KEEP_COUNT;

	/* Without them the connection works too, only slower or for too long. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &keep_count, sizeof(keep_count));
}

static void
accept_failed(struct nbds_listener *listener, int err)
{
	uint64_t dropped;

	/* The client was faster than accept(), or its network is at fault. */
	if (err == ECONNABORTED || err == EINTR || err == EPROTO || err == ENETDOWN ||
	    err == EHOSTUNREACH || err == ENETUNREACH)
		return;
	if (nbds_rate_allows(&listener->error_rate, listener->loop, &dropped))
		log_err_errno(err, "%s: cannot accept (%" PRIu64 " times not logged before)",
			      listener->address, dropped);
	ev_io_stop(listener->loop, &listener->readable);
	ev_timer_set(&listener->retry, RETRY_SECONDS, 0.);
	ev_timer_start(listener->loop, &listener->retry);
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct nbds_listener *listener = container_of(w, struct nbds_listener, readable);
	char peer[NBDS_ADDRESS_BYTES];
	union any_address at;
	socklen_t bytes;
	int i;
	int fd;

	(void)loop;
	(void)revents;
	for (i = 0; i < ACCEPTS_PER_EVENT && listener->fd >= 0; i++) {
		at = (union any_address){0};
		bytes = sizeof(at);
		fd = accept4(listener->fd, &at.any, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) {
			accept_failed(listener, errno);
			return;
		}
		if (at.any.sa_family == AF_UNIX) {
			(void)snprintf(peer, sizeof(peer), "unix");
		} else {
			set_tcp_options(fd);
			format_address(&at, bytes, peer, sizeof(peer));
		}
		listener->accepted(listener->arg, fd, peer);
	}
}

static void
retry_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct nbds_listener *listener = container_of(w, struct nbds_listener, retry);

	(void)revents;
	ev_io_start(loop, &listener->readable);
}

void
nbds_listener_start(struct nbds_listener *listener, struct ev_loop *loop,
		    nbds_accepted_fn *accepted, void *arg)
{
	listener->loop = loop;
	listener->accepted = accepted;
	listener->arg = arg;
	ev_io_init(&listener->readable, readable_cb, listener->fd, EV_READ);
	ev_timer_init(&listener->retry, retry_cb, RETRY_SECONDS, 0.);
	ev_io_start(loop, &listener->readable);
}

void
nbds_listener_close(struct nbds_listener *listener)
{
	struct stat st;

	if (listener->fd < 0)
		return;
	ev_io_stop(listener->loop, &listener->readable);
	ev_timer_stop(listener->loop, &listener->retry);
	if (listener->owns_path && lstat(listener->address + 5, &st) == 0 &&
	    st.st_dev == listener->path_dev && st.st_ino == listener->path_ino)
		(void)unlink(listener->address + 5);
	(void)close(listener->fd);
	listener->fd = -1;
}
