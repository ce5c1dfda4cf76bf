/* SPDX-License-Identifier: MIT */
/*
 * throttle.h - clients that write faster than the backup takes it are answered later.
 *
 * A client's socket is a FIFO: a WRITE that is not taken since no buffer is free keeps the
 * READs behind it waiting, though they have buffers of their own and a remote copy.  So
 * writers are slowed down by late answers instead: with ack = remote, and less than half of
 * the write buffers free, the answer of a write whose remote copy is complete is held until
 *
 *   - that much is free again: in the order in which they came, or
 *   - the backup has this write, or another one that replaces it, or
 *   - the backup refuses it, so that waiting is of no use.
 *
 * A client has a bounded number of requests under way, so the other half is for what it sends
 * while it waits.  For the rest of the core a held write is an answered one: what was promised
 * for it holds, only nobody knows yet.
 */
#ifndef SLAB_THROTTLE_H
#define SLAB_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

struct piece;
struct slab_device;

/* The remote copy of the write @p is complete: answers it, now or later. */
void throttle_answer(struct piece *p);
/* The buffer of @p does not wait for the backup any more, or not for long: its answer may go. */
void throttle_release(struct piece *p);
/* Lets go what may go, and counts the time in which something could not. */
void throttle_advance(struct slab_device *d, uint64_t now_ns);
/* Whether throttle_advance() would let something go. */
bool throttle_is_due(const struct slab_device *d);

#endif /* SLAB_THROTTLE_H */
