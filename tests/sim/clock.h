/* SPDX-License-Identifier: MIT */
/*
 * clock.h - virtual time: a queue of events, the earliest first, and of two at the
 * same moment the one that was queued first.  Events are embedded in what they
 * are about, so nothing is allocated and each can be taken back.
 */
#ifndef TESTS_SIM_CLOCK_H
#define TESTS_SIM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct sim_event;
typedef void sim_fire_fn(struct sim_event *ev);

struct sim_event {
	sim_fire_fn *fire;
	uint64_t at_ns;
	uint64_t serial;
	uint32_t place; /* in the heap, from 1; 0: not queued */
};

struct sim_clock {
	uint64_t now_ns;
	uint64_t serial;
	uint64_t n_fired;
	struct sim_event **heap; /* kept from run to run */
	uint32_t n;
	uint32_t room;
};

/* Empties the queue; time begins again. */
void sim_clock_reset(struct sim_clock *c);
void sim_clock_fini(struct sim_clock *c);
/* Queues @ev, or moves it. */
void sim_clock_at(struct sim_clock *c, struct sim_event *ev, uint64_t at_ns);
void sim_clock_cancel(struct sim_clock *c, struct sim_event *ev);
/* Moves on to the next event and runs it; false: there is none up to @until_ns. */
bool sim_clock_step(struct sim_clock *c, uint64_t until_ns);

static inline bool
sim_event_is_queued(const struct sim_event *ev)
{
	return ev->place != 0;
}

#endif /* TESTS_SIM_CLOCK_H */
