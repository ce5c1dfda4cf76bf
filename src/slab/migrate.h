/* SPDX-License-Identifier: MIT */
/*
 * migrate.h - a slab that its daemon wants back moves to another daemon, while it is used.
 *
 *   PLACE   another daemon is looked for (placement.h); the slab is MAPPED as ever.
 *   COPY    the slab is MIGRATING and has two homes: arena_slab says where the new one is, the
 *           migration where the old one was.  Two bitmaps say where a page with a remote bit
 *           is: at_old, at_new, or both.  Reads go to the new home if the page is there, else
 *           to the old one.  Writes and promotions go to the new home; a write clears both
 *           bits before it begins.  fill.c copies what is not at_new; a copied page stays
 *           at_old as well until it is written, so that losing either daemon loses nothing.
 *   SAY     every page is at_new, no operation to the old home is in flight, and the backup
 *           has what was written there: the slab is MAPPED at its new home, DONE (or
 *           UNMAP) goes to the old daemon.
 *   TOLD    UNMAP was sent: until UNMAPPED comes.
 *   ORPHAN  the slab was given up while another daemon was looked for: what that daemon may
 *           still lend us goes back with SAY and TOLD.  Until then the slab is not mapped.
 *
 * From PLACE: nobody has room, or half of the deadline has passed: plain eviction (evict.h).
 * From COPY:
 *   - at 3/4 of the deadline, at a stop, or when the new daemon wants the slab back too: pages
 *     that the backup has and that are not at_new lose their remote bit; again and again,
 *     until nothing is left that is only at the old home.
 *   - the old home is given up when the backup has every write that was answered by it, as in
 *     plain eviction.
 *   - the new daemon is lost: what is at_old stays, plain eviction from the old home.
 *   - the old daemon is lost, or its deadline comes: what is at_new stays; MAPPED there.
 *   - a page that neither the backup nor the remaining home has is lost: it keeps its remote
 *     bit and is in neither bitmap, and the slab stays MIGRATING until it is written or trimmed.
 *   - both are lost: as ever (slab_table.c).
 */
#ifndef SLAB_MIGRATE_H
#define SLAB_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "slab/core_timer.h"
#include "slab/fill.h"

#define MIGRATIONS_MAX 4u

struct ctl_evict;
struct remote;
struct slab_device;

/* One mapping of a slab. */
struct slab_home {
	uint32_t daemon;
	uint32_t generation;
	uint32_t rkey;
	uint64_t remote_addr;
};

enum migrate_step {
	MIGRATE_NOT = 0,
	MIGRATE_PLACE,
	MIGRATE_COPY,
	MIGRATE_SAY,
	MIGRATE_TOLD,
	MIGRATE_ORPHAN,
};

struct migration {
	enum migrate_step step;
	uint32_t slab;
	uint32_t request_id;  /* of the old daemon's EVICT; 0: we give it back */
	struct slab_home old; /* from COPY on; in SAY and TOLD the one to be given up */
	bool is_old_lost;
	bool is_hurried; /* pages that the backup has are not worth waiting for */

	/* COPY: by block of the slab. */
	uint32_t *at_old;
	uint32_t *at_new;
	uint32_t n_unmoved; /* pages with a remote bit that are not at_new */
	uint32_t n_ops;	    /* of the old home: see slab_run */
	uint32_t n_unsafe;
	struct fill_place fill_place;
	struct core_timer pass_timer; /* until copying begins at the slab's front again */

	struct core_timer place_timer;
	struct core_timer hurry_timer;
	struct core_timer sweep_timer;
	struct core_timer deadline_timer;
	uint32_t next_request_id; /* not 0: of the new daemon's EVICT, begun afterwards */
	struct core_timer next_deadline_timer;
	uint64_t began_ns; /* 0: not looked at yet */
};

/* Room for the bitmaps.  Returns 0 or -ENOMEM. */
int migrations_init(struct slab_device *d);
void migrations_fini(struct slab_device *d);

/*
 * migrate_begin - @slab, which is MAPPED, is wanted back within @within_ns (0: no deadline).
 * @request_id: of EVICT, or 0.  False: it is not worth it or not possible; evict it plainly.
 */
bool migrate_begin(struct slab_device *d, uint32_t slab, uint32_t request_id, uint64_t within_ns);
/* It would be worth it, but MIGRATIONS_MAX others are under way. */
bool migrate_must_wait(struct slab_device *d, uint32_t slab);
/* EVICT of @r came; true when it is one of a slab on the move, and dealt with. */
bool migrate_asked(struct remote *r, uint32_t request_id, const struct ctl_evict *which);
/* UNMAP of @slab was answered by @r; false when it was not one of ours. */
bool migrate_unmapped(struct remote *r, uint32_t slab);
/* @r is lost. */
void migrate_lost(struct remote *r);
/* Takes the steps that are possible.  Returns when to look again at the latest. */
uint64_t migrate_advance(struct slab_device *d, uint64_t now_ns);

/* The migration of @slab in COPY, or NULL. */
struct migration *migration_of(const struct slab_device *d, uint32_t slab);

#endif /* SLAB_MIGRATE_H */
