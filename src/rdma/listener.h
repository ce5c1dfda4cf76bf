/* SPDX-License-Identifier: MIT */
/*
 * listener.h - accepting connections: the tp_ops of listeners, see transport.h.
 */
#ifndef RDMA_LISTENER_H
#define RDMA_LISTENER_H

#include "rdma/tp.h"
#include "transport/transport.h"

int vrb_listener_new(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		     struct tp_listener **ret_listener);
void vrb_listener_address(const struct tp_listener *listener, char *buf, size_t size);
void vrb_listener_close(struct tp_listener *listener);
void vrb_listener_close_all(struct vrb_tp *tp);

#endif /* RDMA_LISTENER_H */
