/* SPDX-License-Identifier: MIT */
/*
 * fill.h - copies pages into the remote memory of slabs, in the background.
 *
 * Migration: pages of a slab on the move (migrate.h) that only its old home has, from there
 * to the new one, at migrate_rate bytes per second at most.  It goes before refill: its
 * daemon waits.
 *
 * Refill: a slab that was mapped (again) has pages that only the backup has.  They
 * are copied up, hottest slab first, at refill_rate bytes per second at most.
 *
 *   refill:   idle -(fill_want)-> on d->fill.slabs -(block after block)-> waiting, or idle
 *   piece:    waits for its turn -> reads what still lacks a copy -> remote WRITE -> ends
 *
 * A fill piece is an internal READ: it stands in the order of its pages as a reader from
 * before its read until after its copy, so no write, TRIM or ZERO of them starts in
 * between, and it never replaces newer bytes.  What it has to copy is decided at its turn.
 *
 * It yields: no piece is started while buffers are short, while a request waits for one,
 * or while the device stops; FILLS_MAX are in flight at most.
 *
 * A slab is gone through until nothing is found and no write is on its way to the backup
 * alone that began before the slab was mapped.
 *
 * Failure modes: the backup cannot be read: a pause, then on; the slab is not mapped any
 * more: the refill ends with it.
 */
#ifndef SLAB_FILL_H
#define SLAB_FILL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "slab/core_timer.h"

struct piece;
struct slab_device;

/* Bytes per second, as a bucket that fills with time. */
struct fill_rate {
	uint64_t bytes; /* that may be copied now */
	uint64_t at_ns; /* up to when they were counted; 0: never */
};

/* Where in a slab copying goes on. */
struct fill_place {
	uint32_t block;
	uint32_t page;
};

struct fill {
	struct list slabs;   /* slab_run.fill_node of those to be refilled */
	struct list waiting; /* those to be gone through again at again_timer */
	struct core_timer again_timer;
	struct core_timer pause_timer; /* until then nothing is read from the backup */
	uint32_t slab;		       /* of them, the one at work ... */
	uint32_t period;	       /* ... chosen in this period of activity */
	uint32_t n_pieces;	       /* in flight */
	struct fill_rate refill;
	struct fill_rate migrate;
};

void fill_init(struct fill *f);
/* @slab has just been mapped: what the backup has is copied to it. */
void fill_want(struct slab_device *d, uint32_t slab);
/* Starts what may be started.  Returns when to look again at the latest. */
uint64_t fill_advance(struct slab_device *d, uint64_t now_ns);
/* The piece @p, which is one of ours, has left its pages. */
void fill_ended(struct piece *p);

#endif /* SLAB_FILL_H */
