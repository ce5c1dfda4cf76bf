/* SPDX-License-Identifier: MIT */
/*
 * log_ring.h - log lines of the loop thread reach standard error by another thread.
 *
 * A journal or a terminal takes a line when it has memory for it, which the loop of
 * a server of swap must not wait for.  Between log_ring_start() and log_ring_stop()
 * the lines of the thread that called start() go to a ring of fixed size, without a
 * lock; a thread with a small stack writes them out.  What does not fit is dropped
 * and counted, and the count is a line of its own when there is room again.  Lines
 * of other threads, and all lines before and after, are written directly.
 */
#ifndef COMMON_LOG_RING_H
#define COMMON_LOG_RING_H

#include <stdbool.h>
#include <stddef.h>

/* One for the process.  Returns 0 or what pthread_create() refused with: -EAGAIN, -ENOMEM. */
int log_ring_start(void);
/* Writes out what is left, for at most a second.  A no-op when it was not started. */
void log_ring_stop(void);

/*
 * For log.c: whether the ring has taken care of the line, which ends with a newline;
 * false: the caller writes it.
 */
bool log_ring_put(const char *line, size_t length_bytes);

#endif /* COMMON_LOG_RING_H */
