/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - the daemon core: a pool of slabs and the clients that borrow them.
 *
 * Pure: no threads, no sockets, no libev, no clock, no allocation after
 * daemon_new().  Time comes in as now_ns (monotonic), memory through
 * slab_memory.h, clients through transport.h.  One thread.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/slab_memory.h"
#include "wire/auth.h"

struct daemon;
struct tp;
struct tp_conn;
struct tp_region;

/* Bounds of what daemon_new() accepts. */
#define DAEMON_SLABS_MAX (UINT32_C(1) << 24)
#define DAEMON_CLIENTS_MAX UINT32_C(4096)
/* Connections beyond max_clients that may wait for, or be told, a refusal. */
#define DAEMON_SPARE_CONNECTIONS 16u

#define DAEMON_EXTRA_CHOICES_MAX UINT32_C(64)

/* A headroom of an eighth of the host's memory. */
#define DAEMON_HEADROOM_AUTO UINT64_MAX

/* What the core has to say; each is one line of a log. */
enum daemon_event {
	DAEMON_EVENT_JOINED = 1,    /* a client got its WELCOME */
	DAEMON_EVENT_LEFT,	    /* its connection is down: why, how many slabs came back */
	DAEMON_EVENT_REJECTED,	    /* a connection ended before WELCOME: why */
	DAEMON_EVENT_POOL_READY,    /* as many slabs are filled as may be; at most once */
	DAEMON_EVENT_MEMORY_FAILED, /* a memory request failed: which, what follows */
	DAEMON_EVENT_SHORT,	    /* the host is below the headroom */
	DAEMON_EVENT_RELIEVED,	    /* it is no longer */
	DAEMON_EVENT_EVICTION,	    /* a batch begins */
	DAEMON_EVENT_MISBEHAVED,    /* a client: what, said once for each kind and connection */
};

struct daemon_config {
	uint64_t slab_bytes;
	uint32_t max_slabs;	   /* memory.max / slab_size; 1..DAEMON_SLABS_MAX */
	uint32_t max_slabs_client; /* memory.max_per_client / slab_size; of one connection; not 0 */
	uint64_t headroom_bytes;   /* memory.headroom; DAEMON_HEADROOM_AUTO */
	uint32_t beta_milli;	   /* memory.beta, thousandths; 1..1000 */
	uint32_t psi_limit_centi;  /* memory.psi_limit, 1/100 % */
	uint32_t extra_choices;	   /* eviction.extra_choices; at most DAEMON_EXTRA_CHOICES_MAX */
	uint64_t evict_deadline_ns; /* eviction.deadline_ms */
	uint64_t seed;		    /* of what is drawn by lot */
	uint32_t max_clients;	    /* that got a WELCOME; 1..DAEMON_CLIENTS_MAX */
	uint64_t hello_timeout_ns;  /* from accept to WELCOME */
	uint64_t client_timeout_ns; /* silence after which a client is dead */
	uint64_t epoch;		    /* random */
	/* A region of at least 8 bytes that begins with the epoch, little-endian, registered with
	 * @tp as TP_LEND_READ, or NULL: clients of @tp cannot read it.  May be NULL.  It is
	 * granted while the daemon has clients. */
	struct tp_region *(*epoch_region)(void *arg, const struct tp *tp);
	void *epoch_region_arg;
	struct auth_psk psk;
	/* Fills @buf with unpredictable bytes (nonces). */
	void (*entropy)(void *arg, void *buf, uint32_t length_bytes);
	void *entropy_arg;
	/* @text: no newline, borrowed until return.  Must not call into the daemon. */
	void (*event)(void *arg, enum daemon_event event, const char *text);
	void *event_arg;
};

/* What the host has, as of now. */
struct daemon_memory {
	uint64_t total_bytes;
	uint64_t available_bytes; /* without swapping; the daemon's slabs are gone from it */
	uint32_t psi_centi;	  /* memory pressure, "some avg10", in 1/100 %; 0: not known */
};

struct daemon_stats {
	uint32_t slabs_max;
	uint32_t slabs_free;	/* zeroed, registered, ready */
	uint32_t slabs_mapped;	/* lent */
	uint32_t slabs_pending; /* being filled, zeroed, granted, revoked or dropped */
	uint32_t slabs_empty;	/* not filled yet, or the host had no memory; tried again */
	uint32_t slabs_lost;	/* memory that could not be zeroed or taken back */
	uint32_t clients;	/* with a WELCOME */
	uint32_t connections;	/* of any state */
	uint32_t slabs_target;	/* that may hold memory, as the host's memory allows */
	bool has_memory;	/* daemon_host_memory() has been called: what follows is known */
	bool is_short;		/* of memory: below the headroom */
	uint64_t memory_total_bytes;
	uint64_t memory_available_bytes;
	uint64_t memory_free_bytes; /* what the monitor counts on: less after a shortage */
	uint64_t headroom_bytes;    /* in force */
	uint32_t usage_permille;    /* as FREE_MEM says it */
	uint64_t joined_total;
	uint64_t maps_total;	 /* MR_INFO sent */
	uint64_t unmaps_total;	 /* UNMAPPED sent */
	uint64_t refused_total;	 /* REFUSED sent */
	uint32_t slabs_evicting; /* that have been, or will be, asked back */
	uint64_t eviction_batches_total;
	uint64_t evictions_total; /* slabs taken back: DONE, or by force */
	uint64_t evictions_forced_total;
	uint64_t protocol_errors_total;
	uint64_t timeouts_total; /* connections closed for their silence */
};

/* One client, for status; the strings are borrowed until the next call of anything. */
struct daemon_client_info {
	const char *conn_name;
	const char *device;
	uint32_t slabs;
};

/*
 * daemon_new - a daemon without clients; the pool fills from daemon_advance() on.
 *
 * @config: borrowed until return, but its callbacks and their args outlive the
 * daemon, and so does @memory, whose done() this takes.
 * Returns 0, -EINVAL (a number out of its range, a callback missing), -ENOMEM.
 */
int daemon_new(const struct daemon_config *config, struct slab_memory *memory,
	       struct daemon **ret_daemon);
/* After daemon_stop()'s done(), or before the first daemon_advance() and daemon_incoming().
 * NULL is a no-op.  Returns NULL. */
struct daemon *daemon_free(struct daemon *d);

/* A tp_incoming_fn: @daemon is the struct daemon.  Its memory must have been told of the
 * transport.  When every connection slot is taken the newcomer is closed without a word. */
void daemon_incoming(void *daemon, struct tp_conn *conn);

/* Timers: does what is due at @now_ns, returns when to be called next
 * (UINT64_MAX: not before something happens).  Also to be called once per loop
 * turn in which callbacks ran; cheap. */
uint64_t daemon_advance(struct daemon *d, uint64_t now_ns);

/*
 * daemon_host_memory - what the host has now, to be said once a period ([memory]
 * period_ms).  Until the first time the host counts as large enough; nothing
 * is said twice because nothing is heard.
 */
void daemon_host_memory(struct daemon *d, const struct daemon_memory *memory);

/*
 * daemon_drain - stops in peace: from now on nothing is lent, clients are asked to give
 * everything back; when they have, or after @timeout_ns, as daemon_stop().
 */
void daemon_drain(struct daemon *d, uint64_t timeout_ns, void (*done)(void *arg), void *arg);

/* Closes every client, drops every slab, closes newcomers.  @done runs once, as the last act
 * of a daemon_advance(), when nothing is left (a slab is left that is lost).  The listeners
 * are the caller's.  Not from inside a callback of the daemon's.
 * Also ends a drain early; then and later only the first @done runs. */
void daemon_stop(struct daemon *d, void (*done)(void *arg), void *arg);

void daemon_get_stats(const struct daemon *d, struct daemon_stats *ret_stats);
/* @index from 0 until it returns false: clients that got their WELCOME. */
bool daemon_get_client(const struct daemon *d, uint32_t index, struct daemon_client_info *ret_info);

#endif /* DAEMON_DAEMON_H */
