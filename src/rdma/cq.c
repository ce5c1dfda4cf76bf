/* SPDX-License-Identifier: MIT */
/*
 * The channel wakes only for completions that arrive after the queue was armed:
 * arm first, then drain; and when the budget ends the drain early, come back by
 * idle and check watchers, as feeding the own watcher would starve all others.
 * An event that comes while the loop polls is the last one: the queue is not armed
 * again before the loop sleeps, and the check watcher drains it.
 */
#include "rdma/cq.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "common/list.h"
#include "common/log.h"

#define CQ_BATCH 16

static void
keep_awake_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
stop_watchers(struct vrb_cq *c)
{
	ev_io_stop(c->loop, &c->io);
	ev_idle_stop(c->loop, &c->keep_awake);
	ev_check_stop(c->loop, &c->again);
	list_del(&c->poller.node);
	c->is_polled = false;
}

/* Returns how many were handled, up to the budget and less than one batch more. */
static int
drain(struct vrb_cq *c)
{
	struct ibv_wc wc[CQ_BATCH];
	unsigned total = 0;
	int n, i;

	do {
		n = ibv_poll_cq(c->cq, CQ_BATCH, wc);
		if (n < 0)
			return -EIO; /* the call gives no errno */
		for (i = 0; i < n; i++) {
			struct vrb_wr *wr = (struct vrb_wr *)(uintptr_t)wc[i].wr_id;

			assert(c->outstanding > 0);
			c->outstanding--;
			wr->done(wr, &wc[i]);
		}
		total += (unsigned)n;
	} while (n == CQ_BATCH && total < VRB_CQ_BUDGET);
	return (int)total;
}

/* Returns whether there were completions. */
static bool
turn(struct vrb_cq *c)
{
	const int n = drain(c);

	if (n < 0) {
		stop_watchers(c);
		c->events->broken(c->arg, n);
		return true;
	}
	if ((unsigned)n >= VRB_CQ_BUDGET) {
		ev_idle_start(c->loop, &c->keep_awake);
		ev_check_start(c->loop, &c->again);
	} else {
		ev_idle_stop(c->loop, &c->keep_awake);
		if (!c->is_polled)
			ev_check_stop(c->loop, &c->again);
	}
	if (n > 0)
		c->events->drained(c->arg);
	return n > 0;
}

static void
again_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	struct vrb_cq *c = container_of(w, struct vrb_cq, again);
	struct spin *spin = spin_of(loop);

	(void)revents;
	if (turn(c) && spin)
		spin_had_work(spin);
}

/* Returns 0, or what broken() was told. */
static int
arm(struct vrb_cq *c)
{
	int r = ibv_req_notify_cq(c->cq, 0);

	if (r == 0)
		return 0;
	stop_watchers(c);
	r = log_err_errno(r, "rdma: cannot arm a completion queue");
	c->events->broken(c->arg, r);
	return r;
}

static bool
sleeps_cb(struct spin_poller *p)
{
	struct vrb_cq *c = container_of(p, struct vrb_cq, poller);

	c->is_polled = false;
	return arm(c) < 0 || turn(c);
}

static void
start_polling(struct vrb_cq *c, struct spin *spin)
{
	c->is_polled = true;
	spin_watch(spin, &c->poller);
	ev_check_start(c->loop, &c->again);
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct vrb_cq *c = container_of(w, struct vrb_cq, io);
	struct ibv_cq *which;
	struct spin *spin = spin_of(loop);
	void *context;

	(void)revents;
	/* One event per arming is queued, so another look would be a system call in vain; if there
	 * was one, the descriptor stays readable. */
	if (ibv_get_cq_event(c->channel, &which, &context) == 0)
		ibv_ack_cq_events(c->cq, 1);

	if (c->is_polled)
		return;
	if (spin_is_polling(spin))
		start_polling(c, spin);
	else if (arm(c) < 0)
		return;
	(void)turn(c);
}

int
vrb_cq_init(struct vrb_cq *c, struct ev_loop *loop, struct ibv_context *verbs, uint32_t depth,
	    const struct vrb_cq_events *events, void *arg)
{
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	int r;

	channel = ibv_create_comp_channel(verbs);
	if (!channel)
		return -errno;
	if (fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK) < 0) {
		r = -errno;
		goto err_channel;
	}
	cq = ibv_create_cq(verbs, (int)depth, arg, channel, 0);
	if (!cq) {
		r = -errno;
		goto err_channel;
	}
	r = -ibv_req_notify_cq(cq, 0);
	if (r < 0)
		goto err_cq;

	*c = (struct vrb_cq){
		.cq = cq, .channel = channel, .loop = loop, .events = events, .arg = arg};
	ev_io_init(&c->io, readable_cb, channel->fd, EV_READ);
	ev_idle_init(&c->keep_awake, keep_awake_cb);
	ev_check_init(&c->again, again_cb);
	list_init(&c->poller.node);
	c->poller.sleeps = sleeps_cb;
	ev_io_start(loop, &c->io);
	return 0;

err_cq:
	(void)ibv_destroy_cq(cq);
err_channel:
	(void)ibv_destroy_comp_channel(channel);
	return r;
}

void
vrb_cq_fini(struct vrb_cq *c)
{
	int r;

	if (!c->cq)
		return;
	stop_watchers(c);
	r = ibv_destroy_cq(c->cq);
	if (r != 0)
		(void)log_err_errno(r, "rdma: cannot destroy a completion queue");
	r = ibv_destroy_comp_channel(c->channel);
	if (r != 0)
		(void)log_err_errno(r, "rdma: cannot destroy a completion channel");
	c->cq = NULL;
}
