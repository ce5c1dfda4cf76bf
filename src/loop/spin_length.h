/* SPDX-License-Identifier: MIT */
/*
 * spin_length.h - how long to poll before sleeping, learned from how long waits are.  Pure.
 *
 * A wait begins when work is done and ends when there is more.  Polling pays when
 * waits are short: then no wake-up is waited for.  Two waits in a row that were slept
 * through and ended within the limit (one is no load: a daemon that answers a PING) make
 * the length twice the longer one.  Polling in vain, or a wait longer than the limit, which
 * no polling shortens, make it 0.  Each time that it was in vain twice as many short waits
 * are asked for, each time that it paid half as many: where waits end only when we sleep,
 * since whoever brings the work needs the processor, little is spent.
 */
#ifndef LOOP_SPIN_LENGTH_H
#define LOOP_SPIN_LENGTH_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed but for the limit: nothing learned yet. */
struct spin_length {
	uint64_t limit_ns;
	uint64_t length_ns;	/* at most limit_ns */
	uint64_t begun_ns;	/* the wait */
	uint64_t seen_ns;	/* the last turn */
	uint64_t longest_ns;	/* of the short waits ... */
	uint32_t short_waits;	/* ... in a row that were slept through ... */
	uint32_t waits_doubled; /* ... of 2 << this */
	bool has_spun;		/* in this wait */
	bool is_asleep;
	bool is_learning;      /* from this sleep */
	uint64_t spun_ns;      /* turns that found nothing to do */
	uint64_t paid_total;   /* waits that ended while polling */
	uint64_t unpaid_total; /* polled in vain, then slept */
};

/*
 * spin_length_turn - before each poll.  @had_work: whether there was something to do since
 * the last one.  @may_poll: else it sleeps, and nothing is learned from how long.  Returns whether
 * to poll without sleeping; if not, spin_length_woken() comes next.
 */
bool spin_length_turn(struct spin_length *s, uint64_t now_ns, bool had_work, bool may_poll);
/* After a poll that was allowed to sleep. */
void spin_length_woken(struct spin_length *s, uint64_t now_ns);

#endif /* LOOP_SPIN_LENGTH_H */
