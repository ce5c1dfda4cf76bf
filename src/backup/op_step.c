/* SPDX-License-Identifier: MIT */
/* Apart from the ring so that every result can be tried in a test: the kernel seldom returns most. */
#include "backup/op_step.h"

#include <assert.h>
#include <errno.h>

static bool
is_transfer(const struct backup_op *op)
{
	return op->kind == BACKUP_OP_READ || op->kind == BACKUP_OP_WRITE;
}

/* What was transferred is not transferred again. */
static void
parts_advance(struct backup_op *op, size_t bytes)
{
	while (op->n_parts > 0 && bytes >= op->parts->iov_len) {
		bytes -= op->parts->iov_len;
		op->parts++;
		op->n_parts--;
	}
	if (bytes > 0 && op->n_parts > 0) {
		op->parts->iov_base = (char *)op->parts->iov_base + bytes;
		op->parts->iov_len -= bytes;
	}
}

enum op_step
op_step(struct backup_op *op, int32_t res, int *ret_status)
{
	if (res == -EINTR || res == -EAGAIN)
		return OP_STEP_RETRY;
	if (res < 0 || !is_transfer(op)) {
		*ret_status = res < 0 ? res : 0;
		return OP_STEP_DONE;
	}
	/* The path was sized at open, so an end of file inside it is a file that
	 * somebody cut: the data is gone, and zeros would hide that. */
	if (res == 0) {
		*ret_status = -EIO;
		return OP_STEP_DONE;
	}
	assert((uint64_t)res <= op->length_bytes - op->transferred_bytes);
	op->transferred_bytes += (uint64_t)res;
	if (op->transferred_bytes < op->length_bytes) {
		if (op->n_parts > 0)
			parts_advance(op, (size_t)res);
		return OP_STEP_CONTINUE;
	}
	*ret_status = 0;
	return OP_STEP_DONE;
}
