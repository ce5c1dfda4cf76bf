/* SPDX-License-Identifier: MIT */
/*
 * homeless.h - writes of a device without a backup whose slab no daemon has.
 *
 * They wait until the slab is mapped, in no order but that of their pages, and fail with
 * -ENOSPC 4 op_timeouts after they came, 8 while a daemon is asked for the slab.  What they were
 * to replace is lost then.
 */
#ifndef SLAB_HOMELESS_H
#define SLAB_HOMELESS_H

#include <stdint.h>

struct piece;
struct slab_device;

/* The time of the write @p begins. */
void homeless_submitted(struct piece *p);
/* It has its turn, and nowhere to go. */
void homeless_add(struct piece *p);
/* A slab was mapped. */
void homeless_look(struct slab_device *d);
uint64_t homeless_advance(struct slab_device *d, uint64_t now_ns);

#endif /* SLAB_HOMELESS_H */
