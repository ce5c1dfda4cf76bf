/* SPDX-License-Identifier: MIT */
/*
 * eviction.h - takes lent slabs back from their clients (paper 5.2, appendix B.1).
 *
 * A batch wants E slabs.  It draws E + extra_choices of those that are lent, each as
 * likely as any other, asks all owners at once how active they are, and takes the E
 * least active:
 *
 *   CHECKING: CHECK_ACTIVITY -> ACTIVITY, until all have answered or half of the
 *             deadline is over
 *   EVICTING: EVICT -> DONE -> revoked and dropped; at the deadline revoked all the same
 *
 * A slab without an answer counts as idle and goes first: its owner is dead, or has
 * something to gain from being silent.  When everything that is lent has to go, nobody is asked
 * for activity.  A slab that its owner gives back or takes along (UNMAP, a lost
 * connection) counts as taken.  No step waits for one client longer than the deadline, and none
 * waits for another's.
 */
#ifndef DAEMON_EVICTION_H
#define DAEMON_EVICTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/rng.h"
#include "wire/ctl.h"

struct client;
struct daemon;
struct pool_slab;

/* At a time; a need that grows while a batch is under way gets one of its own. */
#define EVICTION_BATCHES_MAX 8u
/* Requests that a client has not answered; the others of a batch follow its answers.  Half
 * of what a connection keeps for a peer that takes nothing (transport.h). */
#define EVICTION_ASKS_MAX 32u
/* More page I/Os per second than any link carries, times 1000: a lie. */
#define EVICTION_MILLI_ACTIVITY_MAX (UINT64_C(1000) * 1000 * 1000 * 1000)

/* Of a slab: where it stands in its batch. */
enum eviction_step {
	EVICTION_NONE = 0,
	EVICTION_TO_CHECK, /* CHECK_ACTIVITY is to be sent */
	EVICTION_CHECKED,  /* it was; waits for ACTIVITY */
	EVICTION_KNOWN,	   /* the activity is there */
	EVICTION_TO_EVICT, /* EVICT is to be sent */
	EVICTION_ASKED,	   /* it was; waits for DONE */
};

struct eviction_batch {
	struct list slabs; /* pool_slab.evict_node; empty and not evicting: the batch is unused */
	bool is_evicting;
	uint32_t slab_count;
	uint32_t wanted;   /* E, less what has come back by itself; while not evicting */
	uint32_t unsent;   /* TO_CHECK or TO_EVICT */
	uint32_t unknown;  /* TO_CHECK or CHECKED */
	uint64_t check_ns; /* CHECKING ends */
	uint64_t deadline_ns;
};

struct eviction {
	struct eviction_batch batches[EVICTION_BATCHES_MAX];
	struct rng rng;
};

void eviction_init(struct eviction *e, uint64_t seed);
/* Starts batches, sends what may be sent, does what is due; lowers *@next_ns. */
void eviction_advance(struct daemon *d, uint64_t now_ns, uint64_t *next_ns);

/* A client's answers: taken, ignored (its request is over), or the end of its connection. */
void eviction_activity(struct client *c, const struct ctl_msg *msg);
void eviction_done(struct client *c, const struct ctl_msg *msg);

/* @s is being revoked or has left its client: no batch wants it any more. */
void eviction_forget(struct pool_slab *s);

/* Slabs whose owners have been asked to give them back, or will be. */
uint32_t eviction_pending(const struct daemon *d);

#endif /* DAEMON_EVICTION_H */
