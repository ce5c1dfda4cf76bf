/* SPDX-License-Identifier: MIT */
/*
 * device_host.h - a machine that is short of memory: the real device core, its
 * backup, and the requests that somebody made of it.
 */
#ifndef TESTS_SIM_DEVICE_HOST_H
#define TESTS_SIM_DEVICE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "nbd_server/backend.h"
#include "sim/disk.h"
#include "sim/host.h"
#include "sim/oracle_pages.h"
#include "sim/plan.h"
#include "slab/device.h"

#define SIM_BUFFER_PAGES (SLAB_BUFFER_BYTES_MIN / 4096u)

struct sim_request {
	struct list node;
	struct sim_event put_ev;
	struct sim_device_host *device;
	struct backend_io *io;
	uint32_t op; /* of the plan, or UINT32_MAX */
	uint64_t number;
	uint64_t version; /* that a WRITE wrote */
	uint64_t submitted_ns;
	uint64_t kept_total; /* writes that had been kept, but were no longer, then */
	uint64_t done_seq;   /* FLUSH: what was done before it was submitted */
	uint64_t ticks;	     /* of the disk at submit */
	struct change *changes;
	uint32_t n_changes;
	int status;
	bool is_done;
};

struct sim_device_host {
	struct sim_host host; /* first */
	uint32_t index;
	struct slab_device *dev;
	struct backend *be;
	struct slab_device_config config;
	struct slab_portal portals[SIM_DAEMONS_MAX];
	char addresses[SIM_DAEMONS_MAX][8];
	uint32_t portal_mask;		      /* daemons that it is told of */
	uint64_t removed_ns[SIM_DAEMONS_MAX]; /* when it was told that it is one no more */
	uint8_t *arena;			      /* kept from run to run */
	uint64_t arena_bytes;
	struct sim_disk disk;
	uint64_t disk_troubled_until_ns; /* faults of it may be felt up to then */
	struct sim_pages pages;		 /* what each page may hold */

	struct list requests;	/* submitted, not put back */
	uint32_t n_pending;	/* not done */
	uint16_t waiting[1024]; /* ops of the plan for which there was no buffer, a ring */
	uint32_t waiting_head;
	uint32_t n_waiting;
	bool is_starved;	   /* get() gave none, and resume() has not come */
	struct sim_event start_ev; /* after a crash or stop */
	bool is_stopping;
	bool is_stopped;
	bool is_told_to_stop;
	int stop_status;
	bool crash_at_ack;
	bool crash_is_power;
	bool must_crash; /* as soon as the core has returned */

	/* What the oracle saw last. */
	uint32_t *seen_remote;
	uint32_t *seen_backup;
	uint64_t *lost_until_ns; /* by page, without a backup: lost until then, or maybe */
	uint8_t seen_state[SIM_SLABS_MAX];
	uint8_t seen_old[SIM_SLABS_MAX]; /* while it moves: the slot of its old daemon */
	uint8_t seen_daemon[SIM_SLABS_MAX];
	uint32_t seen_generation[SIM_SLABS_MAX];
	uint32_t seen_old_generation[SIM_SLABS_MAX]; /* as seen_old */
	uint64_t seen_evictions;
	uint64_t seen_maps;
	uint64_t mapped_ns;	  /* when that changed; at first, the start */
	uint64_t waited_since_ns; /* the first write after that which may have had no home */
	uint64_t mapping_since_ns[SIM_SLABS_MAX];
	uint32_t healed_generation[SIM_SLABS_MAX]; /* when all faults had ended */
	uint16_t n_buffer_users[SIM_BUFFER_PAGES];
	bool is_buffer_written[SIM_BUFFER_PAGES]; /* by the operation that uses it */
	uint64_t down_ns[SIM_DAEMONS_MAX];	  /* when its session ended; 0: it did not yet */
	bool was_ponged[SIM_DAEMONS_MAX];	  /* the session that ended had an answer to PING */
};

void sim_device_init(struct sim_device_host *dh, struct sim *sim, uint32_t index);
void sim_device_start(struct sim_device_host *dh);
/* The process dies, with @is_power its host too; it starts again after @pause_ns. */
void sim_device_crash(struct sim_device_host *dh, bool is_power, uint64_t pause_ns);
/* An orderly end, when nothing is held any more; a new start after @pause_ns. */
void sim_device_stop(struct sim_device_host *dh);
/* Everything is freed. */
void sim_device_end(struct sim_device_host *dh);

/* It is told of @daemon, or not any more; from now on. */
void sim_device_set_portal(struct sim_device_host *dh, uint32_t daemon, bool is_there);

/* Submits an op of the plan, or lets it wait for a buffer. */
void sim_device_op(struct sim_device_host *dh, uint32_t op);
/* Submits a request that is not of the plan; NULL: no buffer. */
struct sim_request *sim_device_request(struct sim_device_host *dh, const struct plan_op *o);

#endif /* TESTS_SIM_DEVICE_HOST_H */
