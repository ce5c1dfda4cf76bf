/* SPDX-License-Identifier: MIT */
/*
 * net.h - transport.h between the hosts of a run, in virtual time.
 *
 * Each message, one-sided operation, grant and revocation takes a while that the
 * seed chooses; what transport.h does not order overtakes.  Links can be cut one
 * way or both, be slow, and ends can vanish with or without a word.  Within the contract the net
 * is unkind: operations of an ending connection land or not, some after their
 * done(); messages under way arrive or not; granted() and revoked() run or not.
 *
 * Wrong use of transport.h, and what the invariants say of buffers and grants, is
 * a failure of the run.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "sim/clock.h"
#include "sim/plan.h"
#include "transport/transport.h"

struct sim;
struct sim_host;
struct sim_memory_slot;

/* An op of an ending connection ends after at most so many times a message's usual way. */
#define SIM_ENDING_WAYS_MAX 200u

struct sim_link {	   /* one direction */
	uint32_t n_blocks; /* faults that hold everything back */
	uint64_t extra_ns; /* a slow link: up to this much more */
	uint64_t stuck_ns; /* at least this much more */
};

struct sim_net {
	struct sim *sim;
	struct sim_link links[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* from, to */
	struct list conns;
	struct list late_writes; /* writes that land after their operation has ended */
	uint32_t serial;
	/* Of each daemon, by its index: until when the next ... */
	uint32_t fail_ops[SIM_HOSTS_MAX]; /* that many operations fail */
	uint64_t refuse_connects_ns[SIM_HOSTS_MAX];
	uint64_t refuse_grants_ns[SIM_HOSTS_MAX];
	uint64_t slow_grants_ns[SIM_HOSTS_MAX];
	uint64_t hold_done_ns
		[SIM_HOSTS_MAX]; /* of each device: until then none of its answers arrives */
	uint32_t fail_grants[SIM_HOSTS_MAX];
	uint32_t fail_revokes[SIM_HOSTS_MAX];
};

struct sim_tp {
	struct tp tp;		 /* first */
	struct tp_base listener; /* what tp_listen() gives */
	struct sim_net *net;
	struct sim_host *host;
	uint32_t n_regions;
	bool is_listening;
	tp_incoming_fn *incoming;
	void *incoming_arg;
};

struct sim_region {
	struct tp_base base; /* first */
	uint8_t *bytes;
	size_t length_bytes;
	enum tp_lend lend;
	uint32_t n_grants; /* alive */
	uint32_t n_ops;
	struct sim_memory_slot *slot; /* lent memory: whose pages are marked as written */
};

struct sim_grant {
	struct tp_base base; /* first */
	struct list node;
	struct sim_event ev;
	struct sim_conn *conn;
	struct sim_region *region;
	struct tp_remote remote;
	tp_grant_fn *fn;
	void *arg;
	uint32_t slab;	      /* of the MR_INFO that told of it */
	uint64_t told_number; /* the newest request then */
	uint32_t generation;
	/* Turns of the daemon in which it sent CHECK_ACTIVITY and EVICT of it; 0: it did not. */
	uint64_t checked_turn;
	uint64_t evicted_turn;
	uint64_t evicted_ns;
	uint64_t deadline_ns;	 /* of EVICT */
	uint64_t milli_activity; /* of the answer, or 0 */
	bool has_done;		 /* DONE has come */
	bool has_unmap;
	bool is_told;
	bool is_given_up; /* DONE or UNMAP for it has been sent, but may not have arrived */
	bool is_exposed;
	bool is_revoking;
	bool is_waiting; /* for ev */
};

struct sim_msg {
	struct list node;
	uint64_t at_ns;
	size_t length_bytes;
	uint8_t bytes[];
};

enum sim_op_step {
	SIM_OP_GOING = 1, /* to the other end */
	SIM_OP_COMING,	  /* it was carried out there, or refused */
	SIM_OP_ENDING,	  /* the connection ends: done() comes whatever the link does */
};

struct sim_net_op {
	struct sim_event ev;
	struct list node; /* conn->ops */
	struct sim_conn *conn;
	struct tp_op *op;
	enum sim_op_step step;
	int status;
	uint64_t sum; /* of a WRITE's buffer at tp_post() */
	uint64_t posted_ns;
	bool is_stalled;
};

struct sim_conn {
	struct tp_base base; /* first */
	struct list node;    /* net->conns */
	struct sim_tp *tp;
	struct sim_conn *peer; /* NULL: freed, or its host died without a word */
	const struct tp_conn_events *events;
	void *arg;
	uint32_t target; /* the other host */
	struct list ops;
	struct list grants;
	struct list inbox; /* struct sim_msg on their way to this end */
	uint32_t n_inbox;
	struct sim_event inbox_ev;
	struct sim_event step_ev;    /* connecting: SYN, then UP; ending: DOWN */
	struct sim_event timeout_ev; /* of tp_connect() */
	struct sim_event gone_ev;    /* the news that the other end is gone */
	struct sim_event detect_ev;  /* the transport notices by itself that nothing moves */
	int gone_reason;
	int reason;
	char name[48];
	bool is_client;
	bool is_linked;	       /* client: the other end was made */
	bool is_unheard;       /* it said something that nobody takes */
	bool is_joined;	       /* WELCOME has arrived */
	bool has_pong;	       /* ... and an answer to PING */
	bool has_epoch;	       /* WELCOME told where to read it */
	uint64_t ping_ns;      /* client: when the PING was sent that waits, or 0 */
	uint64_t alive_ns;     /* client: when the other end gave a sign of life last */
	uint64_t no_ping_ns;   /* since when it is joined and no PING waits for its answer, or 0 */
	bool is_new;	       /* inside incoming() */
	bool is_refused;       /* closed inside incoming() */
	uint32_t forced_slabs; /* a bit for each that its daemon took without DONE or UNMAP */
	bool must_close;       /* the daemon has got an answer that does not fit */
	bool is_ready;
	bool is_closed; /* tp_close() here */
	bool is_ending;
	bool is_peer_silent; /* the other host is off */
	bool is_inbox_stalled;
	bool is_gone_stalled;
	bool is_step_stalled;
};

void sim_net_reset(struct sim_net *net, struct sim *sim);
/* Everything is freed; the run is over. */
void sim_net_clear(struct sim_net *net);

struct tp *sim_tp_new(struct sim_net *net, struct sim_host *host);
/* No connection is left and no region. */
void sim_tp_free(struct tp *tp);
struct sim_host *sim_conn_host(const struct tp_conn *conn);

/* @host's process is gone: its ends vanish without callbacks.  @is_told: the others hear of it. */
void sim_net_drop_host(struct sim_net *net, struct sim_host *host, bool is_told);
/* The same for a core that has to be told: down() runs at once for every end. */
void sim_net_down_host(struct sim_net *net, struct sim_host *host, bool is_told);
/* Resets every connection between the two. */
uint32_t sim_net_cut(struct sim_net *net, uint32_t a, uint32_t b);
/* A link was blocked, or opened again. */
void sim_net_block(struct sim_net *net, uint32_t from, uint32_t to);
void sim_net_unblock(struct sim_net *net, uint32_t from, uint32_t to);

uint64_t sim_net_delay(struct sim_net *net, uint32_t from, uint32_t to);
/* The grant through which @conn's peer reaches @addr, or NULL. */
struct sim_grant *sim_net_grant_at(const struct sim_conn *end, uint32_t rkey, uint64_t addr,
				   uint64_t length_bytes);
/* The end at @device of its connection with @daemon, or NULL. */
struct sim_conn *sim_net_find(struct sim_net *net, uint32_t device, uint32_t daemon);

/* Shared by the files of the net. */
void sim_conn_end(struct sim_conn *c, int reason);
void sim_conn_down_if_idle(struct sim_conn *c);
/* The link to this end, from this end, is blocked. */
bool sim_conn_hears_nothing(const struct sim_conn *c);
bool sim_conn_is_unheard(const struct sim_conn *c);
void sim_ops_end(struct sim_conn *c);
void sim_ops_drop(struct sim_conn *c);
void sim_ops_unstall(struct sim_conn *c);
void sim_grants_end(struct sim_conn *c);
void sim_grants_drop(struct sim_conn *c);
void sim_late_drop_all(struct sim_net *net, const struct sim_conn *to);
void sim_post(struct tp_conn *conn, struct tp_op *op);
int sim_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
			struct tp_region **ret_region);
int sim_region_release(struct tp_region *region);
int sim_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	      struct tp_grant **ret_grant);
void sim_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void sim_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);

static inline struct sim_conn *
sim_conn_of(const struct tp_conn *conn)
{
	return (struct sim_conn *)(uintptr_t)conn;
}

#endif /* TESTS_SIM_NET_H */
