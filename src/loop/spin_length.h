/* SPDX-License-Identifier: MIT */
/*
 * spin_length.h - how long to poll before sleeping, learned from how long waits are.  Pure.
 *
 * A wait begins when work is done and ends when there is more.  Polling pays when
 * waits are short: then no wake-up is waited for.  So the length grows to twice a wait
 * that was slept through although it ended within the limit, but only at the second one
 * in a row (a daemon that answers a PING is no load); and it falls to 0 at a wait longer
 * than the limit, which no polling would have shortened.
 */
#ifndef LOOP_SPIN_LENGTH_H
#define LOOP_SPIN_LENGTH_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed but for the limit: nothing learned yet. */
struct spin_length {
	uint64_t limit_ns;
	uint64_t length_ns; /* at most limit_ns */
	uint64_t begun_ns;  /* the wait */
	uint64_t seen_ns;   /* the last turn */
	uint32_t short_waits;
	bool has_spun; /* in this wait */
	bool is_asleep;
	uint64_t spun_ns;      /* turns that found nothing to do */
	uint64_t paid_total;   /* waits that ended while polling */
	uint64_t unpaid_total; /* polled in vain, then slept */
};

/*
 * spin_length_turn - before each poll.  @had_work: whether there was something to do since
 * the last one.  Returns whether to poll without sleeping; if not, spin_length_woken()
 * comes next.
 */
bool spin_length_turn(struct spin_length *s, uint64_t now_ns, bool had_work);
/* After a poll that was allowed to sleep. */
void spin_length_woken(struct spin_length *s, uint64_t now_ns);

#endif /* LOOP_SPIN_LENGTH_H */
