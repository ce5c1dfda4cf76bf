/* SPDX-License-Identifier: MIT */
/*
 * control.h - the control socket of a program: "status\n" in, one JSON document out; other
 * commands have other answers.
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
#define CONTROL_COMMANDS_MAX 4u
#define CONTROL_REPLY_BYTES (64u * 1024u)
#define CONTROL_TIMEOUT_S 5.0

struct control;

/* Writes the answer to a command.  Returns its length, 0: it does not fit. */
typedef size_t control_answer_fn(void *arg, char *buf, size_t size);

/*
 * Listens at @path; a socket there that nobody listens on any more is replaced.
 * Logs and returns -errno on failure, -EADDRINUSE when somebody listens.
 */
int control_new(struct ev_loop *loop, const char *path, control_answer_fn *status, void *arg,
		struct control **ret_control);
/* Another command, @name a static string, with the same arg. */
void control_add(struct control *c, const char *name, control_answer_fn *answer);
/* Closes everything, removes the socket.  NULL is a no-op.  Returns NULL. */
struct control *control_free(struct control *c);

#endif /* LOOP_CONTROL_H */
