/* SPDX-License-Identifier: MIT */
/* core.h - what the files of the daemon core share; nobody else includes it. */
#ifndef DAEMON_CORE_H
#define DAEMON_CORE_H

#include "common/list.h"
#include "common/page.h"
#include "daemon/client.h"
#include "daemon/daemon.h"
#include "daemon/eviction.h"
#include "daemon/monitor.h"
#include "daemon/pool.h"
#include "daemon/timers.h"

#define DAEMON_EVENT_TEXT_BYTES 320u

struct daemon {
	struct daemon_config config;
	struct pool *pool;
	struct monitor monitor;
	struct eviction eviction;
	struct daemon_stats counters; /* the totals and the counts of clients */
	struct list connections;      /* struct client, oldest first */
	struct list free_slots;	      /* struct client */
	struct timers hello_timers;   /* of clients: each by its length */
	struct timers client_timers;
	struct timers linger_timers;
	uint64_t push_ns;    /* when FREE_MEM may go out unasked again */
	uint32_t push_ready; /* what the last one told all of */
	bool quotas_changed; /* single clients know another number than that */
	bool touched;	     /* something happened since the last advance */
	uint64_t next_ns;    /* what the last advance returned */
	bool is_draining;    /* takes every slab back; then stops */
	uint64_t drain_timeout_ns;
	uint64_t drain_ns; /* the drain ends; 0: not fixed yet, the next advance does */
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
	uint32_t slot_count;
	struct client slots[];
};

/* Of the host's memory, as FREE_MEM says it. */
uint32_t daemon_usage_permille(const struct daemon *d);
void daemon_report(struct daemon *d, enum daemon_event event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* DAEMON_CORE_H */
