/* SPDX-License-Identifier: MIT */
/* portals.h - the daemons of the configuration, as portals of the device. */
#ifndef PROGRAMS_PORTALS_H
#define PROGRAMS_PORTALS_H

#include <stdint.h>

#include "slab/device.h"

struct ev_loop;
struct ini_list;
struct transports;

struct portals {
	struct ev_loop *loop;
	struct transports *transports;
	struct slab_portal *list; /* at most max */
	uint32_t count;
	uint32_t max;
};

/* At most @max, of what portals_list() gets.  Returns 0 or -ENOMEM. */
int portals_init(struct portals *p, struct ev_loop *loop, struct transports *transports,
		 uint32_t max);
void portals_fini(struct portals *p);

/*
 * Fills @p from @items, which are borrowed as long as @p->list is used; makes the
 * transports that are missing.  Returns 0, -ENOSPC (more than max) or another -errno
 * after a line of log; @p has none then.
 */
int portals_list(struct portals *p, const struct ini_list *items);

/* The device has what @p holds from now on.  0 or -errno after a line of log. */
int portals_apply(const struct portals *p, struct slab_device *device);

#endif /* PROGRAMS_PORTALS_H */
