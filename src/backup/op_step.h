/* SPDX-License-Identifier: MIT */
/* op_step.h - what the result of one system call means for the op it was made for. */
#ifndef BACKUP_OP_STEP_H
#define BACKUP_OP_STEP_H

#include "slab/backup.h"

enum op_step {
	OP_STEP_DONE = 1, /* over, with *ret_status */
	OP_STEP_CONTINUE, /* short transfer: ask for the rest */
	OP_STEP_RETRY,	  /* nothing happened: ask again, later */
};

/* @res: bytes or -errno, as a completion has it.  Moves op->transferred_bytes and op->parts.
 * @ret_status is written for OP_STEP_DONE only. */
enum op_step op_step(struct backup_op *op, int32_t res, int *ret_status);

#endif /* BACKUP_OP_STEP_H */
