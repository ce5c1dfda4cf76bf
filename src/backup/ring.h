/* SPDX-License-Identifier: MIT */
/*
 * ring.h - backup ops in and out of one io_uring.
 *
 * Happy path: ring_submit() queues; the flush watcher, once per loop turn, moves
 * queued ops into the ring and enters the kernel once for all of them; the ring's
 * descriptor ends the poll; a bounded number of completions per turn run done().
 *
 * Failure modes:
 * - no memory in the kernel, a signal: asked again after RETRY_SECONDS, a bounded
 *   number of times without any success in between;
 * - short transfers: the rest is asked for;
 * - -EOPNOTSUPP of a DISCARD or ZERO: remembered, said once, later ones answered
 *   from a defer without a system call.
 */
#ifndef BACKUP_RING_H
#define BACKUP_RING_H

#include <ev.h>
#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backup/target.h"
#include "common/histogram.h"
#include "common/list.h"
#include "loop/defer.h"
#include "loop/turn_clock.h"
#include "slab/backup.h"

/* Ops of one kind: none may take the whole ring. */
struct ring_lane {
	struct list queue; /* above the credit or the depth, or new in this turn */
	uint32_t in_flight;
	uint32_t credit;
};

struct ring {
	struct io_uring uring;
	struct ev_loop *loop;
	struct backup_target *target;
	struct turn_clock *clock;
	char *area;
	size_t area_bytes;
	bool is_registered;
	bool has_discard_cmd; /* block device: try the discard command before punching */
	bool submit_failing;  /* said so */
	uint32_t depth;
	uint32_t in_flight; /* in the ring, of all lanes */
	uint32_t waiting;   /* on the lanes and the two lists */
	uint32_t retries;   /* since the last success */

	/* In this order they get what is left of the depth. */
	struct ring_lane ranges; /* DISCARD, ZERO: few, so that a long trim holds up nobody */
	struct ring_lane reads;	 /* somebody waits for each ... */
	struct ring_lane writes; /* WRITE, SYNC: ... and of these there may be any number */
	struct list delayed;	 /* until the retry timer */
	struct list refused;	 /* to be answered with -EOPNOTSUPP by the defer */

	struct histogram times[BACKUP_OP_KINDS]; /* from submit to done, without an error */

	ev_prepare flush_watcher;
	ev_check reap_watcher;
	ev_io wake_watcher;
	ev_timer retry_timer;
	struct defer refuse_defer;
};

/* @target and @clock are borrowed until close; embedded: the ring does not move.  Logs. */
int ring_open(struct ring *ring, struct ev_loop *loop, struct turn_clock *clock,
	      struct backup_target *target, void *area, size_t area_bytes, uint32_t depth);
/* Nothing in flight or waiting (asserted). */
void ring_close(struct ring *ring);
void ring_submit(struct ring *ring, struct backup_op *op);

#endif /* BACKUP_RING_H */
