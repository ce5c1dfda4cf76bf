/* SPDX-License-Identifier: MIT */
/*
 * device.h - one RDMA device: protection domain, capabilities, asynchronous events.
 */
#ifndef RDMA_DEVICE_H
#define RDMA_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>
#include <infiniband/verbs.h>

struct vrb_tp;

struct vrb_device {
	struct vrb_tp *tp;
	uint32_t index; /* into vrb_tp.devices and vrb_region.mrs */
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	bool has_windows; /* grants are type 2B memory windows */
	uint32_t max_qp_wr;
	uint32_t max_cqe;
	uint8_t max_responder_resources; /* READs of a peer at a time */
	uint8_t max_initiator_depth;	 /* our READs at a time */
	ev_io async_io;
	uint32_t n_conns;
	bool is_gone; /* no new connections; its memory goes with the last one */
};

/* Opens the devices that exist now.  Returns 0, -ENODEV when there is none, -ENOMEM. */
int vrb_device_open_all(struct vrb_tp *tp);

/*
 * The device behind @verbs, opened (with all regions registered: this takes time)
 * if nobody used it before.  Returns 0, -ENODEV (gone, or more than VRB_DEVICES_MAX),
 * -ENOMEM.
 */
int vrb_device_find(struct vrb_tp *tp, struct ibv_context *verbs, struct vrb_device **ret_device);

/* A connection uses the device, or no longer does. */
void vrb_device_get(struct vrb_device *device);
void vrb_device_put(struct vrb_device *device);

/* It is being removed: ends its connections, and takes no new ones. */
void vrb_device_gone(struct vrb_device *device);

/* Without connections and regions. */
void vrb_device_close_all(struct vrb_tp *tp);

#endif /* RDMA_DEVICE_H */
