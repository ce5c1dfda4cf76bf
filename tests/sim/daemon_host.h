/* SPDX-License-Identifier: MIT */
/* daemon_host.h - a machine that lends: the real daemon core, its memory, its listener. */
#ifndef TESTS_SIM_DAEMON_HOST_H
#define TESTS_SIM_DAEMON_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/host.h"
#include "sim/memory.h"

struct daemon;
struct tp_region;

struct sim_daemon_host {
	struct sim_host host; /* first */
	uint32_t index;
	struct daemon *daemon;
	struct sim_memory memory;
	struct tp_listener *listener;
	uint8_t epoch[8];
	struct tp_region *epoch_region;
	bool is_stopping;     /* from the drain on */
	bool is_told_to_stop; /* by daemon_stop() */
	uint64_t drain_until_ns;
	bool is_stopped; /* daemon_stop() has ended */

	struct sim_event look_ev; /* the next look at the host's memory */
	uint32_t others_slabs;	  /* memory of other programs that is usually free, in slabs */
	uint32_t psi_centi;
	uint64_t n_turns;
	uint64_t short_ns; /* below the headroom, and not asked for more, since; 0: it is not */
};

/* In slabs. */
#define SIM_HOST_SLABS 64u
#define SIM_HEADROOM_SLABS 4u

void sim_daemon_init(struct sim_daemon_host *dh, struct sim *sim, uint32_t index);
void sim_daemon_start(struct sim_daemon_host *dh);
/* The process dies.  @is_told: its peers hear of it. */
void sim_daemon_kill(struct sim_daemon_host *dh, bool is_told);
/* An orderly end; is_up is false when it is over. */
void sim_daemon_stop(struct sim_daemon_host *dh);

/* The same, but slabs are asked back first. */
void sim_daemon_drain(struct sim_daemon_host *dh);
/* Other programs take so much that @n_short slabs are missing at the headroom; 0: they do not. */
void sim_daemon_set_memory(struct sim_daemon_host *dh, uint32_t n_short, uint32_t psi_centi);
/* Memory that is available, in slabs. */
uint32_t sim_daemon_available(const struct sim_daemon_host *dh);

#endif /* TESTS_SIM_DAEMON_HOST_H */
