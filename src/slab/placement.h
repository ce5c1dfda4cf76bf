/* SPDX-License-Identifier: MIT */
/*
 * placement.h - which daemon a slab is mapped on (paper 4.2).
 *
 *   placement_start -> draw: `choices` daemons at random, those that hold no slab of this
 *   device (M_new) before those that do (M_old) -> QUERY_MEM to all of them -> answers ->
 *   MAP to the best: M_new first, then the lowest memory usage -> MR_INFO -> done()
 *
 * Where there is only one to ask, it gets MAP at once.  MAP reserves: a daemon's answer to
 * QUERY_MEM is a hint, and who is too late is refused and goes on with the next best of those
 * asked, then with a fresh draw among those that were not.
 *
 * Nothing waits for a silent daemon: a usable answer waits for the others a moment only
 * (PLACEMENT_GRACE_NS), without one more daemons are asked soon (PLACEMENT_PATIENCE_NS), and a
 * QUERY_MEM without answer costs the daemon nothing but this candidacy.  Placements do not
 * know of each other; answers may come in any order.
 *
 * Failure modes: no daemon has room, none answers in time, all refuse or are lost: done()
 * without a daemon.  After silence the slab is not placed again before the next period.
 */
#ifndef SLAB_PLACEMENT_H
#define SLAB_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "slab/core_timer.h"

#define PLACEMENTS_MAX 16u
/* Most daemons of one draw: [placement] choices. */
#define PLACEMENT_CHOICES_MAX 8u
/* Most that one placement asks at a time. */
#define PLACEMENT_ASKED_MAX 16u
#define PLACEMENT_GRACE_NS UINT64_C(2000000)
#define PLACEMENT_PATIENCE_NS UINT64_C(50000000)

struct ctl_free_mem;
struct ctl_mr_info;
struct remote;
struct slab_device;

/*
 * @r gave its memory to @slab: @info.  Returns false when that does not fit: the session ends,
 * and others are tried.  @r NULL: no daemon was found.
 */
typedef bool placement_done_fn(struct slab_device *d, uint32_t slab, struct remote *r,
			       const struct ctl_mr_info *info);

enum placement_answer {
	PLACEMENT_WAITS = 1, /* for the answer to QUERY_MEM */
	PLACEMENT_USABLE,    /* may get MAP */
	PLACEMENT_MAPS,	     /* has got it */
	PLACEMENT_OUT,
};

struct placement_asked {
	struct remote *remote;
	uint32_t request_id;
	enum placement_answer answer;
	bool is_new; /* held no slab of this device */
	uint32_t usage_permille;
};

struct placement {
	struct list node; /* placements.running or .idle */
	uint32_t slab;
	uint32_t generation; /* of the newest MAP */
	placement_done_fn *done;
	bool is_due;	 /* something happened: a step may be possible */
	bool was_silent; /* somebody did not answer */
	bool is_grace_over;
	uint32_t n_asked;
	struct placement_asked asked[PLACEMENT_ASKED_MAX];
	uint64_t *tried;		  /* a bit for each remote: drawn, or excluded */
	struct core_timer grace_timer;	  /* since the first usable answer */
	struct core_timer patience_timer; /* since the draw, until one */
	struct core_timer query_timer;
};

struct placements {
	struct placement all[PLACEMENTS_MAX];
	struct list running;
	struct list idle;
	uint64_t *tried;
	uint32_t n_tried_words; /* of one placement */
	uint32_t query_serial;	/* of the newest QUERY_MEM */
	bool is_due;		/* one of them is */
	bool is_hopeless;	/* no daemon could be asked, and nothing has changed since */
};

/* Room for @n_remotes.  Returns 0 or -ENOMEM. */
int placements_init(struct slab_device *d, uint32_t n_remotes);
void placements_fini(struct slab_device *d);

/*
 * placement_start - find a daemon for @slab, other than @exclude (may be NULL).
 * @done: runs once, from a later advance or message, unless this returned false: nobody can be
 * asked now, or PLACEMENTS_MAX are under way.
 */
bool placement_start(struct slab_device *d, uint32_t slab, const struct remote *exclude,
		     placement_done_fn *done);
/* Takes the steps that are possible.  Returns when to look again at the latest. */
uint64_t placements_advance(struct slab_device *d, uint64_t now_ns);
/* Something was said by @r that may make it a candidate. */
void placement_hope(struct slab_device *d);

/* Messages of @r, which is UP.  False: it does not fit what was asked (a protocol error). */
bool placement_answered(struct remote *r, uint32_t request_id, const struct ctl_free_mem *mem);
bool placement_mapped(struct remote *r, const struct ctl_mr_info *info);
bool placement_refused(struct remote *r, uint32_t slab);
/* @r is lost. */
void placement_lost(struct remote *r);

#endif /* SLAB_PLACEMENT_H */
