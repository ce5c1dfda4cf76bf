/* SPDX-License-Identifier: MIT */
/*
 * defer.h - run a callback on the next turn of the loop, after the other
 * descriptors had theirs; and the order of work inside one turn.
 *
 * A turn: prepare watchers, then the poll, then ready descriptors and timers.
 * Cores run in a prepare watcher of priority LOOP_PRI_RUN: they hand out
 * completions that became due without I/O.  Whatever batches (socket writes,
 * doorbells, io_uring submission) does so in a prepare watcher of priority
 * LOOP_PRI_FLUSH, so it sees everything that the turn produced; disks come after it
 * (LOOP_PRI_DISK): submitting to them takes time that a peer could already work
 * in.  A flush that has to report something must not call back from there: it
 * uses a defer.  What is about the poll itself comes last, and first after it, with EV_MAXPRI:
 * whether it sleeps (spin.h, realtime.h; LOOP_PRI_POLL), then what a sleeping loop
 * needs to be woken (LOOP_PRI_SLEEP).
 */
#ifndef LOOP_DEFER_H
#define LOOP_DEFER_H

#include <ev.h>

#define LOOP_PRI_RUN 2 /* EV_MAXPRI */
#define LOOP_PRI_FLUSH 1
#define LOOP_PRI_DISK 0
#define LOOP_PRI_POLL (-1)
#define LOOP_PRI_SLEEP (-2) /* EV_MINPRI */
/* Of a check watcher: after the turn's descriptors and timers. */
#define LOOP_PRI_LATE (-1)

struct defer {
	ev_check check;
	ev_idle idle; /* keeps the poll from blocking while one is due */
	struct ev_loop *loop;
	void (*fn)(void *arg);
	void *arg;
};

void defer_init(struct defer *d, struct ev_loop *loop, void (*fn)(void *arg), void *arg);
/* fn(arg) runs once on the next turn; starting again before that changes nothing. */
void defer_start(struct defer *d);
/* Harmless when not started. */
void defer_stop(struct defer *d);

#endif /* LOOP_DEFER_H */
