/* SPDX-License-Identifier: MIT */
/*
 * loop_reserve.h - makes a loop's arrays as large as they will ever be.
 *
 * libev grows its arrays of watchers, descriptors and pending events with
 * realloc(), whenever one more is needed than ever before, and never shrinks
 * them.  A program that may not allocate while it serves lets them grow first.
 */
#ifndef LOOP_LOOP_RESERVE_H
#define LOOP_LOOP_RESERVE_H

#include <stdint.h>

#include <ev.h>

/*
 * Room for @watchers of each kind and priority, and as many descriptors.  Before
 * any watcher of @loop is started.  Returns 0 or -errno; with -EMFILE there is
 * room for as many descriptors as the process may have.
 */
int loop_reserve(struct ev_loop *loop, uint32_t watchers);

#endif /* LOOP_LOOP_RESERVE_H */
