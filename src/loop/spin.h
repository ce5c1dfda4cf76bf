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

#include "common/spin_stats.h"
#include "loop/spin_length.h"

struct spin {
	ev_prepare prepare;
	ev_check check;
	ev_idle idle;
	struct ev_loop *loop;
	struct spin_length length;
	uint32_t expected; /* see spin_expect() */
	bool was_empty;	   /* the last turn: no watcher was called ... */
	bool had_work;	   /* ... but a queue that was looked at had something */
	bool is_alone;	   /* one processor only */
	bool is_polling;
	bool is_held;
};

/*
 * spin_start - with a limit of @limit_us; 0: never.  Where this process may use one processor
 * only, which whoever brings the work needs, it polls only for what is expected.  @s stays in
 * place until spin_stop().
 */
void spin_start(struct spin *s, struct ev_loop *loop, uint32_t limit_us);
/* While held, the loop sleeps whenever it has nothing to do. */
void spin_hold(struct spin *s, bool is_held);
/* Harmless when zeroed. */
void spin_stop(struct spin *s);

/* The one of @loop; NULL: none. */
struct spin *spin_of(struct ev_loop *loop);
/* Whether the next poll does not sleep.  @s may be NULL. */
bool spin_is_polling(const struct spin *s);
/* Something was given to a device that brings the answer without a processor of ours; each is
 * ended by the other one. */
void spin_expect(struct spin *s);
void spin_expect_no_more(struct spin *s);
/* From a check watcher of the turn that looked at a queue, and found something. */
void spin_had_work(struct spin *s);

void spin_get_stats(const struct spin *s, struct spin_stats *ret_stats);

#endif /* LOOP_SPIN_H */
