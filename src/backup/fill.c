/* SPDX-License-Identifier: MIT */
/*
 * A write to a hole, or to blocks that were only allocated, makes the file system
 * change its maps: in threads of the kernel that may wait for memory to be swapped
 * out, which waits for this write.  Blocks that were written once are only written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/target.h"
#include "common/log.h"
#include "common/page.h"

#define CHUNK_BYTES (UINT64_C(1) << 20)

static int
write_zeros(const struct backup_target *t, const void *zeros, uint64_t start, uint64_t end)
{
	while (start < end) {
		const uint64_t left = end - start;
		const ssize_t n =
			pwrite(t->fd, zeros, left < CHUNK_BYTES ? left : CHUNK_BYTES, (off_t)start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		start += (uint64_t)n;
	}
	return 0;
}

/* Holes first and last to be found on page boundaries: the file is only written in pages. */
static int
write_holes(const struct backup_target *t, const void *zeros)
{
	uint64_t at = 0, start, end;
	int r = 0;

	while (r == 0 && target_next_data(t, at, &start, &end)) {
		r = write_zeros(t, zeros, at, start);
		at = end;
	}
	return r == 0 ? write_zeros(t, zeros, at, t->size_bytes) : r;
}

int
target_fill(struct backup_target *t)
{
	void *zeros;
	int r;

	if (t->is_block_device)
		return 0;
	t->can_discard = false;
	t->can_zero = false;
	if (posix_memalign(&zeros, PAGE_BYTES, CHUNK_BYTES) != 0)
		return log_err_errno(ENOMEM, "backup[%s]: cannot fill", t->path);
	memset(zeros, 0, CHUNK_BYTES);
	log_notice("backup[%s]: writing zeros to what was never written", t->path);
	r = write_holes(t, zeros);
	free(zeros);
	if (r == 0 && fsync(t->fd) < 0)
		r = -errno;
	return r < 0 ? log_err_errno(-r, "backup[%s]: cannot fill", t->path) : 0;
}
