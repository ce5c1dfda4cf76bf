/* SPDX-License-Identifier: MIT */
/*
 * shm.h - transport.h between processes of one host, over shared memory.
 *
 * Addresses are paths of a Unix socket ("/run/slabswap/slabswapd.sock").  Each slab
 * is a memfd of its own that goes over the socket with its grant; the client maps it
 * and copies, the daemon does nothing per page.
 *
 * What protects whom:
 * - Peers are the same user or root (SO_PEERCRED), the socket has mode 0600.
 * - A client maps only what cannot go away under it: sealed against shrinking and
 *   growing by the daemon, against holes by itself (F_SEAL_FUTURE_WRITE, after its own
 *   mapping), with every page allocated.  So no access ends in SIGBUS.
 * - Nothing can force a process to unmap.  A region that was granted is spent, whatever
 *   its client answered: it takes no other grant, its memory goes back to the host and
 *   never to another client (tp_region_is_spent()).  What a client that did not answer
 *   may still hold is counted until it has ended (tp_memory_held()).
 */
#ifndef TRANSPORT_SHM_H
#define TRANSPORT_SHM_H

#include <stdint.h>

#include <ev.h>

#include "transport/transport.h"

struct shm_limits {
	uint32_t handshake_ms;	/* daemon: from accept() to the peer's preamble */
	uint32_t stall_ms;	/* a peer that takes no packet of ours */
	uint32_t revoke_ms;	/* for the client to unmap; then its connection is closed */
	uint32_t half_open_max; /* connections without preamble; the oldest goes for a new one */
};

/* What shm_tp_new() uses. */
#define SHM_LIMITS_DEFAULT                                                                         \
	(struct shm_limits)                                                                        \
	{                                                                                          \
		.handshake_ms = 5000, .stall_ms = 10000, .revoke_ms = 1000, .half_open_max = 64    \
	}

/* One instance per loop; @loop outlives it.  Returns 0 or -ENOMEM.  End: tp_shutdown(), tp_free(). */
int shm_tp_new(struct ev_loop *loop, struct tp **ret_tp);

/* The same with other limits, all of them > 0; for tests. */
int shm_tp_new_with_limits(struct ev_loop *loop, const struct shm_limits *limits,
			   struct tp **ret_tp);

#endif /* TRANSPORT_SHM_H */
