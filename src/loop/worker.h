/* SPDX-License-Identifier: MIT */
/*
 * worker.h - one helper thread for work that blocks: zeroing and registering
 * memory, nothing on the I/O path.
 *
 * Jobs are embedded in the caller's objects, so submitting never allocates and
 * the queue is as long as the caller has objects.  The thread has a stack of
 * WORKER_STACK_BYTES and every signal blocked.  Shared with the thread are only
 * the two queues, under one mutex, and what run() touches of its own job.
 */
#ifndef LOOP_WORKER_H
#define LOOP_WORKER_H

#include "common/list.h"

#define WORKER_STACK_BYTES (128u * 1024u)

struct ev_loop;
struct worker;

struct worker_job {
	struct list node;		      /* the worker's, from submit to done() */
	void (*run)(struct worker_job *job);  /* on the helper thread; may block */
	void (*done)(struct worker_job *job); /* on the loop thread; may submit again, may free */
};

/* Returns 0 or what pthread_create() refused with: -EAGAIN, -ENOMEM. */
int worker_new(struct ev_loop *loop, struct worker **ret_worker);
/* Loop thread.  run(), then done(), once each; jobs run in the order of their submission. */
void worker_submit(struct worker *w, struct worker_job *job);
/*
 * Loop thread; not from a done().  Waits for the job that runs now; jobs that have
 * not begun, or not been reported, get no done() any more.  NULL is a no-op.
 * Returns NULL.
 */
struct worker *worker_free(struct worker *w);

#endif /* LOOP_WORKER_H */
