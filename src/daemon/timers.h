/* SPDX-License-Identifier: MIT */
/*
 * timers.h - timers of one length, at a cost that does not grow with their number.
 *
 * Whoever is armed last is due last: the queue is in order of deadlines by itself.
 * A deadline is fixed by the next timers_due(), because who arms a timer, inside a
 * callback, does not know the time.
 */
#ifndef DAEMON_TIMERS_H
#define DAEMON_TIMERS_H

#include <stdint.h>

#include "common/list.h"

struct timer {
	struct list node;
	uint64_t deadline_ns; /* 0: not fixed yet */
};

struct timers {
	uint64_t length_ns;
	struct list queue; /* struct timer: fixed ones in order, then the others */
};

void timers_init(struct timers *q, uint64_t length_ns);
/* Not armed. */
void timer_init(struct timer *t);
/* Starts or restarts @t, whatever queue it was in. */
void timer_arm(struct timers *q, struct timer *t);
/* Harmless when @t is not armed. */
void timer_disarm(struct timer *t);
/* A timer that is due, disarmed; call until it returns NULL, then *@next_ns has been
 * lowered to the first deadline. */
struct timer *timers_due(struct timers *q, uint64_t now_ns, uint64_t *next_ns);

#endif /* DAEMON_TIMERS_H */
