/* SPDX-License-Identifier: MIT */
/*
 * control.h - the control socket of a program: "status\n" in, one JSON document out.
 *
 * A Unix stream socket, mode 0600.  Bounded in every way: CONTROL_CLIENTS_MAX
 * clients (more wait in the kernel's queue), lines of at most CONTROL_LINE_BYTES,
 * CONTROL_TIMEOUT_S per client, one buffer each, allocated at start.
 */
#ifndef LOOP_CONTROL_H
#define LOOP_CONTROL_H

#include <stddef.h>

#include <ev.h>

#define CONTROL_CLIENTS_MAX 4u
#define CONTROL_LINE_BYTES 64u
#define CONTROL_REPLY_BYTES (64u * 1024u)
#define CONTROL_TIMEOUT_S 5.0

struct control;

/* Writes the document for "status".  Returns its length, 0: it does not fit. */
typedef size_t control_status_fn(void *arg, char *buf, size_t size);

/*
 * Listens at @path; a socket there that nobody listens on any more is replaced.
 * Logs and returns -errno on failure, -EADDRINUSE when somebody listens.
 */
int control_new(struct ev_loop *loop, const char *path, control_status_fn *status, void *arg,
		struct control **ret_control);
/* Closes everything, removes the socket.  NULL is a no-op.  Returns NULL. */
struct control *control_free(struct control *c);

#endif /* LOOP_CONTROL_H */
