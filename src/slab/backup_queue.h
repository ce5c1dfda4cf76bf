/* SPDX-License-Identifier: MIT */
/*
 * backup_queue.h - writes that wait until the backup takes more of them.
 *
 *   backup_queue_add -> waits -> at the end of a turn in which it is due, while fewer than
 *   backup_writes operations are in flight: the first that waits, joined by those that wait for
 *   the bytes before and behind it, becomes one operation -> write_backup_done() of each
 *
 * Due: most writes are answered when a daemon has them (ack = remote), and who waits for them
 * to be on the disk is nobody but their buffers.  Giving them to the disk takes processor time
 * from the requests that are coming in, so they wait until
 *   - no request has come for BACKUP_QUIET_NS, or
 *   - backup_delay_ns are over since they came: what is only in the buffers when the server dies
 *     is bounded, or
 *   - somebody does wait: the answer of one of them, a FLUSH, a stop, a request without buffer, or
 *   - less than 5/8 of the buffers for writes are free.
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
#include "common/page.h"

#define BACKUP_WRITES_MAX 1024u
#define BACKUP_DELAY_NS_MAX (10 * NSEC_PER_SEC)

struct piece;
struct slab_device;
struct write_batch;

struct backup_queue {
	struct list waiting; /* piece.wait_node, the first to go first */
	uint32_t n_waiting;
	uint32_t n_urgent;	     /* of them: is_urgent */
	bool was_fed;		     /* a request has come since the last advance */
	uint64_t fed_ns;	     /* the last advance before which one had */
	uint64_t place;		     /* of the last one */
	struct write_batch *batches; /* operations, as many as may be in flight */
	struct list idle;
};

/* Returns 0 or -ENOMEM. */
int backup_queue_init(struct slab_device *d);
void backup_queue_fini(struct slab_device *d);

/* It is the turn of the write @p on its pages. */
void backup_queue_add(struct piece *p);
/* Somebody waits for @p, if it is in the queue: it goes with the next turn. */
void backup_queue_hurry(struct piece *p);
/* @newer replaces @older, which waits: it waits at its place, unless it has one before that. */
void backup_queue_replace(struct piece *older, struct piece *newer);
/* Gives the backup what it may have.  Returns when there will be more by itself, or UINT64_MAX. */
uint64_t backup_queue_advance(struct slab_device *d, uint64_t now_ns);
/* Whether backup_queue_advance() would give it something. */
bool backup_queue_is_due(const struct slab_device *d);

#endif /* SLAB_BACKUP_QUEUE_H */
