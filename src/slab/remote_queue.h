/* SPDX-License-Identifier: MIT */
/*
 * remote_queue.h - which daemons need a look in this turn.
 *
 * A device may know thousands of daemons, and a turn must not cost more for those
 * where nothing happens: it looks at the daemons that something happened to (they are
 * touched) and at those whose time has come.  No allocation after init.
 */
#ifndef SLAB_REMOTE_QUEUE_H
#define SLAB_REMOTE_QUEUE_H

#include <stdint.h>

#include "common/list.h"

struct remote;

struct remote_queue {
	struct list touched;
	struct remote **heap; /* from 1 on; the earliest first */
	uint32_t n;
};

/* @n_remotes: most that will be queued at once.  Returns 0 or -ENOMEM. */
int remote_queue_init(struct remote_queue *q, uint32_t n_remotes);
void remote_queue_fini(struct remote_queue *q);

/* Something happened to @r, or it was given a deadline.  Any number of times. */
void remote_touch(struct remote *r);
/* Takes @r out, touched or not. */
void remote_queue_forget(struct remote *r);

/* Takes one that is touched or due at @now_ns; NULL: there is none. */
struct remote *remote_queue_take(struct remote_queue *q, uint64_t now_ns);
/* @r is due at @due_ns, whenever it was before; UINT64_MAX: not before it is touched. */
void remote_queue_set_due(struct remote *r, uint64_t due_ns);
/* When the next one is due; UINT64_MAX: none is. */
uint64_t remote_queue_due_ns(const struct remote_queue *q);

#endif /* SLAB_REMOTE_QUEUE_H */
