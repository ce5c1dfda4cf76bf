/* SPDX-License-Identifier: MIT */
/*
 * backup_queue.h - writes that wait until the backup takes more of them.
 *
 *   backup_queue_add -> waits -> at the end of the turn, while fewer than backup_writes
 *   operations are in flight: the first that waits, joined by those that wait for the bytes
 *   before and behind it, becomes one operation -> write_backup_done() of each
 *
 * What the disk was given cannot be taken back, so no more of it is in flight than keeps the
 * disk busy.  In here
 *   - neighbours on the disk join: one operation for a run that a client wrote page by page;
 *   - a write that a newer one replaces is dropped, once that has its remote copy.  The newer
 *     one gets its place: a page that is written again and again is on the disk when the first
 *     of them would have been, and so is what a flush waits for.
 *
 * Failure modes: an operation of several writes fails: each of them is tried alone, before all
 * that wait, and what becomes of that is what counts for it.
 */
#ifndef SLAB_BACKUP_QUEUE_H
#define SLAB_BACKUP_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

#define BACKUP_WRITES_MAX 1024u

struct piece;
struct slab_device;
struct write_batch;

struct backup_queue {
	struct list waiting; /* piece.wait_node, the first to go first */
	uint32_t n_waiting;
	uint64_t place;		     /* of the last one */
	struct write_batch *batches; /* operations, as many as may be in flight */
	struct list idle;
};

/* Returns 0 or -ENOMEM. */
int backup_queue_init(struct slab_device *d);
void backup_queue_fini(struct slab_device *d);

/* It is the turn of the write @p on its pages. */
void backup_queue_add(struct piece *p);
/* @newer replaces @older, which waits: it waits at its place, unless it has one before that. */
void backup_queue_replace(struct piece *older, struct piece *newer);
/* Gives the backup what it may have. */
void backup_queue_advance(struct slab_device *d);
/* Whether backup_queue_advance() would give it something. */
bool backup_queue_is_due(const struct slab_device *d);

#endif /* SLAB_BACKUP_QUEUE_H */
