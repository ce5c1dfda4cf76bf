/* SPDX-License-Identifier: MIT */
/* world.h - a whole cluster: what the files of the simulator share. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/rng.h"
#include "sim/clock.h"
#include "sim/daemon_host.h"
#include "sim/device_host.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/net.h"
#include "sim/oracle.h"
#include "sim/peer.h"
#include "sim/plan.h"
#include "sim/trace.h"

struct sim {
	struct plan plan;
	struct rng rng;
	struct sim_clock clock;
	struct sim_net net;
	struct trace trace;
	struct sim_device_host devices[SIM_DEVICES_MAX];
	struct sim_daemon_host daemons[SIM_DAEMONS_MAX];
	struct sim_peer peers[SIM_PEERS_MAX];
	struct sim_fault_run faults[SIM_FAULTS_MAX];
	struct sim_event next_op_ev;
	uint32_t next_op;
	uint32_t op_order[SIM_OPS_MAX];
	bool is_healed;
	bool is_ending;		      /* who ends stays away */
	uint64_t counts[FAULT_KINDS]; /* how often each really happened */
	uint64_t sights[SIGHT_KINDS];
	uint64_t n_requests;
	uint64_t n_resumes;
	/* What the foreign clients did. */
	uint64_t n_peer_maps;
	uint64_t n_peer_unmaps;
	uint64_t n_hostile;
};

static inline uint64_t
sim_now(const struct sim *sim)
{
	return sim->clock.now_ns;
}

#define SIM_TRACE(sim, format, word, ...) SIM_TRACE_(sim, format, word, __VA_ARGS__, 0, 0, 0, 0, 0)
#define SIM_TRACE_(sim, format, word, a, b, c, d, e, ...)                                          \
	trace_add(&(sim)->trace, (sim)->clock.now_ns, format, word, (uint64_t)(a), (uint64_t)(b),  \
		  (uint64_t)(c), (uint64_t)(d), (uint64_t)(e))

static inline struct sim_host *
sim_host_at(struct sim *sim, uint32_t index)
{
	if (index < SIM_DEVICES_MAX)
		return &sim->devices[index].host;
	if (index < SIM_DEVICES_MAX + SIM_DAEMONS_MAX)
		return &sim->daemons[index - SIM_DEVICES_MAX].host;
	return &sim->peers[index - SIM_DEVICES_MAX - SIM_DAEMONS_MAX].host;
}

#endif /* TESTS_SIM_WORLD_H */
