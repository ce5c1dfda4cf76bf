/* SPDX-License-Identifier: MIT */
/*
 * The channel wakes only for completions that arrive after the queue was armed:
 * arm first, then drain; and when the budget ends the drain early, come back by
 * idle and check watchers, as feeding the own watcher would starve all others.
 */
#include "rdma/cq.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

#include "common/list.h"
#include "common/log.h"
#include "loop/defer.h"
#include "loop/spin.h"

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
	ev_io_stop(c->set->loop, &c->io);
	ev_idle_stop(c->set->loop, &c->keep_awake);
	ev_check_stop(c->set->loop, &c->look);
	list_del(&c->deaf_node);
}

static void
set_broken(struct vrb_cq *c, int error)
{
	stop_watchers(c);
	c->is_broken = true;
	c->events->broken(c->arg, error);
}

/* The watchers that the state of the queue wants. */
static void
watch(struct vrb_cq *c, bool keep_awake)
{
	const bool is_deaf = !c->is_armed && c->outstanding > 0;

	if (keep_awake)
		ev_idle_start(c->set->loop, &c->keep_awake);
	else
		ev_idle_stop(c->set->loop, &c->keep_awake);
	list_del(&c->deaf_node);
	if (is_deaf)
		list_add_tail(&c->set->deaf, &c->deaf_node);
	if (is_deaf || keep_awake)
		ev_check_start(c->set->loop, &c->look);
	else
		ev_check_stop(c->set->loop, &c->look);
}

static void
set_outstanding(struct vrb_cq *c, uint32_t n)
{
	struct spin *spin = spin_of(c->set->loop);

	if (c->kind == VRB_CQ_SEND && spin && (n > 0) != (c->outstanding > 0)) {
		if (n > 0)
			spin_expect(spin);
		else
			spin_expect_no_more(spin);
	}
	c->outstanding = n;
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
			set_outstanding(c, c->outstanding - 1);
			wr->done(wr, &wc[i]);
		}
		total += (unsigned)n;
	} while (n == CQ_BATCH && total < VRB_CQ_BUDGET);
	return (int)total;
}

/* Returns whether there were completions, or will be none any more. */
static bool
turn(struct vrb_cq *c)
{
	const int n = drain(c);

	if (n < 0) {
		set_broken(c, n);
		return true;
	}
	watch(c, (unsigned)n >= VRB_CQ_BUDGET);
	if (n > 0)
		c->events->drained(c->arg);
	return n > 0;
}

static void
look_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	struct vrb_cq *c = container_of(w, struct vrb_cq, look);
	struct spin *spin = spin_of(loop);

	(void)revents;
	if (turn(c) && spin)
		spin_had_work(spin);
}

static void
arm(struct vrb_cq *c)
{
	const int r = ibv_req_notify_cq(c->cq, 0);

	if (r != 0) {
		set_broken(c, log_err_errno(r, "rdma: cannot arm a completion queue"));
		return;
	}
	c->is_armed = true;
	/* What came before it was armed; the loop has a turn for what follows from it. */
	if (turn(c) && !c->is_broken)
		watch(c, true);
}

static void
sleep_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct vrb_cq_set *set = container_of(w, struct vrb_cq_set, sleep);
	struct list deaf;

	(void)revents;
	if (spin_is_polling(spin_of(loop)))
		return;
	list_init(&deaf);
	list_splice_tail(&deaf, &set->deaf);
	while (!list_is_empty(&deaf)) {
		struct vrb_cq *c = container_of(list_pop_head(&deaf), struct vrb_cq, deaf_node);

		if (ev_is_active(&c->keep_awake))
			list_add_tail(&set->deaf, &c->deaf_node);
		else
			arm(c);
	}
}

void
vrb_cq_set_start(struct vrb_cq_set *set, struct ev_loop *loop)
{
	set->loop = loop;
	list_init(&set->deaf);
	ev_prepare_init(&set->sleep, sleep_cb);
	ev_set_priority(&set->sleep, LOOP_PRI_SLEEP);
	ev_prepare_start(loop, &set->sleep);
}

void
vrb_cq_set_stop(struct vrb_cq_set *set)
{
	assert(list_is_empty(&set->deaf));
	ev_prepare_stop(set->loop, &set->sleep);
}

static void
readable_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct vrb_cq *c = container_of(w, struct vrb_cq, io);
	struct ibv_cq *which;
	void *context;

	(void)loop;
	(void)revents;
	/* One event per arming is queued, so another look would be a system call in vain. */
	if (ibv_get_cq_event(c->channel, &which, &context) == 0)
		ibv_ack_cq_events(c->cq, 1);
	c->is_armed = false;
	(void)turn(c);
}

void
vrb_cq_posted(struct vrb_cq *c, uint32_t n)
{
	if (n == 0)
		return;
	set_outstanding(c, c->outstanding + n);
	if (!c->is_armed && !c->is_broken)
		watch(c, ev_is_active(&c->keep_awake));
}

int
vrb_cq_init(struct vrb_cq *c, enum vrb_cq_kind kind, struct vrb_cq_set *set,
	    struct ibv_context *verbs, uint32_t depth, const struct vrb_cq_events *events,
	    void *arg)
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
	*c = (struct vrb_cq){.cq = cq,
			     .kind = kind,
			     .set = set,
			     .channel = channel,
			     .events = events,
			     .arg = arg};
	ev_io_init(&c->io, readable_cb, channel->fd, EV_READ);
	ev_idle_init(&c->keep_awake, keep_awake_cb);
	ev_check_init(&c->look, look_cb);
	list_init(&c->deaf_node);
	ev_io_start(set->loop, &c->io);
	return 0;

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
	set_outstanding(c, 0);
	r = ibv_destroy_cq(c->cq);
	if (r != 0)
		(void)log_err_errno(r, "rdma: cannot destroy a completion queue");
	r = ibv_destroy_comp_channel(c->channel);
	if (r != 0)
		(void)log_err_errno(r, "rdma: cannot destroy a completion channel");
	c->cq = NULL;
}
