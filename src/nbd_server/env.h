/* SPDX-License-Identifier: MIT */
/* env.h - what all connections of one server share, and their order of work in a loop turn. */
#ifndef NBD_SERVER_ENV_H
#define NBD_SERVER_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "loop/defer.h"
#include "loop/turn_clock.h"
#include "nbd_server/gate.h"
#include "nbd_server/stages.h"
#include "nbd_server/stats.h"

struct nbds_conn;

/* Lets one log line through per period and counts the others. */
struct nbds_rate {
	double next; /* ev_now() of the next line */
	uint64_t dropped;
};

struct nbds_env {
	struct ev_loop *loop;
	struct backend *be;
	struct turn_clock *clock;
	struct nbds_gate gate;
	struct nbds_stats stats;
	struct nbds_stages stages;
	struct nbds_rate io_error_rate;

	const char *export_name;
	const char *description;
	uint16_t transmission_flags;
	uint64_t hold_bytes_max; /* per connection */
	double handshake_seconds;
	double drain_seconds;

	struct list runnable; /* nbds_conn.runnable_node: have work for the next turn */
	struct list dirty;    /* nbds_conn.dirty_node: have output queued in this turn */
	struct defer run;
	ev_prepare flush;

	/* A connection is over and holds nothing: its memory may serve another. */
	void (*closed)(struct nbds_env *env, struct nbds_conn *conn);
};

/* The other fields are the caller's to fill. */
void nbds_env_start(struct nbds_env *env);
void nbds_env_stop(struct nbds_env *env);

/* Whether the line may be logged now; *ret_dropped of its kind were not before it. */
bool nbds_rate_allows(struct nbds_rate *rate, struct ev_loop *loop, uint64_t *ret_dropped);

#endif /* NBD_SERVER_ENV_H */
