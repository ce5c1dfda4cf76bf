/* SPDX-License-Identifier: MIT */
#include "programs/dns_channel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/time.h>

#include "common/alloc_scope.h"
#include "common/ini.h"
#include "common/list.h"
#include "programs/dns_answer.h"

/* Of the first try at a server; it doubles. */
#define TRY_MS 1000
#define TRIES 3
#define SERVERS_BYTES (INI_LIST_MAX * INI_ITEM_BYTES)

/* Whatever was done, the next deadline may be another. */
static void
timer_update(struct dns_channel *c)
{
	struct timeval tv;

	ev_timer_stop(c->loop, &c->timer);
	if (!ares_timeout(c->ares, NULL, &tv))
		return;
	ev_timer_set(&c->timer, (double)tv.tv_sec + (double)tv.tv_usec / 1e6, 0.);
	ev_timer_start(c->loop, &c->timer);
}

static void
process(struct dns_channel *c, ares_socket_t readable, ares_socket_t writable)
{
	alloc_scope_enter();
	ares_process_fd(c->ares, readable, writable);
	timer_update(c);
	alloc_scope_leave();
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	process(container_of(w, struct dns_channel, timer), ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void
io_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	process(w->data, revents & EV_READ ? w->fd : ARES_SOCKET_BAD,
		revents & EV_WRITE ? w->fd : ARES_SOCKET_BAD);
}

static ev_io *
io_of(struct dns_channel *c, int fd)
{
	ev_io *unused = NULL;

	for (uint32_t i = 0; i < DNS_SOCKETS_MAX; i++) {
		if (!ev_is_active(&c->io[i]))
			unused = &c->io[i];
		else if (c->io[i].fd == fd)
			return &c->io[i];
	}
	return unused;
}

/* c-ares says what it waits for at a socket; nothing: it is about to close it. */
static void
socket_state_cb(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct dns_channel *c = arg;
	ev_io *io = io_of(c, fd);
	const int events = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);

	if (!io)
		return; /* too many sockets: this question ends by its time */
	if (ev_is_active(io))
		ev_io_stop(c->loop, io);
	if (events == 0)
		return;
	ev_io_set(io, fd, events);
	io->data = c;
	ev_io_start(c->loop, io);
}

static int
servers_set(struct dns_channel *c, const struct ini_list *servers)
{
	char csv[SERVERS_BYTES];
	size_t length = 0;

	if (servers->count == 0)
		return ARES_SUCCESS;
	for (uint32_t i = 0; i < servers->count; i++)
		length += (size_t)snprintf(csv + length, sizeof(csv) - length, "%s%s",
					   i > 0 ? "," : "", servers->item[i]);
	return ares_set_servers_ports_csv(c->ares, csv);
}

int
dns_channel_open(struct dns_channel *c, struct ev_loop *loop, const struct ini_list *servers)
{
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = TRY_MS,
		.tries = TRIES,
		.sock_state_cb = socket_state_cb,
		.sock_state_cb_data = c,
	};
	int r;

	*c = (struct dns_channel){.loop = loop};
	ev_timer_init(&c->timer, timer_cb, 0., 0.);
	for (uint32_t i = 0; i < DNS_SOCKETS_MAX; i++)
		ev_init(&c->io[i], io_cb);
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	r = ares_init_options(&c->ares, &options,
			      ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
				      ARES_OPT_SOCK_STATE_CB);
	if (r != ARES_SUCCESS) {
		ares_library_cleanup();
		return r == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	r = servers_set(c, servers);
	if (r != ARES_SUCCESS) {
		dns_channel_close(c);
		return r == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	return 0;
}

void
dns_channel_close(struct dns_channel *c)
{
	alloc_scope_enter();
	ares_destroy(c->ares);
	alloc_scope_leave();
	ev_timer_stop(c->loop, &c->timer);
	for (uint32_t i = 0; i < DNS_SOCKETS_MAX; i++)
		ev_io_stop(c->loop, &c->io[i]);
	ares_library_cleanup();
}

void
dns_channel_ask(struct dns_channel *c, const char *name, uint16_t type, ares_callback done,
		void *arg)
{
	alloc_scope_enter();
	ares_query(c->ares, name, DNS_CLASS_IN, type, done, arg);
	timer_update(c);
	alloc_scope_leave();
}

void
dns_channel_cancel(struct dns_channel *c)
{
	alloc_scope_enter();
	ares_cancel(c->ares);
	timer_update(c);
	alloc_scope_leave();
}
