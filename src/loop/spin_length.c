/* SPDX-License-Identifier: MIT */
#include "loop/spin_length.h"

#include <assert.h>

/* In a row, before anything is spent. */
#define SHORT_WAITS 2u
#define DOUBLED_MAX 8u

static void
forget(struct spin_length *s)
{
	s->length_ns = 0;
	s->longest_ns = 0;
	s->short_waits = 0;
}

static void
end_paid(struct spin_length *s)
{
	s->paid_total++;
	if (s->waits_doubled > 0)
		s->waits_doubled--;
}

static void
end_unpaid(struct spin_length *s)
{
	s->unpaid_total++;
	if (s->waits_doubled < DOUBLED_MAX)
		s->waits_doubled++;
	forget(s);
}

bool
spin_length_turn(struct spin_length *s, uint64_t now_ns, bool had_work, bool may_poll)
{
	assert(!s->is_asleep);
	if (had_work) {
		if (s->has_spun)
			end_paid(s);
		s->has_spun = false;
		s->begun_ns = now_ns;
	} else {
		s->spun_ns += now_ns - s->seen_ns;
		s->has_spun = true;
	}
	s->seen_ns = now_ns;
	if (may_poll && now_ns - s->begun_ns < s->length_ns)
		return true;
	if (may_poll && s->has_spun)
		end_unpaid(s);
	s->is_learning = may_poll;
	s->is_asleep = true;
	return false;
}

void
spin_length_woken(struct spin_length *s, uint64_t now_ns)
{
	const uint64_t waited_ns = now_ns - s->begun_ns;

	assert(s->is_asleep);
	s->is_asleep = false;
	s->seen_ns = now_ns;
	if (!s->is_learning) {
		s->has_spun = false;
		return;
	}
	if (waited_ns > s->limit_ns)
		forget(s);
	/* How long it was says something only when we were not in the way. */
	if (waited_ns > s->limit_ns || s->has_spun) {
		s->has_spun = false;
		return;
	}
	if (waited_ns > s->longest_ns)
		s->longest_ns = waited_ns;
	if (++s->short_waits < SHORT_WAITS << s->waits_doubled)
		return;
	s->length_ns = 2 * s->longest_ns < s->limit_ns ? 2 * s->longest_ns : s->limit_ns;
}
