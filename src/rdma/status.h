/* SPDX-License-Identifier: MIT */
/*
 * status.h - the verbs' and the connection manager's words for failure as errno.
 *
 * Pure.  Every function returns 0 or -errno of transport.h's vocabulary.
 */
#ifndef RDMA_STATUS_H
#define RDMA_STATUS_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

/*
 * Of a completion: -ECANCELED flushed, -ETIMEDOUT no answer, -EACCES the peer
 * does not let us, -EIO anything else.
 */
int vrb_status_of_wc(enum ibv_wc_status status);

/* Of an ADDR_ERROR, ROUTE_ERROR, CONNECT_ERROR or UNREACHABLE event: never 0. */
int vrb_status_of_cm(enum rdma_cm_event_type event, int status);

/*
 * Of a REJECTED event without private data of ours: @status is the reason code of
 * the InfiniBand CM.  -ECONNREFUSED (nobody listens), -ETIMEDOUT, else -EPROTO.
 */
int vrb_status_of_reject(int status);

#endif /* RDMA_STATUS_H */
