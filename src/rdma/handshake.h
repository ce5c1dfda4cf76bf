/* SPDX-License-Identifier: MIT */
/*
 * handshake.h - how a connection comes up, and what the CM says about it later.
 */
#ifndef RDMA_HANDSHAKE_H
#define RDMA_HANDSHAKE_H

#include "rdma/cm.h"
#include "rdma/conn.h"

/* vrb_cm_owner.handle of every connection. */
void vrb_handshake_handle(struct vrb_cm_owner *owner, const struct vrb_cm_event *event);
/* Client: the first step.  Returns 0, -EINVAL, -ENODEV, -ENOMEM. */
int vrb_handshake_resolve(struct vrb_conn *conn, const struct sockaddr *address,
			  uint64_t timeout_ns);
/* Daemon: answer the client.  0 or -errno; the client has its answer in any case. */
int vrb_handshake_accept(struct vrb_conn *conn);

#endif /* RDMA_HANDSHAKE_H */
