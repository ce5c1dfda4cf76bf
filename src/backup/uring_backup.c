/* SPDX-License-Identifier: MIT */
/* Joins the target (what is on disk) and the ring (how bytes get there) behind slab/backup.h. */
#include "backup/uring_backup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backup/ring.h"
#include "backup/target.h"
#include "common/log.h"
#include "common/page.h"

struct uring_backup {
	struct backup base;
	struct backup_target target;
	struct ring ring;
};

static void
submit(struct backup *b, struct backup_op *op)
{
	struct uring_backup *ub = container_of(b, struct uring_backup, base);

	ring_submit(&ub->ring, op);
}

static bool
next_data(struct backup *b, uint64_t offset_bytes, uint64_t *ret_start_bytes,
	  uint64_t *ret_end_bytes)
{
	struct uring_backup *ub = container_of(b, struct uring_backup, base);

	return target_next_data(&ub->target, offset_bytes, ret_start_bytes, ret_end_bytes);
}

static const struct backup_ops uring_ops = {
	.submit = submit,
	.next_data = next_data,
};

int
uring_backup_open(struct ev_loop *loop, const struct uring_backup_config *config,
		  struct uring_backup **ret_backup)
{
	struct uring_backup *ub;
	int r;

	assert(loop && config && config->path && config->clock && ret_backup);
	if (config->size_bytes == 0 || config->size_bytes % PAGE_BYTES != 0 ||
	    config->size_bytes > INT64_MAX || config->depth == 0 ||
	    config->depth > URING_BACKUP_DEPTH_MAX)
		return log_err_errno(
			EINVAL, "backup[%s]: cannot serve %llu bytes at queue depth %u",
			config->path, (unsigned long long)config->size_bytes, config->depth);
	ub = calloc(1, sizeof(*ub));
	if (!ub)
		return log_err_errno(ENOMEM, "backup[%s]: cannot open", config->path);
	r = target_open(config->path, config->size_bytes, &ub->target);
	if (r < 0)
		goto err_free;
	r = config->is_filled ? target_fill(&ub->target) : 0;
	if (r < 0)
		goto err_target;
	r = ring_open(&ub->ring, loop, config->clock, &ub->target, config->area, config->area_bytes,
		      config->depth);
	if (r < 0)
		goto err_target;
	ub->base.ops = &uring_ops;
	*ret_backup = ub;
	return 0;

err_target:
	target_close(&ub->target);
err_free:
	free(ub);
	return r;
}

struct backup *
uring_backup_as_backup(struct uring_backup *ub)
{
	return &ub->base;
}

void
uring_backup_info(const struct uring_backup *ub, struct uring_backup_info *ret_info)
{
	*ret_info = (struct uring_backup_info){
		.path = ub->target.path,
		.is_block_device = ub->target.is_block_device,
		.is_direct = ub->target.is_direct,
		.is_registered = ub->ring.is_registered,
		.can_discard = ub->target.can_discard,
		.can_zero = ub->target.can_zero,
		.in_flight = ub->ring.in_flight,
		.waiting = ub->ring.waiting,
		.times = ub->ring.times,
	};
}

struct uring_backup *
uring_backup_close(struct uring_backup *ub)
{
	if (ub) {
		ring_close(&ub->ring);
		target_close(&ub->target);
		free(ub);
	}
	return NULL;
}
