/* SPDX-License-Identifier: MIT */
/*
 * signals.h - SIGTERM, SIGINT and SIGHUP as callbacks of the loop; SIGPIPE and SIGXFSZ
 * are error codes, not deaths.
 */
#ifndef LOOP_SIGNALS_H
#define LOOP_SIGNALS_H

#include <ev.h>

struct signals {
	ev_signal term;
	ev_signal interrupt;
	ev_signal hangup;
	struct ev_loop *loop;
	void (*stop)(void *arg, int signal_number);
	void (*reload)(void *arg);
	void *arg;
};

/* @stop runs for each SIGTERM and SIGINT.  Neither watcher keeps ev_run() alive. */
void signals_start(struct signals *s, struct ev_loop *loop,
		   void (*stop)(void *arg, int signal_number), void *arg);
/* After signals_start(): @reload runs for each SIGHUP, with its @arg. */
void signals_on_hangup(struct signals *s, void (*reload)(void *arg));
void signals_stop(struct signals *s);

#endif /* LOOP_SIGNALS_H */
