/* SPDX-License-Identifier: MIT */
/*
 * tp.h - the instance: what connections, listeners, regions and devices share.
 */
#ifndef RDMA_TP_H
#define RDMA_TP_H

#include <pthread.h>
#include <stdint.h>

#include <ev.h>
#include <rdma/rdma_cma.h>

#include "common/list.h"
#include "loop/defer.h"
#include "rdma/cq.h"
#include "rdma/rdma.h"
#include "transport/transport.h"

#define VRB_DEVICES_MAX 8u

struct vrb_device;

struct vrb_tp {
	struct tp base; /* first */
	struct ev_loop *loop;
	struct vrb_tp_config config;
	struct rdma_event_channel *channel;
	ev_io cm_io;
	ev_prepare flush;
	struct vrb_cq_set cqs;
	struct list conns;     /* vrb_conn.node */
	struct list listeners; /* vrb_listener.node */
	struct list to_flush;  /* vrb_conn.flush_node */
	uint32_t n_pending;    /* connections accepted and not yet established */
	uint32_t next_serial;

	/*
	 * Held while the lists of devices and regions change, and so that both see
	 * each other whole.  The loop thread alone changes @devices and reads them
	 * without it; a region's registrations are read without it by those who
	 * own the region.
	 */
	pthread_mutex_t lock;
	struct vrb_device *devices[VRB_DEVICES_MAX]; /* NULL: one was here */
	uint32_t n_devices;
	struct list regions; /* vrb_region.node */

	struct defer shutdown;
	bool is_shutting_down;
	void (*shutdown_done)(void *arg);
	void *shutdown_arg;
};

static inline struct vrb_tp *
vrb_tp_of(struct tp *tp)
{
	return container_of(tp, struct vrb_tp, base);
}

/* After a connection or listener left its list: completes a shutdown. */
void vrb_tp_check_shutdown(struct vrb_tp *tp);

#endif /* RDMA_TP_H */
