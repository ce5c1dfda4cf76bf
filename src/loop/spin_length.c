/* SPDX-License-Identifier: MIT */
#include "loop/spin_length.h"

#include <assert.h>

/* In a row, before anything is spent. */
#define SHORT_WAITS 2u

bool
spin_length_turn(struct spin_length *s, uint64_t now_ns, bool had_work)
{
	assert(!s->is_asleep);
	if (had_work) {
		if (s->has_spun)
			s->paid_total++;
		s->has_spun = false;
		s->begun_ns = now_ns;
	} else {
		s->spun_ns += now_ns - s->seen_ns;
		s->has_spun = true;
	}
	s->seen_ns = now_ns;
	if (now_ns - s->begun_ns < s->length_ns)
		return true;
	if (s->has_spun)
		s->unpaid_total++;
	s->has_spun = false;
	s->is_asleep = true;
	return false;
}

void
spin_length_woken(struct spin_length *s, uint64_t now_ns)
{
	const uint64_t waited_ns = now_ns - s->begun_ns;
	uint64_t wanted_ns = 2 * waited_ns;

	assert(s->is_asleep);
	s->is_asleep = false;
	if (waited_ns > s->limit_ns) {
		s->length_ns = 0;
		s->short_waits = 0;
		return;
	}
	if (s->short_waits < SHORT_WAITS)
		s->short_waits++;
	if (s->short_waits < SHORT_WAITS)
		return;
	if (wanted_ns > s->limit_ns)
		wanted_ns = s->limit_ns;
	if (wanted_ns > s->length_ns)
		s->length_ns = wanted_ns;
}
