/* SPDX-License-Identifier: MIT */
/*
 * peer.h - a foreign client of one daemon: maps, unmaps, reads, writes, says things
 * that do not fit, falls silent, goes away and comes back.
 *
 * It judges what it sees: a new slab holds zeros, then its own bytes (daemon 1);
 * after UNMAPPED an access fails (daemon 2).  Some are asked for their slabs in vain.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/host.h"
#include "wire/ctl.h"

#define SIM_PEER_SLABS 4u
#define SIM_PEER_BYTES 4096u

/* What it answers when its daemon wants slabs back. */
enum sim_peer_manner {
	PEER_HONEST = 0,
	PEER_MUTE, /* nothing, and goes on using them */
	PEER_LIAR, /* anything */
};

struct sim_peer_slab {
	struct ctl_mr_info info;
	bool is_mapped;
	bool is_unmapping;  /* UNMAP was sent */
	bool was_unmapped;  /* UNMAPPED came: info must not work any more */
	bool is_evicted;    /* EVICT came: it may be gone any time */
	uint32_t evict_id;  /* of the EVICT that is not answered; 0: none */
	bool is_written[4]; /* our bytes are in the page */
	uint32_t generation;
	uint32_t map_id;   /* of the MAP that is not answered; 0: none */
	uint32_t unmap_id; /* of the UNMAP while is_unmapping */
};

struct sim_peer {
	struct sim_host host; /* first */
	uint32_t index;
	uint32_t daemon;
	char address[8];
	struct tp_conn *conn; /* NULL: none */
	struct tp_region *region;
	struct sim_event tick_ev;
	struct sim_peer_slab slabs[SIM_PEER_SLABS];
	uint8_t hello[CTL_MESSAGE_BYTES_MAX];
	uint32_t hello_bytes;
	uint32_t request_id;
	uint32_t n_silent; /* ticks that it says nothing */
	bool is_joined;
	bool is_hostile;
	enum sim_peer_manner manner;
	bool has_garbled; /* on this connection: it may get answers to anything */
	bool is_ending;	  /* it does not come back */

	struct tp_op op; /* one at a time */
	bool op_is_busy;
	bool op_must_fail;
	uint32_t op_slab;
	uint32_t op_page;
	uint8_t *buf; /* kept from run to run */
};

void sim_peer_init(struct sim_peer *p, struct sim *sim, uint32_t index);
void sim_peer_start(struct sim_peer *p);
/* No more requests; those of a kind one are to be answered. */
void sim_peer_calm(struct sim_peer *p);
bool sim_peer_is_answered(const struct sim_peer *p);
/* Goes away for good; is_gone is true when the connection is down. */
void sim_peer_stop(struct sim_peer *p);
bool sim_peer_is_gone(const struct sim_peer *p);
/* After it is gone. */
void sim_peer_end(struct sim_peer *p);

#endif /* TESTS_SIM_PEER_H */
