/* SPDX-License-Identifier: MIT */
/* notify.h - what systemd is told, and the sockets that it hands over; no-ops without systemd. */
#ifndef LOOP_NOTIFY_H
#define LOOP_NOTIFY_H

/* READY=1 and a status line. */
void notify_ready(const char *status);
void notify_status(const char *status);
void notify_stopping(void);

/*
 * Listening sockets of LISTEN_FDS, for this process only.  Returns how many; they
 * are *@ret_first_fd and those after it, close-on-exec, the caller's to close.
 */
int notify_listen_fds(int *ret_first_fd);

#endif /* LOOP_NOTIFY_H */
