/* SPDX-License-Identifier: MIT */
/*
 * Memory to lend is registered without remote rights: only what a window or a
 * grant's own registration opens can be reached by a peer.
 */
#include "rdma/region.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "rdma/device.h"

/* Leaves NULL where a device needs no registration of this region. */
static int
register_on(struct vrb_region *rg, const struct vrb_device *d)
{
	int access = IBV_ACCESS_LOCAL_WRITE;
	struct ibv_mr *mr;

	if (rg->lend && !d->has_windows)
		return 0;
	if (rg->lend)
		access |= IBV_ACCESS_MW_BIND;
	mr = ibv_reg_mr(d->pd, rg->addr, rg->length_bytes, access);
	if (!mr)
		return log_err_errno(errno, "rdma: cannot register %zu bytes with %s",
				     rg->length_bytes, ibv_get_device_name(d->verbs->device));
	rg->mrs[d->index] = mr;
	return 0;
}

static int
deregister_on(struct vrb_region *rg, uint32_t index)
{
	int r;

	if (!rg->mrs[index])
		return 0;
	r = ibv_dereg_mr(rg->mrs[index]);
	if (r != 0)
		return log_err_errno(r, "rdma: cannot deregister %zu bytes", rg->length_bytes);
	rg->mrs[index] = NULL;
	return 0;
}

int
vrb_region_register(struct tp *base, void *addr, size_t length_bytes, enum tp_lend lend,
		    struct tp_region **ret_region)
{
	struct vrb_tp *tp = vrb_tp_of(base);
	struct vrb_region *rg;
	uint32_t i;
	int r = 0;

	if (!addr || length_bytes == 0)
		return -EINVAL;
	rg = calloc(1, sizeof(*rg));
	if (!rg)
		return -ENOMEM;
	rg->base.tp = base;
	rg->addr = addr;
	rg->length_bytes = length_bytes;
	rg->lend = lend;

	(void)pthread_mutex_lock(&tp->lock);
	for (i = 0; i < tp->n_devices && r == 0; i++) {
		if (tp->devices[i] && tp->devices[i]->pd)
			r = register_on(rg, tp->devices[i]);
	}
	if (r == 0)
		list_add_tail(&tp->regions, &rg->node);
	else
		while (i > 0)
			(void)deregister_on(rg, --i);
	(void)pthread_mutex_unlock(&tp->lock);

	if (r < 0) {
		free(rg);
		return r;
	}
	*ret_region = (struct tp_region *)rg;
	return 0;
}

int
vrb_region_release(struct tp_region *region)
{
	struct vrb_region *rg = vrb_region_of(region);
	struct vrb_tp *tp = vrb_tp_of(rg->base.tp);
	uint32_t i;
	int r = 0;

	if (atomic_load(&rg->n_grants) > 0)
		return -EBUSY;
	(void)pthread_mutex_lock(&tp->lock);
	for (i = 0; i < VRB_DEVICES_MAX && r == 0; i++)
		r = deregister_on(rg, i);
	if (r == 0)
		list_del(&rg->node);
	(void)pthread_mutex_unlock(&tp->lock);
	if (r == 0)
		free(rg);
	return r;
}

int
vrb_region_add_device(struct vrb_tp *tp, struct vrb_device *device)
{
	struct list *node;
	int r = 0;

	assert(device->index < VRB_DEVICES_MAX && device->index <= tp->n_devices);
	(void)pthread_mutex_lock(&tp->lock);
	list_foreach (node, &tp->regions) {
		r = register_on(container_of(node, struct vrb_region, node), device);
		if (r < 0)
			break;
	}
	if (r == 0) {
		tp->devices[device->index] = device;
		if (device->index == tp->n_devices)
			tp->n_devices++;
	} else {
		list_foreach (node, &tp->regions)
			(void)deregister_on(container_of(node, struct vrb_region, node),
					    device->index);
	}
	(void)pthread_mutex_unlock(&tp->lock);
	return r;
}

void
vrb_region_drop_device(struct vrb_tp *tp, struct vrb_device *device)
{
	struct list *node;

	(void)pthread_mutex_lock(&tp->lock);
	list_foreach (node, &tp->regions) {
		struct vrb_region *rg = container_of(node, struct vrb_region, node);

		(void)deregister_on(rg, device->index);
		rg->mrs[device->index] = NULL; /* the context is about to be closed */
	}
	(void)pthread_mutex_unlock(&tp->lock);
}
