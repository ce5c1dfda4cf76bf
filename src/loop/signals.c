/* SPDX-License-Identifier: MIT */
/* Through libev's own pipe, so that stop() may do anything. */
#include "loop/signals.h"

#include <signal.h>

static void
signal_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct signals *s = w->data;

	(void)loop;
	(void)revents;
	s->stop(s->arg, w->signum);
}

static void
start_one(struct signals *s, ev_signal *w, int signal_number)
{
	ev_signal_init(w, signal_cb, signal_number);
	w->data = s;
	ev_signal_start(s->loop, w);
	ev_unref(s->loop);
}

void
signals_start(struct signals *s, struct ev_loop *loop, void (*stop)(void *arg, int signal_number),
	      void *arg)
{
	s->loop = loop;
	s->stop = stop;
	s->arg = arg;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file over RLIMIT_FSIZE */
	start_one(s, &s->term, SIGTERM);
	start_one(s, &s->interrupt, SIGINT);
}

void
signals_stop(struct signals *s)
{
	ev_ref(s->loop);
	ev_signal_stop(s->loop, &s->term);
	ev_ref(s->loop);
	ev_signal_stop(s->loop, &s->interrupt);
}
