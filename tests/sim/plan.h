/* SPDX-License-Identifier: MIT */
/*
 * plan.h - what a seed says: the sizes and settings of a cluster, the requests and
 * the faults, each with its moment.  Made before the run, so that a run can be
 * repeated with some of it left out (shrink.h).
 */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "slab/device.h"

#define SIM_DEVICES_MAX 2u
#define SIM_DAEMONS_MAX 4u
#define SIM_PEERS_MAX 2u
#define SIM_HOSTS_MAX (SIM_DEVICES_MAX + SIM_DAEMONS_MAX + SIM_PEERS_MAX)
#define SIM_SLABS_MAX 4u /* of a device */
#define SIM_POOL_MAX 4u	 /* slabs of a daemon */
#define SIM_OPS_MAX 400u
#define SIM_FAULTS_MAX 24u
#define SIM_SLAB_BYTES SLAB_BYTES_MIN

enum fault_kind {
	FAULT_NET_SLOW = 0, /* a link is slow, but inside every deadline */
	FAULT_NET_STUCK,    /* ... beyond the deadlines */
	FAULT_NET_IN,	    /* nothing from the daemon arrives */
	FAULT_NET_OUT,	    /* nothing gets to the daemon */
	FAULT_NET_BOTH,
	FAULT_CUT,	    /* a connection is reset */
	FAULT_OP,	    /* the next remote operation fails */
	FAULT_DAEMON_KILL,  /* the process ends, peers are told; it comes back */
	FAULT_DAEMON_POWER, /* the machine is gone, nobody is told; it comes back */
	FAULT_DAEMON_STOP,  /* an orderly end; it comes back */
	FAULT_DAEMON_SLOW,  /* its loop stands still for a while */
	FAULT_SERVER_SLOW,  /* the server's does */
	FAULT_CONNECT_REFUSED,
	FAULT_GRANT,	   /* MAP is refused: no grant can be made */
	FAULT_GRANT_FAILS, /* the bind of a grant fails */
	FAULT_GRANT_SLOW,  /* the bind takes longer than the client waits */
	FAULT_REVOKE_FAILS,
	FAULT_FILL_FAILS, /* the daemon's host has no memory */
	FAULT_ZERO_FAILS, /* a slab is lost for the daemon */
	FAULT_DISK_WRITE, /* some writes fail */
	FAULT_DISK_READ,
	FAULT_DISK_SYNC,
	FAULT_DISK_SLOW,
	FAULT_DISK_STUCK, /* nothing completes */
	FAULT_DISK_FULL,
	FAULT_BURST,	    /* more writes than there are buffers */
	FAULT_CRASH,	    /* the server's process dies */
	FAULT_POWER,	    /* the server's host loses its power: unsynced writes may be gone */
	FAULT_CRASH_AT_ACK, /* dies when the next durable answer is out */
	FAULT_RESTART,	    /* an orderly end of the server, and a new start */
	FAULT_PORTAL_ADDED, /* a portal that the device was not told of at its start */
	FAULT_PORTAL_REMOVED,
	FAULT_PORTAL_BACK,  /* removed, and added again soon */
	FAULT_MEMORY_SHORT, /* other programs of a daemon's host take its memory */
	FAULT_MEMORY_PRESSURE,
	FAULT_DRAIN,	 /* as FAULT_DAEMON_STOP, but slabs are asked back first */
	FAULT_DONE_HELD, /* what a device says of its slabs reaches nobody for a while */
	FAULT_KINDS,
};

/* What the cores were seen to do; a run that never sees one of them tests less than it seems to. */
enum sight_kind {
	SIGHT_EVICTED = 0, /* DONE in time */
	SIGHT_FORCED,	   /* a device's slab was taken without */
	SIGHT_FORCED_PEER, /* a foreign client's was */
	SIGHT_GIVEN_BACK,  /* UNMAP */
	SIGHT_CHOSEN,	   /* some of those asked were spared */
	SIGHT_LIE,	   /* an answer that did not fit */
	SIGHT_MOVED,
	SIGHT_NEW_HOME_LOST,
	SIGHT_OLD_HOME_LOST,
	SIGHT_BOTH_HOMES_LOST,
	SIGHT_REFILLED,
	SIGHT_SUSPECT,
	SIGHT_LEFT,	  /* a removed daemon gave all of its slabs back */
	SIGHT_HELD,	  /* an answer, since the backup is behind */
	SIGHT_MERGED,	  /* writes that reached the backup with their neighbours */
	SIGHT_SPLIT,	  /* ... or failed to, and were tried alone */
	SIGHT_SUPERSEDED, /* writes that did not have to reach it */
	SIGHT_UNQUEUED,	  /* ... though nothing but the backup kept them waiting */
	SIGHT_LOST,	  /* a page that there was no backup of */
	SIGHT_NO_HOME,	  /* a write failed since nobody lent its slab */
	SIGHT_KINDS,
};

enum op_kind {
	OP_READ = 1,
	OP_WRITE,
	OP_FLUSH,
	OP_TRIM,
	OP_ZERO,
	OP_EXTENT,
};

struct plan_op {
	uint64_t at_ns;
	uint32_t device;
	enum op_kind kind;
	uint32_t flags;
	uint64_t offset_bytes;
	uint32_t length_bytes;
	bool is_dropped;
};

struct plan_fault {
	uint64_t at_ns;
	uint64_t until_ns;
	enum fault_kind kind;
	uint32_t device;
	uint32_t daemon;
	uint32_t value; /* chance in percent, an error number, ... by kind */
	bool is_dropped;
};

struct plan {
	uint64_t seed;
	uint64_t variant; /* another order of the same things */

	uint32_t n_devices;
	uint32_t n_daemons;
	uint32_t n_peers;
	uint32_t n_slabs;
	uint32_t pool_slabs[SIM_DAEMONS_MAX];
	uint32_t client_slabs[SIM_DAEMONS_MAX];
	uint32_t max_clients;
	bool is_rdma[SIM_DAEMONS_MAX];
	enum slab_ack ack;
	bool can_zero;
	bool can_discard;
	bool has_psk;
	bool has_power;		/* unsynced writes are kept apart */
	bool has_no_backup;	/* pages are on their daemons alone */
	bool is_backup_broken;	/* refuses all writes from its first error until all is answered */
	bool has_control;	/* portals change, daemons' hosts get short of memory */
	uint32_t hot_slab;	/* pages per second; 0: every slab that is used is mapped */
	uint64_t refill_rate;	/* bytes per second */
	uint64_t migrate_rate;	/* bytes per second; 0: slabs do not move */
	uint32_t backup_writes; /* at a time */
	uint64_t backup_delay_ns;
	uint64_t period_ns; /* of activity, and of the look at a host's memory */
	uint64_t hedge_ns;
	uint64_t probe_ns;
	uint64_t control_timeout_ns;
	uint64_t evict_deadline_ns;
	uint64_t drain_ns;
	uint32_t extra_choices;
	uint32_t spare_slabs[SIM_DAEMONS_MAX]; /* that fit above the headroom */
	uint32_t cold_slab; /* pages per second under which a slab is cold; 0: none is */
	uint32_t cold_periods;
	uint32_t choices; /* daemons that are asked for each slab */
	uint64_t op_timeout_ns;
	uint64_t connect_timeout_ns;
	uint64_t ping_ns;
	uint64_t retry_ns;
	uint64_t retry_max_ns;
	uint64_t client_timeout_ns;
	uint64_t hello_timeout_ns;
	uint64_t net_ns;  /* usual longest way of a message */
	uint64_t disk_ns; /* usual longest time of a backup operation */
	uint64_t lag_ns;  /* longest wait of a loop before it looks again */
	uint64_t end_ns;  /* of the planned part */

	uint32_t n_ops;
	struct plan_op ops[SIM_OPS_MAX];
	uint32_t n_faults;
	struct plan_fault faults[SIM_FAULTS_MAX];
};

void plan_make(struct plan *p, uint64_t seed);
const char *fault_name(enum fault_kind kind);
const char *sight_name(enum sight_kind kind);
const char *op_name(enum op_kind kind);
void plan_print(const struct plan *p, FILE *out);

#endif /* TESTS_SIM_PLAN_H */
