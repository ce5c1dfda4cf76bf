/* SPDX-License-Identifier: MIT */
/* tcp_listener.h - a bound socket that brings connections. */
#ifndef TRANSPORT_TCP_LISTENER_H
#define TRANSPORT_TCP_LISTENER_H

#include <stddef.h>

#include <ev.h>

#include "common/list.h"
#include "transport/transport.h"

struct tp_listener {
	struct tp_base base;
	struct list node;
	int fd;
	ev_io watcher;
	ev_timer pause; /* no descriptor or memory left: try again later */
	tp_incoming_fn *incoming;
	void *arg;
};

int tcp_listener_new(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		     struct tp_listener **ret_listener);
void tcp_listener_address(const struct tp_listener *listener, char *buf, size_t size);
void tcp_listener_close(struct tp_listener *listener);

#endif /* TRANSPORT_TCP_LISTENER_H */
