/* SPDX-License-Identifier: MIT */
/*
 * machine.h - one machine: the real device core on a disk that is only a delay, the real
 * daemon core on memory that is only counted, and what its containers use.
 */
#ifndef BENCH_CLUSTER_MACHINE_H
#define BENCH_CLUSTER_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/daemon.h"
#include "nbd_server/backend.h"
#include "net.h"
#include "slab/arena.h"
#include "slab/backup.h"
#include "slab/device.h"

/* GiB; the paper's machines have 64 and leave 8 free. */
#define MACHINE_GIB 64u
#define MACHINE_SYSTEM_GIB 2.5
#define HEADROOM_GIB 8u
#define LENT_GIB_MAX 48u
#define DEVICE_SLABS 48u

struct container;
struct machine;

struct memory_slot {
	struct sim_event ev;
	struct machine *machine;
	struct tp_region *region; /* NULL: empty */
	enum slab_memory_request request;
};

struct machine {
	struct world *world;
	uint32_t index;
	char address[12];
	bool is_wide;		  /* its device knows every daemon */
	struct sim_event tick_ev; /* of its load */

	/* What its containers do; load.c's. */
	struct list containers;
	double used_gib;	/* now, with the system */
	double reserved_gib;	/* what they may use at most, with the system */
	uint64_t slabs_used;	/* of the device: by a container */
	uint64_t slabs_to_trim; /* of these: the container has ended */

	struct host device_host;
	struct slab_device *device;
	struct backend *be;
	struct backup backup;
	struct sim_event disk_ev;
	struct list disk_ops; /* struct backup_op */
	struct arena arena;   /* where the slabs' states are */
	uint64_t mapping_since_ns[DEVICE_SLABS];
	uint32_t n_asked;   /* QUERY_MEM and MAP up to the last turn */
	uint32_t n_mapping; /* slabs that are being placed */
	bool is_placing;    /* a message of a placement went or came since the last turn */

	struct host daemon_host;
	struct daemon *daemon;
	struct slab_memory memory;
	slab_memory_done_fn *memory_done;
	void *memory_arg;
	struct memory_slot slots[LENT_GIB_MAX];
	uint32_t n_filled;
};

/* Cores and hosts of @w->machines[@index]; every machine's address is known. */
void machine_init(struct machine *m, struct world *w, uint32_t index);
/* Tells the daemon how much memory the host has left. */
void machine_tell_memory(struct machine *m);
uint32_t machine_slabs_lent(const struct machine *m);

/* One page I/O of @n_bytes, or TRIM; false: no buffer now. */
bool machine_io(struct machine *m, enum backend_kind kind, uint64_t offset_bytes, uint32_t n_bytes,
		backend_done_fn *done);

#endif /* BENCH_CLUSTER_MACHINE_H */
