/* SPDX-License-Identifier: MIT */
/* fake_world.h - what the files of the fake transport share; tests include fake_transport.h. */
#ifndef TESTS_LIB_FAKE_WORLD_H
#define TESTS_LIB_FAKE_WORLD_H

#undef NDEBUG /* the asserts are the point */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/fake_transport.h"

#define FAILS_MAX 64

struct fake_net {
	struct list steps; /* struct step, oldest first */
	struct list tps;
	bool random;
	uint64_t rng;
	bool hold[FAKE_KINDS];
	int fails[FAKE_KINDS][FAILS_MAX]; /* a ring each */
	unsigned fails_head[FAKE_KINDS];
	unsigned fails_count[FAKE_KINDS];
	uint32_t serial;
};

struct fake_tp {
	struct tp tp;
	struct list node;
	struct fake_net *net;
	struct list conns;
	struct list listeners;
	unsigned regions;
	int refuse_grants;
	int refuse_register;
	int refuse_release;
};

struct fake_listener {
	struct tp_base base;
	struct list node;
	char address[64];
	tp_incoming_fn *incoming;
	void *arg;
};

struct fake_region {
	struct tp_base base;
	uint8_t *bytes;
	size_t length_bytes;
	enum tp_lend lend;
	unsigned grants;
	unsigned ops;
};

struct fake_grant {
	struct tp_base base;
	struct list node;
	struct fake_conn *conn;
	struct fake_region *region;
	struct tp_remote remote;
	bool exposed;  /* granted() has run with 0 */
	bool revoking; /* tp_revoke() was called */
};

struct fake_conn {
	struct tp_base base;
	struct list node;
	struct fake_tp *tp;
	struct fake_conn *peer;		/* NULL: freed */
	struct fake_listener *listener; /* until incoming() has run */
	const struct tp_conn_events *events;
	void *arg;
	struct list grants;
	char name[TP_NAME_BYTES_MAX];
	bool ready;   /* up() has run, or accepted */
	bool refused; /* tp_close() inside incoming() */
	bool closed;  /* tp_close() here */
	bool ending;  /* a FAKE_DOWN step waits */
	bool deaf;
};

struct step {
	struct list node;
	enum fake_kind kind;
	struct fake_conn *conn;
	struct fake_tp *tp; /* FAKE_SHUTDOWN */
	void (*shutdown_done)(void *arg);
	struct fake_grant *grant; /* FAKE_GRANTED, FAKE_REVOKED */
	tp_grant_fn *grant_fn;
	void *arg;
	struct tp_op *op;
	uint64_t op_sum; /* of a WRITE's bytes at tp_post() */
	bool cancelled;
	int reason; /* FAKE_DOWN */
	/* FAKE_MESSAGE, FAKE_LATE_WRITE */
	uint64_t remote_addr;
	uint32_t rkey;
	size_t length_bytes;
	uint8_t bytes[];
};

static inline struct fake_conn *
conn_of(struct tp_conn *conn)
{
	assert(conn);
	return (struct fake_conn *)(void *)conn;
}

static inline struct tp_conn *
conn_public(struct fake_conn *c)
{
	return (struct tp_conn *)(void *)c;
}

static inline struct fake_tp *
tp_fake(struct tp *tp)
{
	return container_of(tp, struct fake_tp, tp);
}

static inline struct step *
step_of(struct list *node)
{
	return container_of(node, struct step, node);
}

void *fake_alloc(size_t bytes);
bool fake_coin(struct fake_net *net);
struct step *fake_step_new(struct fake_net *net, enum fake_kind kind, struct fake_conn *conn,
			   size_t bytes);
void fake_step_free(struct step *s);
int fake_take_failure(struct fake_net *net, enum fake_kind kind);
void fake_conn_end(struct fake_conn *c, int reason);
void fake_conn_free(struct fake_conn *c);
void fake_grant_free(struct fake_grant *g);
void fake_run_op(struct fake_net *net, struct step *s);
uint8_t *fake_granted_memory(struct fake_conn *end, enum tp_op_kind kind, uint32_t rkey,
			     uint64_t addr, size_t length_bytes);
int fake_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		 const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
int fake_listen(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		struct tp_listener **ret_listener);
void fake_listener_address(const struct tp_listener *listener, char *buf, size_t size);
void fake_listener_close(struct tp_listener *listener);
void fake_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void fake_close(struct tp_conn *conn);
const char *fake_conn_name(const struct tp_conn *conn);
int fake_send(struct tp_conn *conn, const void *msg, size_t length_bytes);
int fake_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
			 struct tp_region **ret_region);
int fake_region_release(struct tp_region *region);
int fake_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	       struct tp_grant **ret_grant);
void fake_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void fake_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);
void fake_post(struct tp_conn *conn, struct tp_op *op);

#endif /* TESTS_LIB_FAKE_WORLD_H */
