/* SPDX-License-Identifier: MIT */
/*
 * region.h - memory that the devices know: one registration per device.
 */
#ifndef RDMA_REGION_H
#define RDMA_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <infiniband/verbs.h>

#include "common/list.h"
#include "rdma/tp.h"

struct vrb_device;

struct vrb_region {
	struct tp_base base; /* first */
	struct list node;    /* vrb_tp.regions */
	void *addr;
	size_t length_bytes;
	enum tp_lend lend;
	/* By vrb_device.index; NULL where the device came and went, and for memory to
	 * lend on devices without windows. */
	struct ibv_mr *mrs[VRB_DEVICES_MAX];
	atomic_uint n_grants;
};

/* tp_ops; see transport.h. */
int vrb_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
			struct tp_region **ret_region);
int vrb_region_release(struct tp_region *region);

static inline struct vrb_region *
vrb_region_of(struct tp_region *region)
{
	return (struct vrb_region *)region;
}

/* Enters @device into the instance, every region registered on it.  Returns 0 or
 * -errno with nothing changed. */
int vrb_region_add_device(struct vrb_tp *tp, struct vrb_device *device);
/* Takes every registration on @device back. */
void vrb_region_drop_device(struct vrb_tp *tp, struct vrb_device *device);

#endif /* RDMA_REGION_H */
