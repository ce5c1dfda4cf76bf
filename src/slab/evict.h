/* SPDX-License-Identifier: MIT */
/*
 * evict.h - a slab goes back to its daemon while both live.
 *
 * Its daemon asks (EVICT, answered with DONE), or we give it back (UNMAP, answered with
 * UNMAPPED); either way the slab is EVICTING and takes these steps:
 *
 *   DRAIN  nothing new goes to it: writes go to the backup only, their remote bits cleared;
 *          its pages are still read, degraded ones repaired.  Until no page is only there:
 *          every write that has a copy there is on the backup, no page is degraded.
 *   CLOSE  its remote bits are cleared, nothing is read any more.  Until no operation to it
 *          is in flight.
 *   then   DONE is sent: the slab is UNMAPPED.  Or UNMAP is sent:
 *   TOLD   until UNMAPPED comes.
 *
 * So nothing of ours can touch the memory once DONE or UNMAP is sent, and every page is on
 * the backup or in a buffer.  Nothing is searched and nobody sleeps: slab_run counts.
 *
 * Failure modes:
 *   - the backup refuses pages: no DONE; the daemon's deadline decides.  At 7/8 of it what
 *     can be read from the backup is, so that nothing of ours is in flight when the daemon
 *     revokes; at the deadline the memory is no longer ours: pages that only it had are lost.
 *   - the daemon is lost: its slabs are unmapped (slab_table.c), their evictions end.
 *   - DONE cannot be queued: again a little later.  ACTIVITY cannot: not sent; the daemon
 *     takes the slab for an idle one.
 *   - EVICT or CHECK_ACTIVITY of what is not held (the answer to it is under way): no answer.
 *   - EVICT again: the newest request is answered; the first deadline stays.
 *   - UNMAP refused: the daemon has taken the slab already, which is as good.
 */
#ifndef SLAB_EVICT_H
#define SLAB_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "slab/core_timer.h"

struct ctl_msg;
struct remote;
struct slab_device;

enum evict_step {
	EVICT_NOT = 0,
	EVICT_DRAIN,
	EVICT_CLOSE,
	EVICT_TOLD,
};

/* Of one slab. */
struct slab_evict {
	struct list node; /* slab_device.evicting, unless EVICT_NOT */
	enum evict_step step;
	uint32_t request_id; /* of EVICT; 0: we give it back */
	uint64_t began_ns;   /* 0: not looked at yet */
	struct core_timer quiet_timer;
	struct core_timer deadline_timer; /* of EVICT; in TOLD: of the answer */
};

/*
 * slab_evict_begin - give @slab back.
 * @move_within_ns: not 0: its pages are moved to another daemon first (migrate.h) if that is
 * worth it and possible in that time.  Returns false when it is not MAPPED, or on its way
 * already, or worth to be moved while MIGRATIONS_MAX others are, or has pages of which there is
 * no backup and that cannot be moved: to be tried again.
 */
bool slab_evict_begin(struct slab_device *d, uint32_t slab, uint64_t move_within_ns);
/* @slab is MAPPED.  @deadline: a running timer, may be unarmed; @began_ns: 0: now. */
void evict_from(struct slab_device *d, uint32_t slab, uint32_t request_id,
		const struct core_timer *deadline, uint64_t began_ns);
/* DONE, or UNMAP when @request_id is 0; false: not yet, or the session has ended. */
bool evict_say(struct remote *r, uint32_t request_id, uint32_t slab, uint32_t generation,
	       uint64_t now_ns, uint64_t *next_ns);
/* An eviction has taken @took_ns until DONE. */
void evict_count(struct slab_device *d, uint64_t took_ns);
/* Takes the steps that are possible.  Returns when to look again at the latest. */
uint64_t evict_advance(struct slab_device *d, uint64_t now_ns);
/* The mapping of @slab has ended otherwise. */
void evict_cancel(struct slab_device *d, uint32_t slab);

/* Messages of @r, which is UP. */
void evict_check_activity(struct remote *r, const struct ctl_msg *msg);
void evict_asked(struct remote *r, const struct ctl_msg *msg);
/* UNMAPPED, or UNMAP was refused; false when it does not fit (a protocol error). */
bool evict_unmapped(struct remote *r, uint32_t request_id);

#endif /* SLAB_EVICT_H */
