/* SPDX-License-Identifier: MIT */
/*
 * homeless.h - writes of a device without a backup whose slab no daemon has.
 *
 * They wait until the slab is mapped, in no order but that of their pages.  The patience is the
 * device's, as dm-multipath's no_path_retry is: when no slab was mapped for 4 op_timeouts though
 * a write waited, all of them fail with -ENOSPC, and from then on each that comes, at once,
 * until a slab is mapped or lost.  While a daemon is asked for its slab a write waits 8
 * op_timeouts, from when it came.  What a failed write was to replace is lost.
 */
#ifndef SLAB_HOMELESS_H
#define SLAB_HOMELESS_H

#include <stdint.h>

struct piece;
struct slab_device;

void homeless_init(struct slab_device *d);
/* The time of the write @p begins. */
void homeless_submitted(struct piece *p);
/* It has its turn, and nowhere to go. */
void homeless_add(struct piece *p);
/* A slab was mapped or has lost its home: they are looked at in this turn, and may wait anew. */
void homeless_look(struct slab_device *d);
uint64_t homeless_advance(struct slab_device *d, uint64_t now_ns);

#endif /* SLAB_HOMELESS_H */
