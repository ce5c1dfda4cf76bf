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
	bool is_stopping;
	bool is_stopped; /* daemon_stop() has ended */
};

void sim_daemon_init(struct sim_daemon_host *dh, struct sim *sim, uint32_t index);
void sim_daemon_start(struct sim_daemon_host *dh);
/* The process dies.  @is_told: its peers hear of it. */
void sim_daemon_kill(struct sim_daemon_host *dh, bool is_told);
/* An orderly end; is_up is false when it is over. */
void sim_daemon_stop(struct sim_daemon_host *dh);

#endif /* TESTS_SIM_DAEMON_HOST_H */
