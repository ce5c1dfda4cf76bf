/* SPDX-License-Identifier: MIT */
/*
 * rdma.h - transport/transport.h over libibverbs and librdmacm.
 *
 * One RC queue pair per connection; ops are RDMA READ and WRITE between the
 * registered local memory and the peer's, messages are SEND and RECV with
 * credits.  What a grant lends is reachable through a type 2B memory window
 * bound to the queue pair of its connection; devices without such windows get
 * one registration per grant in a protection domain of the connection's own.
 * The log says at start which of the two a device uses.  In the second case only
 * accepted connections can grant and only connecting ones can post ops, which is
 * what daemon and server do; tp_grant() says -EOPNOTSUPP otherwise.
 *
 * One instance per process: librdmacm shares its devices' event descriptors.
 */
#ifndef RDMA_RDMA_H
#define RDMA_RDMA_H

#include <stdbool.h>
#include <stdint.h>

struct ev_loop;
struct tp;

struct vrb_tp_config {
	/* Ops of one connection that the device has at a time, 1..4096; less where
	 * the device can do less.  Default 256. */
	uint32_t op_depth;
	/* Messages that the peer may send before it hears from us, 2..1024.  Each
	 * costs 520 bytes per connection.  Default 32. */
	uint32_t message_depth;
	/* Connections being established by peers; more are refused.  1..1024, default 64. */
	uint32_t pending_max;
	/*
	 * A request that is not answered is repeated after 4.096 us * 2^ack_timeout
	 * (real devices: up to four times that), retry_count times.  The defaults, 15
	 * and 6, notice a dead peer 0.94 s after an op was posted.  ack_timeout
	 * 8..20; retry_count 1..6 (7 means for ever on some devices).
	 */
	uint8_t ack_timeout;
	uint8_t retry_count;
	/* The same for a peer that has no receive buffer, which the credits make
	 * impossible.  0..6, default 6. */
	uint8_t rnr_retry_count;
	/* Register per grant even where memory windows exist (tests).  Default false. */
	bool register_grants;
};

void vrb_tp_config_default(struct vrb_tp_config *config);

/*
 * vrb_tp_new - the transport over all RDMA devices of this machine.
 *
 * @config: borrowed; NULL means the defaults.
 * Returns 0, -EINVAL (@config out of range; logged), -ENODEV (no RDMA device, or its
 * modules are not loaded), -EACCES, -ENOMEM.
 */
int vrb_tp_new(struct ev_loop *loop, const struct vrb_tp_config *config, struct tp **ret_tp);

#endif /* RDMA_RDMA_H */
