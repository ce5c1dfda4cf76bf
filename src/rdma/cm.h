/* SPDX-License-Identifier: MIT */
/*
 * cm.h - events of the connection manager, copied and handed to their owner.
 */
#ifndef RDMA_CM_H
#define RDMA_CM_H

#include <stddef.h>
#include <stdint.h>

#include <ev.h>
#include <rdma/rdma_cma.h>

#include "rdma/hello.h"

/* What is left of a struct rdma_cm_event after its acknowledgement. */
struct vrb_cm_event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	uint8_t data[VRB_HELLO_BYTES]; /* the first bytes of the private data */
	size_t data_bytes;	       /* of them, valid */
	uint8_t responder_resources;
	uint8_t initiator_depth;
};

/* What rdma_cm_id.context points to.  handle() may destroy its id. */
struct vrb_cm_owner {
	void (*handle)(struct vrb_cm_owner *owner, const struct vrb_cm_event *event);
};

struct vrb_tp;
/* Returns 0, -ENODEV, -EACCES, -ENOMEM. */
int vrb_cm_open(struct vrb_tp *tp);
/* With no id left. */
void vrb_cm_close(struct vrb_tp *tp);
/* Says why and destroys @id, which nobody owns. */
void vrb_cm_reject(struct rdma_cm_id *id, enum vrb_reject why);

#endif /* RDMA_CM_H */
