/* SPDX-License-Identifier: MIT */
/*
 * tcp.h - transport.h over one TCP socket per connection.
 *
 * For machines without RDMA and for tests.  The daemon's loop does the copy:
 * frames (wire/frame.h) ask for it, one readv and one sendmsg a turn carry many.
 */
#ifndef TRANSPORT_TCP_H
#define TRANSPORT_TCP_H

#include <stdint.h>

#include <ev.h>

#include "transport/transport.h"

struct tcp_limits {
	uint32_t handshake_ms;	/* daemon: from accept() to the peer's whole preamble */
	uint32_t stall_ms;	/* a peer that stops inside a frame, or takes no byte of ours */
	uint32_t linger_ms;	/* after a refused access: for the answer to reach the peer */
	uint32_t half_open_max; /* connections without preamble; the oldest goes for a new one */
};

/* What tcp_tp_new() uses. */
#define TCP_LIMITS_DEFAULT                                                                         \
	(struct tcp_limits)                                                                        \
	{                                                                                          \
		.handshake_ms = 5000, .stall_ms = 10000, .linger_ms = 1000, .half_open_max = 64    \
	}

/* One instance per loop; @loop outlives it.  Returns 0 or -ENOMEM.  End: tp_shutdown(), tp_free(). */
int tcp_tp_new(struct ev_loop *loop, struct tp **ret_tp);

/* The same with other limits, all of them > 0; for tests. */
int tcp_tp_new_with_limits(struct ev_loop *loop, const struct tcp_limits *limits,
			   struct tp **ret_tp);

#endif /* TRANSPORT_TCP_H */
