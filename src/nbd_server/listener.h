/* SPDX-License-Identifier: MIT */
/* listener.h - one listening socket: Unix, TCP, or handed in by systemd. */
#ifndef NBD_SERVER_LISTENER_H
#define NBD_SERVER_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include <ev.h>

#include "nbd_server/env.h"

#define NBDS_ADDRESS_BYTES 192u

struct nbds_listener;
/* Takes over @fd, a non-blocking socket of a client; @peer: for the log. */
typedef void nbds_accepted_fn(void *arg, int fd, const char *peer);

struct nbds_listener {
	struct ev_loop *loop;
	nbds_accepted_fn *accepted;
	void *arg;
	int fd;
	ev_io readable;
	ev_timer retry; /* accept() ran out of something */
	struct nbds_rate error_rate;
	char address[NBDS_ADDRESS_BYTES]; /* as nbds_server_listen() takes it */
	bool owns_path; /* unlink the Unix socket at the end, if it is still ours */
	dev_t path_dev;
	ino_t path_ino;
};

/* Binds and listens; logs and returns -errno.  Nothing is accepted before start. */
int nbds_listener_open(struct nbds_listener *listener, const char *address);
/* Takes over @fd on success. */
int nbds_listener_adopt(struct nbds_listener *listener, int fd);
void nbds_listener_start(struct nbds_listener *listener, struct ev_loop *loop,
			 nbds_accepted_fn *accepted, void *arg);
/* Closes the socket and removes its path.  Harmless when closed. */
void nbds_listener_close(struct nbds_listener *listener);

#endif /* NBD_SERVER_LISTENER_H */
