/* SPDX-License-Identifier: MIT */
/* target.h - the block device or file of a backup: found or created, checked, locked, sized. */
#ifndef BACKUP_TARGET_H
#define BACKUP_TARGET_H

#include <stdbool.h>
#include <stdint.h>

struct backup_target {
	int fd;
	char *path;
	uint64_t size_bytes; /* that the device uses; the path may be larger */
	bool is_block_device;
	bool is_direct;
	bool can_discard;
	bool can_zero;
};

/* Blocks; one log line for each failure.  Errors: uring_backup_open().
 * @ret_target: caller owns what is in it, target_close(). */
int target_open(const char *path, uint64_t size_bytes, struct backup_target *ret_target);
/*
 * For a file that the kernel swaps to: writes zeros wherever it has no written blocks,
 * and lets nobody punch holes again, so that writing to it never needs new blocks.
 * A no-op for a block device.  Blocks, for long; logs; 0 or -errno.
 */
int target_fill(struct backup_target *t);
void target_close(struct backup_target *t);

/* As next_data of slab/backup.h.  Blocks. */
bool target_next_data(const struct backup_target *t, uint64_t offset_bytes,
		      uint64_t *ret_start_bytes, uint64_t *ret_end_bytes);

#endif /* BACKUP_TARGET_H */
