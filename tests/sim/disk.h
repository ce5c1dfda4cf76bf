/* SPDX-License-Identifier: MIT */
/*
 * disk.h - slab/backup.h in memory and virtual time: operations complete in any
 * order, fail, take long or not at all, and run out of space.  A crash leaves of
 * the operations under way nothing, all or a part; a loss of power also takes back
 * any number of the newest writes of each page that were not synced.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "sim/clock.h"
#include "slab/backup.h"

#define SIM_DISK_PAGES_MAX 1024u
/* The bytes of a discarded page may be these of its place. */
#define SIM_JUNK_VERSION UINT64_MAX

struct sim;
struct sim_host;

struct sim_disk_page {
	uint64_t written_at; /* disk->ticks when it was written last */
	uint64_t error_ns;   /* when an operation on it failed last, or when it ceased to be bad */
	uint64_t changed_at; /* tick of its last change of any kind */
	struct sim_undo *undos; /* what it held before, newest first; not synced */
	uint16_t n_readers;	/* operations under way */
	bool has_writer;
	bool is_bad;	   /* the last write of it failed */
	bool is_allocated; /* for a full disk */
	bool is_touched;   /* may hold anything but zeros */
};

struct sim_disk {
	struct backup backup; /* first */
	struct sim *sim;
	struct sim_host *host;
	uint32_t index;
	uint64_t size_bytes;
	uint32_t n_pages;
	uint8_t *bytes; /* kept from run to run */
	struct sim_disk_page pages[SIM_DISK_PAGES_MAX];
	struct list ops;
	uint32_t n_bad;
	uint64_t ticks;	    /* completed operations */
	uint64_t synced_at; /* writes up to this tick are durable */
	uint64_t error_ns;  /* of the last failed write */
	uint64_t sync_error_ns;
	/* Faults: until then ... */
	uint64_t fail_writes_ns;
	uint64_t fail_reads_ns;
	uint64_t fail_syncs_ns;
	uint64_t slow_until_ns;
	uint64_t slow_ns;
	uint64_t stuck_until_ns;
	uint64_t full_until_ns;
	int write_error;
	uint32_t fail_percent;
};

void sim_disk_reset(struct sim_disk *d, struct sim *sim, struct sim_host *host, uint32_t index,
		    uint64_t size_bytes);
/* The server is gone.  @is_power: with its host. */
void sim_disk_crash(struct sim_disk *d, bool is_power);
/* Before the server starts again the disk has written its cache, and forgotten its errors. */
void sim_disk_settle(struct sim_disk *d);
void sim_disk_heal(struct sim_disk *d);
void sim_disk_end(struct sim_disk *d);

#endif /* TESTS_SIM_DISK_H */
