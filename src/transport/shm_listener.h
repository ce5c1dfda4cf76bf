/* SPDX-License-Identifier: MIT */
/* shm_listener.h - a bound socket that brings connections. */
#ifndef TRANSPORT_SHM_LISTENER_H
#define TRANSPORT_SHM_LISTENER_H

#include <stddef.h>

#include <sys/un.h>

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
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

int shm_listener_new(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		     struct tp_listener **ret_listener);
void shm_listener_address(const struct tp_listener *listener, char *buf, size_t size);
void shm_listener_close(struct tp_listener *listener);

#endif /* TRANSPORT_SHM_LISTENER_H */
