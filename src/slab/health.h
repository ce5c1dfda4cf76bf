/* SPDX-License-Identifier: MIT */
/*
 * health.h - how a daemon that is up is doing.
 *
 *   ok            operations complete
 *   suspect       something is under way to it and nothing has completed for hedge_ns:
 *                 what the backup has is read there, until something completes well
 *   control dead  PING is not answered in time, but its memory is: its slabs are used on,
 *                 new ones are not mapped there; given up after control_timeout_ns
 *
 * Signs of life of the memory are completions: those of pages, and of READs of the
 * epoch page, which are made when there has been none for probe_ns.  Only a daemon that
 * holds slabs of ours is probed: of another PING is all that matters.
 *
 * Part of a remote, whose session remote.c drives; no time of its own, see core_timer.h.
 */
#ifndef SLAB_HEALTH_H
#define SLAB_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "slab/core_timer.h"
#include "slab/device.h"
#include "transport/transport.h"
#include "wire/ctl.h"

struct remote;

/* The probe's private buffer. */
#define HEALTH_WORD_BYTES 8u

struct remote_health {
	bool is_suspect;
	bool is_control_dead;
	bool is_pong_overdue; /* PING was not answered in time; a sign of the memory decides */
	bool has_sign;	      /* of the memory, since the PING that waits */
	uint64_t silent_ns;   /* since when something is under way and nothing completed; 0: not */
	struct core_timer probe_timer;
	struct core_timer late_timer; /* until a PING without answer needs a look at the memory */
	struct core_timer control_timer;
	/* From WELCOME; address and rkey 0: there is no epoch page. */
	uint64_t epoch;
	uint64_t epoch_addr;
	uint32_t epoch_rkey;
	struct tp_op probe_op;
	bool is_probing;
	uint64_t probe_posted_ns; /* 0: not stamped yet */
};

/* Buffers of the probes of @n_remotes, from the device's pool.  -ENOMEM. */
int health_init(struct slab_device *d, uint32_t n_remotes);

/* The session is up. */
void health_begin(struct remote *r, const struct ctl_welcome *welcome);
/* The session ends.  A probe that is under way ends with the connection. */
void health_end(struct remote *r);
/* An operation has completed well. */
void health_sign(struct remote *r);
/* PING was sent; its answer came. */
void health_ping(struct remote *r);
void health_pong(struct remote *r);
/* PING was not answered in time.  False: nothing speaks for the daemon. */
bool health_outlives_ping(struct remote *r);
/* Does what is due; lowers *@next_ns.  May end the session. */
void health_advance(struct remote *r, uint64_t now_ns, uint64_t *next_ns);

enum slab_daemon_state health_state(const struct remote *r);
/* It may get new slabs. */
bool health_may_map(const struct remote *r);
/* The backup is asked first, where it has the page. */
bool health_is_avoided(const struct remote *r);

#endif /* SLAB_HEALTH_H */
