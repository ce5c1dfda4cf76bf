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
#include <sys/uio.h>

#include "common/list.h"

/* Of one WRITE; the kernel has room for so many (UIO_FASTIOV), for more it allocates. */
#define BACKUP_PARTS_MAX 8u

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
	uint32_t n_parts; /* WRITE: of bytes that lie apart in memory; at most BACKUP_PARTS_MAX */
	union {
		void *buf; /* READ, WRITE: page aligned, inside the registered arena */
		/* With n_parts: in the order of the disk, each as buf.  The implementation may
		 * change them, and n_parts. */
		struct iovec *parts;
	};
	uint64_t offset_bytes; /* multiple of PAGE_BYTES */
	/* Multiple of PAGE_BYTES; READ, WRITE, and each part of a WRITE: at most BLOCK_BYTES. */
	uint64_t length_bytes;
	backup_op_done_fn *done;

	struct list node;	    /* the implementation's queue */
	uint64_t transferred_bytes; /* the implementation's, as the next */
	uint64_t submitted_ns;
};

/* The page at @at_bytes of a READ or WRITE, for implementations that do not change the parts. */
static inline void *
backup_op_page(const struct backup_op *op, uint64_t at_bytes)
{
	const struct iovec *part = op->parts;

	if (op->n_parts == 0)
		return (uint8_t *)op->buf + at_bytes;
	while (at_bytes >= part->iov_len)
		at_bytes -= part++->iov_len;
	return (uint8_t *)part->iov_base + at_bytes;
}

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
