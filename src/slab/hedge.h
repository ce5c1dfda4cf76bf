/* SPDX-License-Identifier: MIT */
/*
 * hedge.h - a read that its daemon does not answer for hedge_ns is read from the backup too.
 *
 *   READ posted -> remote.reads -(hedge_ns)-> the hedge, a piece of its own, reads the same
 *   pages of the backup -> whichever ends first is the answer
 *
 * The hedge has its own buffer.  If it wins, the read goes on in that buffer, and its first
 * one stays taken until the remote operation has ended (invariant 3); if it loses, it is
 * late: the read, long answered, keeps its pages until the backup is done with the hedge,
 * so that no write of them meets it there.
 */
#ifndef SLAB_HEDGE_H
#define SLAB_HEDGE_H

#include <stdbool.h>
#include <stdint.h>

struct piece;
struct remote;

/* In flight of one device: the backup of a slow link has its own work to do. */
#define HEDGES_MAX 64u

/* The remote READ of @p has been posted. */
void hedge_posted(struct piece *p);
/* It has ended.  True: nobody waits for it any more. */
bool hedge_remote_done(struct piece *p);
/* The hedge of @p has lost and is still being read. */
bool hedge_is_late(const struct piece *p);
/* Hedges what is due; lowers *@next_ns. */
void hedge_advance(struct remote *r, uint64_t now_ns, uint64_t *next_ns);
/* @p is free: so is the hedge in whose buffer it was. */
void hedge_release(struct piece *p);

#endif /* SLAB_HEDGE_H */
