/* SPDX-License-Identifier: MIT */
/*
 * cq.h - a completion queue in a libev loop: bounded, fair, no lost wake-up.
 *
 * To be woken costs three system calls, and on real devices an interrupt.  So a queue is armed
 * only when the loop is about to sleep and something is outstanding; as long as it is not
 * armed it is looked at in each turn, which costs none.  A loop that polls (spin.h)
 * therefore hears of what it has posted without any.
 */
#ifndef RDMA_CQ_H
#define RDMA_CQ_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>
#include <infiniband/verbs.h>

#include "common/list.h"

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

enum vrb_cq_kind {
	VRB_CQ_SEND = 1, /* what was posted completes by itself: worth polling for, see spin.h */
	VRB_CQ_RECEIVE,	 /* ... when the peer wants something */
};

/* All queues of a loop, which arms what has to be when it is about to sleep. */
struct vrb_cq_set {
	struct ev_loop *loop;
	ev_prepare sleep;
	struct list deaf; /* vrb_cq.deaf_node: not armed, and something is outstanding */
};

struct vrb_cq {
	struct ibv_cq *cq; /* NULL: not initialised */
	enum vrb_cq_kind kind;
	struct vrb_cq_set *set;
	struct list deaf_node;
	struct ibv_comp_channel *channel;
	ev_io io;
	ev_check look;	    /* in each turn, while it is deaf or keeps awake */
	ev_idle keep_awake; /* while there is a backlog, or something follows from what came */
	bool is_armed;
	bool is_broken;
	const struct vrb_cq_events *events;
	void *arg;
	uint32_t outstanding; /* posted and not completed */
};

/* @set stays in place until vrb_cq_set_stop(), after the last queue. */
void vrb_cq_set_start(struct vrb_cq_set *set, struct ev_loop *loop);
void vrb_cq_set_stop(struct vrb_cq_set *set);

/*
 * vrb_cq_init - make and watch a queue for @depth completions.  wr->done() and
 * @events run on the loop, never from inside another function of this file.
 * done() must not vrb_cq_fini().  Returns 0, -ENOMEM or another -errno of the device.
 */
int vrb_cq_init(struct vrb_cq *c, enum vrb_cq_kind kind, struct vrb_cq_set *set,
		struct ibv_context *verbs, uint32_t depth, const struct vrb_cq_events *events,
		void *arg);
/* So many requests were given to the device, each of which will complete here. */
void vrb_cq_posted(struct vrb_cq *c, uint32_t n);
/* After the queue pair is destroyed.  Harmless when not initialised. */
void vrb_cq_fini(struct vrb_cq *c);

#endif /* RDMA_CQ_H */
