/* SPDX-License-Identifier: MIT */
/*
 * cq.h - a completion queue in a libev loop: bounded, fair, no lost wake-up.  While the
 * loop polls (spin.h), it is polled too.
 */
#ifndef RDMA_CQ_H
#define RDMA_CQ_H

#include <stdint.h>

#include <ev.h>
#include <infiniband/verbs.h>

#include "loop/spin.h"

#define VRB_CQ_BUDGET 64u /* completions per turn of the loop */

struct vrb_wr;
/* Of a failed completion only wc->status and wc->vendor_err mean anything. */
typedef void vrb_wr_done_fn(struct vrb_wr *wr, const struct ibv_wc *wc);

/* The wr_id of every posted work request points to one of these. */
struct vrb_wr {
	vrb_wr_done_fn *done;
};

struct vrb_cq_events {
	/* After some completions were handled; the place for what waited for room. */
	void (*drained)(void *arg);
	/* The queue gives nothing any more. */
	void (*broken)(void *arg, int error);
};

struct vrb_cq {
	struct ibv_cq *cq; /* NULL: not initialised */
	struct ibv_comp_channel *channel;
	struct ev_loop *loop;
	ev_io io;
	ev_idle keep_awake; /* started only while there is a backlog ... */
	ev_check again;	    /* ... so this runs on the very next turn; or polls */
	/* While the loop does not sleep, the queue is looked at in each turn and not armed: an
	 * event costs three system calls. */
	struct spin_poller poller;
	bool is_polled;
	const struct vrb_cq_events *events;
	void *arg;
	uint32_t outstanding; /* posted and not completed: counted by the posters */
};

/*
 * vrb_cq_init - make and watch a queue for @depth completions.  wr->done() and
 * @events run on the loop, never from inside another function of this file.
 * done() must not vrb_cq_fini().  Returns 0, -ENOMEM or another -errno of the device.
 */
int vrb_cq_init(struct vrb_cq *c, struct ev_loop *loop, struct ibv_context *verbs, uint32_t depth,
		const struct vrb_cq_events *events, void *arg);
/* After the queue pair is destroyed.  Harmless when not initialised. */
void vrb_cq_fini(struct vrb_cq *c);

#endif /* RDMA_CQ_H */
