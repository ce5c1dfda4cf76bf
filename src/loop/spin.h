/* SPDX-License-Identifier: MIT */
/*
 * spin.h - a loop that polls for a while before it sleeps: waking up takes longer than
 * most requests.
 *
 * As long as there was work (a ready descriptor, a timer, something deferred) less
 * than the current length ago, the poll does not block.  The length is learned
 * (spin_length.h) and never above the limit, so an idle loop sleeps.  Each round is a
 * whole turn of the loop: timers, other descriptors and completions are served as ever,
 * and a busy loop does not notice.
 */
#ifndef LOOP_SPIN_H
#define LOOP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "common/spin_stats.h"
#include "loop/spin_length.h"

/*
 * A queue that can either wake the loop, at a price, or be looked at.  While the loop
 * polls it may stop waking it, and calls spin_watch(); it looks at the queue in each turn,
 * and says spin_had_work() when there was something.
 */
struct spin_poller {
	struct list node;
	/* Before the loop sleeps: the queue has to wake it again.  No longer watched.  Returns
	 * whether there is something to do at once. */
	bool (*sleeps)(struct spin_poller *p);
};

struct spin {
	ev_prepare prepare;
	ev_check check;
	ev_idle idle;
	struct ev_loop *loop;
	struct spin_length length;
	struct list pollers;
	bool was_empty; /* the last turn: no watcher was called ... */
	bool had_work;	/* ... but a poller found something */
	bool is_polling;
	bool is_held;
};

/*
 * spin_start - with a limit of @limit_us; 0: never.  Nor where this
 * process may use one processor only, which whoever brings the work needs.  @s stays in
 * place until spin_stop().
 */
void spin_start(struct spin *s, struct ev_loop *loop, uint32_t limit_us);
/* While held, the loop sleeps whenever it has nothing to do. */
void spin_hold(struct spin *s, bool is_held);
/* Harmless when zeroed.  Pollers are told that the loop sleeps. */
void spin_stop(struct spin *s);

/* The one of @loop; NULL: none. */
struct spin *spin_of(struct ev_loop *loop);
/* Whether the next poll does not sleep.  @s may be NULL. */
bool spin_is_polling(const struct spin *s);
/* While it polls; until sleeps(), or list_del() of its node. */
void spin_watch(struct spin *s, struct spin_poller *p);
/* From a check watcher of the turn. */
void spin_had_work(struct spin *s);

void spin_get_stats(const struct spin *s, struct spin_stats *ret_stats);

#endif /* LOOP_SPIN_H */
