/* SPDX-License-Identifier: MIT */
/*
 * portals.h - the daemons of the configuration, as portals of the device: those that
 * the file lists, and those that its dns: names stand for.
 *
 *   portals_init() -> slab_device_new(list, count) -> portals_start() ->
 *   (an answer of the name service -> the device)* (portals_change() -> the device)*
 */
#ifndef PROGRAMS_PORTALS_H
#define PROGRAMS_PORTALS_H

#include <stdint.h>

#include "common/ini.h"
#include "slab/device.h"

struct dns_names;
struct ev_loop;
struct server_file_config;
struct transports;

struct portals {
	struct ev_loop *loop;
	struct transports *transports;
	struct slab_device *device; /* NULL until started */
	struct dns_names *dns;
	struct ini_list listed;	  /* as the file said last */
	struct slab_portal *list; /* at most max */
	uint32_t count;
	uint32_t max;
	uint32_t n_left_out; /* of what the name service said, over max; said once per change */
};

/* What @config lists, names aside, is in list then.  Returns 0 or -errno after a line of log. */
int portals_init(struct portals *p, struct ev_loop *loop, struct transports *transports,
		 const struct server_file_config *config);
/* Begins to ask the name service; what it says goes to @device. */
void portals_start(struct portals *p, struct slab_device *device);
/* @items instead of what the file listed before; every name is asked for anew.
 * Returns 0, or -errno after a line of log: nothing has changed. */
int portals_change(struct portals *p, const struct ini_list *items);
/* The device hears nothing more. */
void portals_stop(struct portals *p);
/* Also after a failed portals_init(). */
void portals_fini(struct portals *p);

#endif /* PROGRAMS_PORTALS_H */
