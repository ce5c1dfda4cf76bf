/* SPDX-License-Identifier: MIT */
/* lending.h - slabs between the pool and one client: MAP, UNMAP, and the end of everything. */
#ifndef DAEMON_LENDING_H
#define DAEMON_LENDING_H

#include <stdint.h>

#include "wire/ctl.h"

struct client;
struct pool_slab;

/* A request of a serving client; its answer goes out now or when the transport is done. */
void lending_map(struct client *c, const struct ctl_msg *msg);
void lending_unmap(struct client *c, const struct ctl_msg *msg);

/* Takes a GRANTED slab back without being asked by @c. */
void lending_evict(struct client *c, struct pool_slab *s);

/* Slabs that @c could map now, its quota counted. */
uint32_t lending_free_slabs(const struct client *c);

/* The connection is down: takes every slab back.  Returns how many. */
uint32_t lending_reclaim_all(struct client *c);

#endif /* DAEMON_LENDING_H */
