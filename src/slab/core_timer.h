/* SPDX-License-Identifier: MIT */
/*
 * core_timer.h - deadlines for a core that has no clock.
 *
 * Arming happens inside callbacks, where the time is not known; the deadline is
 * fixed at the next advance, which runs before the loop sleeps.
 */
#ifndef SLAB_CORE_TIMER_H
#define SLAB_CORE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct core_timer {
	uint64_t after_ns;
	uint64_t at_ns; /* 0: not fixed yet */
	bool is_armed;
};

static inline void
core_timer_arm(struct core_timer *t, uint64_t after_ns)
{
	*t = (struct core_timer){.after_ns = after_ns, .is_armed = true};
}

static inline void
core_timer_stop(struct core_timer *t)
{
	t->is_armed = false;
}

/* True once when @t is due; lowers *@next_ns to its deadline otherwise. */
static inline bool
core_timer_is_due(struct core_timer *t, uint64_t now_ns, uint64_t *next_ns)
{
	if (!t->is_armed)
		return false;
	if (t->at_ns == 0)
		t->at_ns = now_ns + t->after_ns;
	if (t->at_ns <= now_ns) {
		t->is_armed = false;
		return true;
	}
	if (t->at_ns < *next_ns)
		*next_ns = t->at_ns;
	return false;
}

#endif /* SLAB_CORE_TIMER_H */
