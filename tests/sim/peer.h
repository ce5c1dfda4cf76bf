/* SPDX-License-Identifier: MIT */
/*
 * peer.h - a foreign client of the daemons: maps, unmaps, reads, writes, says things
 * that do not fit, falls silent, goes away.  It knows what it may see: zeros in a
 * new slab, its own bytes afterwards, nothing after UNMAPPED.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include "sim/host.h"

struct sim_peer {
	struct sim_host host; /* first */
	uint32_t index;
};

#endif /* TESTS_SIM_PEER_H */
