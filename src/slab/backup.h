/* SPDX-License-Identifier: MIT */
/*
 * backup.h - what the device core asks of the disk under it.
 *
 * Interface owned by slab/; src/backup implements it over io_uring, tests and
 * the simulator over memory.  Every call and every completion runs on the loop
 * thread; a completion never runs from inside backup_submit().
 *
 * Ops are not ordered against each other: the core submits an op that touches
 * a byte only after the done() of the previous op on that byte.
 */
#ifndef SLAB_BACKUP_H
#define SLAB_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

enum backup_op_kind {
	BACKUP_OP_READ = 1,
	BACKUP_OP_WRITE,
	BACKUP_OP_SYNC,	   /* all writes that were done() before are durable at its done() */
	BACKUP_OP_DISCARD, /* give the space back; the bytes then read as anything */
	BACKUP_OP_ZERO,	   /* the bytes read as zeros from done() on; space kept or not */
};
#define BACKUP_OP_KINDS (BACKUP_OP_ZERO + 1)

struct backup_op;
/* Exactly once per submit.  @status: 0, -EIO, -ENOSPC, -EOPNOTSUPP (DISCARD and
 * ZERO: the disk cannot; the bytes are unchanged), ...  A short transfer is
 * finished by the implementation or reported as an error. */
typedef void backup_op_done_fn(struct backup_op *op, int status);

/* Lives in the caller's memory; the implementation's from submit to done(). */
struct backup_op {
	enum backup_op_kind kind;
	void *buf;	       /* READ, WRITE: page aligned, inside the registered arena */
	uint64_t offset_bytes; /* multiple of PAGE_BYTES */
	uint64_t length_bytes; /* multiple of PAGE_BYTES; READ and WRITE: at most BLOCK_BYTES */
	backup_op_done_fn *done;

	struct list node;	    /* the implementation's queue */
	uint64_t transferred_bytes; /* the implementation's, as the next */
	uint64_t submitted_ns;
};

struct backup;

struct backup_ops {
	/* Never refuses: ops over the queue depth wait in order, at no cost in memory. */
	void (*submit)(struct backup *b, struct backup_op *op);
	/*
	 * The next range at or after @offset_bytes that may hold anything but zeros.
	 * Returns true and the range, rounded out to pages, or false: only zeros up
	 * to the end.  Start-up only (it may block).
	 */
	bool (*next_data)(struct backup *b, uint64_t offset_bytes, uint64_t *ret_start_bytes,
			  uint64_t *ret_end_bytes);
};

struct backup {
	const struct backup_ops *ops;
};

static inline void
backup_submit(struct backup *b, struct backup_op *op)
{
	b->ops->submit(b, op);
}

static inline bool
backup_next_data(struct backup *b, uint64_t offset_bytes, uint64_t *ret_start_bytes,
		 uint64_t *ret_end_bytes)
{
	return b->ops->next_data(b, offset_bytes, ret_start_bytes, ret_end_bytes);
}

#endif /* SLAB_BACKUP_H */
