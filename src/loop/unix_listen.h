/* SPDX-License-Identifier: MIT */
/* unix_listen.h - listening Unix sockets that only their owner may connect to. */
#ifndef LOOP_UNIX_LISTEN_H
#define LOOP_UNIX_LISTEN_H

#include <sys/un.h>

/* @path: absolute.  Returns 0 or -EINVAL (relative, empty, too long). */
int unix_address(const char *path, struct sockaddr_un *ret_address);

/*
 * unix_listen - a non-blocking socket of @type (SOCK_STREAM, SOCK_SEQPACKET) at @path,
 * mode 0600; the socket of a process that is gone is replaced.
 * Returns the descriptor or -errno: -EINVAL, -EADDRINUSE, -ENOENT, -EACCES, ...
 */
int unix_listen(const char *path, int type, int backlog);

#endif /* LOOP_UNIX_LISTEN_H */
