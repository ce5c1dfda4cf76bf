/* SPDX-License-Identifier: MIT */
/*
 * device.h - the device core: one block device made of slabs of remote memory
 * and a backup under them.
 *
 * Pure: no threads, no sockets, no libev, no clock, no allocation after
 * slab_device_new().  Time comes in as now_ns (monotonic), the network through
 * transport/transport.h, the disk through slab/backup.h, requests through
 * nbd_server/backend.h's shape of them (slab_device_backend()).  One thread.
 */
#ifndef SLAB_DEVICE_H
#define SLAB_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/auth.h"

#define SLAB_BYTES_MIN (UINT64_C(1) << 20)
#define SLAB_BYTES_MAX (UINT64_C(1) << 30)
/* Smallest pool of request buffers. */
#define SLAB_BUFFER_BYTES_MIN (UINT64_C(4) << 20)
/* A portal's address, with its NUL. */
#define SLAB_ADDRESS_BYTES_MAX 80u

struct slab_device;
struct backend;
struct backup;
struct histogram;
struct tp;

enum slab_ack {
	SLAB_ACK_REMOTE = 1, /* a write is answered when its remote copy is complete (paper 4.3) */
	SLAB_ACK_BOTH,	     /* ... and its backup copy too */
};

enum slab_event_level {
	SLAB_EVENT_ERROR = 1, /* the operator must act */
	SLAB_EVENT_WARN,      /* degraded, still serving */
	SLAB_EVENT_NOTICE,    /* a daemon joined or left */
	SLAB_EVENT_DEBUG,
};

/* Where a daemon is reached. */
struct slab_portal {
	struct tp *tp;
	const char *address; /* without the transport's prefix; copied */
};

struct slab_device_config {
	uint64_t size_bytes;   /* multiple of slab_bytes */
	uint64_t slab_bytes;   /* power of two, SLAB_BYTES_MIN..SLAB_BYTES_MAX */
	uint64_t buffer_bytes; /* at least SLAB_BUFFER_BYTES_MIN, multiple of BLOCK_BYTES */
	enum slab_ack ack;
	uint64_t op_timeout_ns;	     /* one remote operation, one control answer */
	uint64_t connect_timeout_ns; /* from connect to WELCOME */
	uint64_t ping_ns;	     /* between two PINGs */
	/* Without any completion for so long a daemon is suspect; a read that takes so long
	 * is read from the backup too.  0: off. */
	uint64_t hedge_ns;
	uint64_t probe_ns; /* without a sign of a daemon's memory before it is probed; 0: never */
	/* A daemon that answers no PING, but whose memory can be reached, is used on for so
	 * long.  0: not at all. */
	uint64_t control_timeout_ns;
	uint64_t retry_ns; /* before the first reconnect; doubles up to retry_max_ns */
	uint64_t retry_max_ns;
	bool migrate;	       /* slabs that are wanted back move, rather than fall to the backup */
	uint64_t migrate_rate; /* bytes per second copied for that, not 0 */
	uint64_t refill_rate;  /* bytes per second copied to newly mapped slabs; 0: none */
	double hot_slab; /* pages per second over which a slab is mapped; 0: every one that is used */
	double alpha;	 /* weight of a period in the activity, over 0 up to 1 (paper 4.1) */
	uint64_t period_ns;
	double cold_slab;      /* pages per second under which a mapped slab is cold; 0: none is */
	uint32_t cold_periods; /* that it has to be cold to be given back */
	uint32_t choices;      /* daemons that are asked for each slab, 1 to 8 (paper 4.2: 2) */
	uint64_t query_timeout_ns; /* for their answers */
	const char *name; /* of the device, for HELLO; shorter than CTL_DEVICE_NAME_BYTES */
	uint8_t client_id[CTL_CLIENT_ID_BYTES];
	struct auth_psk psk;
	const struct slab_portal *portals; /* borrowed until slab_device_new() returns */
	uint32_t n_portals;
	uint32_t max_portals;	   /* that slab_device_set_portals() may bring; 0: n_portals */
	uint64_t leave_timeout_ns; /* for a removed portal to give its slabs back */
	uint32_t backup_writes;	   /* operations that write to the backup at a time, 1 to 1024 */
	/* That a write which nobody waits for is kept from the backup while requests keep coming;
	 * up to 10 s, 0: not at all. */
	uint64_t backup_delay_ns;
	void *arena; /* zeroed, page aligned, slab_device_arena_bytes(); outlives the device */
	/* Fills @buf with unpredictable bytes (nonces). */
	void (*entropy)(void *arg, void *buf, uint32_t length_bytes);
	/* One line for the operator; said once per change, not per I/O. */
	void (*event)(void *arg, enum slab_event_level level, const char *text);
	/* The time of what has just happened, not before the last advance's: for measuring, and
	 * for how long a write waits for a daemon where there is no backup.  NULL: that of the
	 * last advance. */
	uint64_t (*now)(void *arg);
	void *arg; /* of entropy, event and now */
};

struct slab_device_stats {
	uint64_t pages_read_remote;
	uint64_t pages_read_backup;
	uint64_t pages_read_buffer; /* from a write that is still on its way to the backup */
	uint64_t pages_read_zero;
	uint64_t pages_written;
	uint64_t pages_written_remote;
	uint64_t pages_written_backup;
	uint64_t pages_promoted; /* copied to remote after a read from the backup */
	uint64_t pages_refilled; /* copied to remote in the background, unasked */
	uint64_t pages_migrated; /* copied from the old to the new home of a slab on the move */
	uint64_t pages_trimmed;
	uint64_t pages_zeroed;
	uint64_t answers_held;	       /* of writes, since the backup is behind (ack = remote) */
	uint64_t backup_wait_ns;       /* during which any was */
	uint64_t backup_writes_merged; /* made by the operation of another one */
	uint64_t backup_merges_failed; /* operations of several: each was tried alone then */
	uint64_t
		backup_writes_dropped; /* of those superseded: nothing but the backup kept them waiting */
	uint64_t backup_writes_superseded; /* dropped: the page was written again meanwhile */
	uint64_t read_errors;		   /* answered with an error: no copy could be reached */
	uint64_t write_errors;
	uint64_t backup_errors;	  /* failed backup operations */
	uint64_t remote_failures; /* daemons lost */
	uint64_t probes;	  /* READs of an epoch page */
	uint64_t suspicions;	  /* daemons that became suspect */
	uint64_t reads_hedged;	  /* read from the backup too, since remote took hedge_ns */
	uint64_t hedges_won;	  /* ... and the backup was first */
	uint64_t maps_total;
	uint64_t maps_refused;
	uint64_t placements_total;
	uint64_t placements_failed; /* no daemon was found */
	uint64_t queries_total;
	uint64_t queries_unanswered;
	uint64_t evictions; /* EVICTs answered with DONE */
	uint64_t migrations_begun;
	uint64_t migrations;	    /* ended well */
	uint64_t migrations_failed; /* the new daemon was lost */
	uint64_t evictions_late;    /* whose deadline came before the slab was ready */
	uint64_t slabs_given_back;
	uint64_t evict_ns_total; /* from EVICT to DONE */
	uint64_t evict_ns_max;
	uint32_t slabs_hot;		  /* at the end of the last period; mapped or not */
	double activity_pages_per_second; /* all slabs, then */
	double activity_most;		  /* of one of them */
	uint64_t pages_degraded; /* now: remote is the only copy because the backup failed; 0
				  * where there is none */
	uint64_t pages_lost;	 /* now: no copy left; reads fail until the page is written */
	uint32_t slabs;
	uint32_t slabs_mapped;
	uint64_t buffer_bytes;
	uint64_t buffer_bytes_free;
	uint64_t writes_unsafe;		/* not yet on the backup */
	uint64_t backup_writes_waiting; /* of these, until the backup takes more */
	/* Writes whose buffer was the only copy when the backup refused them. */
	uint64_t writes_kept_total;
	uint64_t page_map_bytes; /* 64 KiB per GiB */
	uint64_t slab_table_bytes;
};

enum slab_daemon_state {
	SLAB_DAEMON_DOWN = 1,
	SLAB_DAEMON_UP,
	SLAB_DAEMON_SUSPECT,	  /* slow to complete operations */
	SLAB_DAEMON_CONTROL_DEAD, /* its memory works, PING is not answered */
};

struct slab_daemon_info {
	const char *transport; /* "tcp" */
	const char *address;   /* without it; borrowed until the next call of the device */
	enum slab_daemon_state state;
	bool is_up;	       /* any state but DOWN */
	bool is_leaving;       /* its portal was removed */
	uint32_t slabs_mapped; /* of this device */
	uint32_t slabs_free;   /* as the daemon last said */
	int last_error;	       /* 0 or -errno of the last failure */
	/* How long its READs and WRITEs of pages took, of this session and those before it; the
	 * device's. */
	const struct histogram *read_times;
	const struct histogram *write_times;
};

#define SLAB_REFILL_RATE_MAX (UINT64_C(64) << 30)

/* Size of the arena for @config (sizes only are looked at); 0 when they are invalid. */
size_t slab_device_arena_bytes(const struct slab_device_config *config);

/*
 * slab_device_new - make a device on @backup.
 *
 * NULL: there is none.  Pages are on their daemons alone, and lost with them; reads of those
 * fail until they are written.  A write waits for a daemon with memory for its slab.
 * When no slab was mapped for 4 op_timeouts though one waited, they fail with -ENOSPC, later ones
 * at once, until a slab is mapped or lost; while a daemon is asked for its slab a write waits up
 * to 8.  What a failed write was to replace is lost.  Every slab is hot, none is refilled, a flush
 * does nothing, and at the stop the pages are gone.
 *
 * The page map starts from what backup_next_data() reports.  Registers the
 * buffers with each portal's transport; connects from the first advance on.
 * @ret_device: written on success only; slab_device_free() after stop's done().
 * Returns 0, -EINVAL, -ENOMEM or what tp_region_register() returned.
 */
int slab_device_new(const struct slab_device_config *config, struct backup *backup,
		    struct slab_device **ret_device);
/* Stopped, or never advanced.  Every transport's down() has run.  Returns NULL. */
struct slab_device *slab_device_free(struct slab_device *d);

/* What nbd_server talks to; the device's, lives as long. */
struct backend *slab_device_backend(struct slab_device *d);

/* The request buffers: what the backup may register with its ring. */
void slab_device_buffers(struct slab_device *d, void **ret_base, size_t *ret_length_bytes);

/*
 * slab_device_set_portals - these are the device's daemons from now on.
 *
 * New ones are connected to.  Those that are gone lend nothing more; their slabs are
 * given back, and the session ends when that is done or leave_timeout_ns is over, but
 * not as long as one of them has a page that the backup refuses.  One that comes back
 * meanwhile stays.  Twice the same counts once.  @portals is copied.
 *
 * May allocate in the transport: its first portal registers the buffers with it.
 * Returns 0; on an error nothing has changed: -ENOSPC (over max_portals), -EINVAL
 * (an address too long, too many transports), -ESHUTDOWN (stopping), or what
 * tp_region_register() returned.  Not from inside a callback of the device.
 */
int slab_device_set_portals(struct slab_device *d, const struct slab_portal *portals, uint32_t n);

/*
 * slab_device_advance - hand out completions, run what became ready, do what is due.
 * To be called in every loop turn, before the poll.  Bounded work.
 * Returns when to be called next at the latest; @now_ns itself: there is more to do now.
 */
uint64_t slab_device_advance(struct slab_device *d, uint64_t now_ns);

/*
 * slab_device_stop - the clean end: no piece is held by the server any more.
 * Writes what is not on the backup yet, syncs it, closes every daemon, then
 * done(): 0, or -EIO when pages could not be brought to the backup or were lost before
 * (said by an event).  Without a backup always 0.
 * Not from inside a callback of the device.
 */
void slab_device_stop(struct slab_device *d, void (*done)(void *arg, int status), void *arg);

void slab_device_get_stats(const struct slab_device *d, struct slab_device_stats *ret_stats);
/* @index from 0 until it returns false. */
bool slab_device_get_daemon(const struct slab_device *d, uint32_t index,
			    struct slab_daemon_info *ret_info);

#endif /* SLAB_DEVICE_H */
