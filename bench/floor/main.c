/* SPDX-License-Identifier: MIT */
/*
 * The bare floor: an NBD server with nothing behind it.  READs get a fixed buffer, WRITEs are
 * dropped.  One thread, many requests a read, many answers a write.
 *
 * With one client it blocks in recv(), which saves the epoll_wait() of each turn, and looks for
 * others now and then; with several it waits in epoll.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "conn.h"
#include "handshake.h"
#include "loop/unix_listen.h"

#define CONNS_MAX 64u
#define EVENTS_MAX 16
/* How often, in turns, a lone client is left to look for others; and when it is silent. */
#define LONE_TURNS 256u
#define LONE_WAIT_US 10000
#define NSEC_PER_SEC 1000000000u

struct floor {
	const char *path;
	uint64_t size_bytes;
	uint64_t spin_ns;
	int listen_fd;
	int epoll_fd;
	uint32_t n_conns;
	struct conn *lone; /* when n_conns is 1 */
	struct conn *conns[CONNS_MAX];
	uint8_t content[CONN_CONTENT_BYTES];
};

static uint64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void
die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
find_lone(struct floor *f)
{
	f->lone = NULL;
	for (uint32_t i = 0; i < CONNS_MAX && f->n_conns == 1 && f->lone == NULL; i++)
		f->lone = f->conns[i];
}

static void
watch(struct floor *f, int fd, struct conn *c)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	if (epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void
drop(struct floor *f, struct conn *c)
{
	for (uint32_t i = 0; i < CONNS_MAX; i++)
		if (f->conns[i] == c)
			f->conns[i] = NULL;
	f->n_conns--;
	conn_free(c);
	find_lone(f);
}

/* A lone one is not watched: that would cost a little with each of its requests. */
static void
watch_all(struct floor *f)
{
	for (uint32_t i = 0; i < CONNS_MAX; i++) {
		struct conn *c = f->conns[i];

		if (c != NULL && !c->is_watched) {
			watch(f, c->fd, c);
			c->is_watched = true;
		}
	}
}

static void
keep(struct floor *f, struct conn *c)
{
	uint32_t i = 0;

	while (f->conns[i] != NULL)
		i++;
	f->conns[i] = c;
	f->n_conns++;
	find_lone(f);
	if (f->lone == NULL)
		watch_all(f);
}

/* Everybody who waits at the door; a client has shaken hands before the next one is looked at. */
static void
accept_all(struct floor *f)
{
	const struct timeval patience = {.tv_sec = 5};
	const struct timeval lone_wait = {.tv_usec = LONE_WAIT_US};
	int fd;

	while ((fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct conn *c;

		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (f->n_conns == CONNS_MAX || !handshake(fd, f->size_bytes)) {
			(void)close(fd);
			continue;
		}
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &lone_wait, sizeof(lone_wait));
		c = conn_new(fd, f->size_bytes, f->content);
		if (c == NULL)
			die("no memory");
		keep(f, c);
	}
}

static void
serve_lone(struct floor *f)
{
	struct conn *c = f->lone;
	uint64_t spin_until = f->spin_ns > 0 ? now_ns() + f->spin_ns : 0;
	uint32_t n_turns = 0; /* the empty ones do not count */

	while (n_turns < LONE_TURNS) {
		const bool is_spinning = spin_until != 0 && now_ns() < spin_until;
		bool got;

		if (!conn_turn(c, is_spinning ? MSG_DONTWAIT : 0, &got)) {
			drop(f, c);
			return;
		}
		if (!got && !is_spinning)
			return;
		if (got && f->spin_ns > 0)
			spin_until = now_ns() + f->spin_ns;
		n_turns += got;
	}
}

static void
serve_many(struct floor *f)
{
	struct epoll_event events[EVENTS_MAX];
	const uint64_t spin_until = f->spin_ns > 0 ? now_ns() + f->spin_ns : 0;
	int n = 0;

	while (n == 0 && spin_until != 0 && now_ns() < spin_until)
		n = epoll_wait(f->epoll_fd, events, EVENTS_MAX, 0);
	if (n == 0)
		n = epoll_wait(f->epoll_fd, events, EVENTS_MAX, -1);
	for (int i = 0; i < n; i++) {
		struct conn *c = events[i].data.ptr;
		bool got;

		if (c != NULL && !conn_turn(c, MSG_DONTWAIT, &got))
			drop(f, c);
	}
}

static void
listen_at(struct floor *f)
{
	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (f->epoll_fd < 0)
		die("epoll_create1");
	f->listen_fd = unix_listen(f->path, SOCK_STREAM, 16);
	if (f->listen_fd < 0) {
		errno = -f->listen_fd;
		die(f->path);
	}
	watch(f, f->listen_fd, NULL);
}

static void
usage(void)
{
	fputs("usage: floor --socket PATH [--size BYTES] [--spin MICROSECONDS]\n"
	      "An NBD server with nothing behind it, on a Unix socket.\n",
	      stderr);
	exit(2);
}

static uint64_t
number(const char *text)
{
	char *end;
	const uint64_t n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0')
		usage();
	return n;
}

static void
parse_options(struct floor *f, int argc, char **argv)
{
	static const struct option longs[] = {
		{"socket", required_argument, NULL, 's'},
		{"size", required_argument, NULL, 'b'},
		{"spin", required_argument, NULL, 'u'},
		{NULL, 0, NULL, 0},
	};
	int option;

	f->size_bytes = UINT64_C(1) << 30;
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 's')
			f->path = optarg;
		else if (option == 'b')
			f->size_bytes = number(optarg);
		else if (option == 'u')
			f->spin_ns = number(optarg) * 1000;
		else
			usage();
	}
	if (optind != argc || f->path == NULL)
		usage();
}

int
main(int argc, char **argv)
{
	struct floor *f = calloc(1, sizeof(*f));

	if (f == NULL)
		die("no memory");
	parse_options(f, argc, argv);
	memset(f->content, 0x5a, sizeof(f->content));
	listen_at(f);
	for (;;) {
		accept_all(f);
		if (f->lone != NULL)
			serve_lone(f);
		else
			serve_many(f);
	}
}
