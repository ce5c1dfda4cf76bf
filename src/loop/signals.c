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
hangup_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct signals *s = w->data;

	(void)loop;
	(void)revents;
	s->reload(s->arg);
}

static void
start_one(struct signals *s, ev_signal *w)
{
	w->data = s;
	ev_signal_start(s->loop, w);
	ev_unref(s->loop);
}

static void
stop_one(struct signals *s, ev_signal *w)
{
	ev_ref(s->loop);
	ev_signal_stop(s->loop, w);
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
	ev_signal_init(&s->term, signal_cb, SIGTERM);
	ev_signal_init(&s->interrupt, signal_cb, SIGINT);
	ev_signal_init(&s->hangup, hangup_cb, SIGHUP);
	start_one(s, &s->term);
	start_one(s, &s->interrupt);
}

void
signals_on_hangup(struct signals *s, void (*reload)(void *arg))
{
	s->reload = reload;
	start_one(s, &s->hangup);
}

void
signals_stop(struct signals *s)
{
	stop_one(s, &s->term);
	stop_one(s, &s->interrupt);
	if (ev_is_active(&s->hangup))
		stop_one(s, &s->hangup);
}
