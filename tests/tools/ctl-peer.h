/* SPDX-License-Identifier: MIT */
/* ctl-peer.h - what both roles of ctl-peer share. */
#ifndef CTL_PEER_H
#define CTL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "transport/transport.h"
#include "wire/ctl.h"

struct peer_config {
	const char *address; /* without the transport's prefix */
	uint64_t slab_bytes;
	uint32_t n_slabs; /* of the daemon, or that the client maps in a round */
	uint32_t n_rounds;
};

struct peer {
	struct ev_loop *loop;
	struct tp *tp;
	struct peer_config config;
	struct tp_conn *conn;
	uint64_t sent_ns; /* the request that is timed */
	bool is_over;	  /* all rounds are done: the end of the connection is no failure */
};

/* Says what is wrong and ends the program. */
__attribute__((format(printf, 1, 2), noreturn)) void peer_fail(const char *fmt, ...);

/* Encodes and sends; @msg has its request id. */
void peer_send(struct peer *p, const struct ctl_msg *msg);
/* The same, and the time runs from here. */
void peer_send_timed(struct peer *p, const struct ctl_msg *msg);
/* Prints "NAME NANOSECONDS", the time since peer_send_timed(). */
void peer_print_time(const struct peer *p, const char *name);
/* Decodes, or ends the program. */
void peer_decode(const void *bytes, size_t length_bytes, struct ctl_msg *ret_msg);

/* Both run the loop until all rounds are done. */
void run_client(struct peer *p);
void run_daemon(struct peer *p);

#endif /* CTL_PEER_H */
