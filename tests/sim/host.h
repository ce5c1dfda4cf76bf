/* SPDX-License-Identifier: MIT */
/*
 * host.h - a machine with one loop: its core's turn runs soon after anything
 * happened there, and when the core asked for it.  A host can stand still for a
 * while: what is meant for it then waits.
 */
#ifndef TESTS_SIM_HOST_H
#define TESTS_SIM_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/clock.h"
#include "transport/transport.h"

struct sim;

struct sim_host {
	struct sim *sim;
	uint32_t index; /* among all hosts */
	bool is_up;	/* the process runs */
	bool is_off;	/* the machine is off: nobody answers, not even with a refusal */
	uint64_t paused_until_ns;
	struct sim_event wake_ev;
	/* One turn of the core; returns when the next is due at the latest. */
	uint64_t (*turn)(struct sim_host *h);
	struct tp *tp;
	uint64_t troubled_until_ns; /* faults that touched it may be felt up to then */
	uint64_t broken_until_ns;   /* ... those that do more than let its loop stand still */
};

void sim_host_init(struct sim_host *h, struct sim *sim, uint32_t index,
		   uint64_t (*turn)(struct sim_host *h));
/* Something happened here: a turn follows. */
void sim_host_touch(struct sim_host *h);
/* The host stands still: queues @ev for when it goes on, and returns true. */
bool sim_host_is_late(struct sim_host *h, struct sim_event *ev);
/* It stands still; what waits already is not moved, so a pause never ends earlier. */
void sim_host_pause(struct sim_host *h, uint64_t until_ns);
void sim_host_trouble(struct sim_host *h, uint64_t until_ns, bool is_broken);

#endif /* TESTS_SIM_HOST_H */
