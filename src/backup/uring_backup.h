/* SPDX-License-Identifier: MIT */
/*
 * uring_backup.h - slab/backup.h on a raw block device or a file, over io_uring
 * in the libev loop.
 *
 * Open, every other call and every completion run on the loop thread: the ring
 * belongs to the thread that opened it (no fork between open and close).
 */
#ifndef BACKUP_URING_BACKUP_H
#define BACKUP_URING_BACKUP_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/histogram.h"
#include "slab/backup.h"

#define URING_BACKUP_DEPTH_MAX 4096u

struct turn_clock;
struct uring_backup;

struct uring_backup_config {
	const char *path;	  /* copied */
	struct turn_clock *clock; /* started; borrowed until close */
	uint64_t size_bytes;	  /* of the device: non-zero multiple of PAGE_BYTES */
	/* The memory that op->buf points into, page aligned, borrowed until close;
	 * registered with the kernel when RLIMIT_MEMLOCK allows it.  NULL and 0: none. */
	void *area;
	size_t area_bytes;
	bool is_filled; /* a file is written from end to end at open, and has no holes after it */
	uint32_t depth; /* operations in flight, 1 to URING_BACKUP_DEPTH_MAX; more wait */
};

struct uring_backup_info {
	const char *path; /* borrowed until close */
	bool is_block_device;
	bool is_direct;	    /* O_DIRECT: the page cache is not in the way */
	bool is_registered; /* area registered with the kernel */
	/* Until the first -EOPNOTSUPP, what the file system or device promised. */
	bool can_discard;
	bool can_zero;
	uint32_t in_flight; /* operations in the kernel now */
	uint32_t waiting;   /* submitted, above the depth */
	/* How long operations took, by enum backup_op_kind; borrowed until close. */
	const struct histogram *times;
};

/*
 * Opens and locks @config->path; a file that does not exist is created, sparse,
 * mode 0600; an empty one is sized; anything else too small is refused.  Blocks.
 * @loop is borrowed until close.  Every failure has one line in the log.
 *
 * Returns 0; -EINVAL (bad @config), -EFBIG (path too small), -EBUSY (locked, mounted),
 * -ENOTBLK (neither device nor file), -EMEDIUMTYPE (blocks over PAGE_BYTES), -EPERM or
 * -ENOSYS (no io_uring here), or what the system said.
 */
int uring_backup_open(struct ev_loop *loop, const struct uring_backup_config *config,
		      struct uring_backup **ret_backup);

/* Valid until close. */
struct backup *uring_backup_as_backup(struct uring_backup *ub);

void uring_backup_info(const struct uring_backup *ub, struct uring_backup_info *ret_info);

/* Every op is done() (asserted); not from inside a done().  Unlocks.  NULL is a
 * no-op.  Returns NULL. */
struct uring_backup *uring_backup_close(struct uring_backup *ub);

#endif /* BACKUP_URING_BACKUP_H */
