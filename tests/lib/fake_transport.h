/* SPDX-License-Identifier: MIT */
/*
 * fake_transport.h - transport.h inside one process, for tests of the cores.
 *
 * A fake_net is a world of transports without sockets, threads or time.  Every
 * tp_*() call only queues events; nothing happens until the test steps the net,
 * and the test chooses what happens next: each incoming connection, message, op,
 * grant, revocation and down() is one step.  Bytes really move between the
 * regions of the two ends, at the step that completes the op.
 *
 *   net = fake_net_new(0);
 *   server = fake_tp_new(net);  client = fake_tp_new(net);
 *   tp_listen(server, "a:1", incoming, arg, &listener);
 *   tp_connect(client, "a:1", 1, &events, arg, &conn);
 *   fake_net_run(net);                        everything that can happen, in order
 *   tp_post(conn, &op);
 *   fake_net_fail(net, FAKE_OP, -ETIMEDOUT);  the next op fails, the connection with it
 *   fake_net_step_kind(net, FAKE_OP, conn);   only that
 *   fake_net_cut(conn, -ECONNRESET);          the cable: both ends go down
 *
 * A seed other than 0 makes the world unkind within transport.h's contract:
 * messages in flight when a connection ends arrive or not, failed or cancelled
 * WRITEs land or not, land again after their done(), and granted() and
 * revoked() of an ending connection run or not.  Seed 0: none of that happens,
 * and messages in flight at the end are lost.
 *
 * Wrong use of transport.h ends the test by assert: an op posted twice, a WRITE
 * buffer that changed between tp_post() and done(), a buffer outside its region,
 * use of a connection after down(), a grant revoked twice, a region released
 * with bytes under way, incoming() that neither accepted nor closed.
 * Every object lives on the heap, so that ASan sees use after free.
 */
#ifndef TESTS_LIB_FAKE_TRANSPORT_H
#define TESTS_LIB_FAKE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

struct fake_net;

enum fake_kind {
	FAKE_INCOMING = 1, /* conn: the accepting end */
	FAKE_UP,	   /* conn: the connecting end */
	FAKE_MESSAGE,	   /* conn: the receiving end; in order per connection */
	FAKE_OP,	   /* conn: the posting end; any order */
	FAKE_GRANTED,	   /* conn: the granting end */
	FAKE_REVOKED,	   /* conn: the granting end */
	FAKE_DOWN,	   /* conn: the end that goes down; after all its other steps */
	FAKE_LATE_WRITE,   /* conn: the end that lends; only with a seed, nobody is told */
	FAKE_SHUTDOWN,	   /* conn: none; shutdown's done() */
	FAKE_KINDS,
};

struct fake_net *fake_net_new(uint64_t seed);
/* Every tp is freed.  Returns NULL. */
struct fake_net *fake_net_free(struct fake_net *net);

/* One transport of @net; freed with tp_shutdown(), steps, tp_free(). */
struct tp *fake_tp_new(struct fake_net *net);
/* Shuts down, runs what that takes, frees.  Not from a callback.  Returns NULL. */
struct tp *fake_tp_end(struct tp *tp);

/* Runs the oldest step that may run now; false: there is none. */
bool fake_net_step(struct fake_net *net);
/* Runs any step that may run now, chosen by the seed. */
bool fake_net_step_random(struct fake_net *net);
/* Runs the oldest step of @kind (@conn NULL: of any connection). */
bool fake_net_step_kind(struct fake_net *net, enum fake_kind kind, const struct tp_conn *conn);
/* Runs the step that completes @op. */
bool fake_net_step_op(struct fake_net *net, const struct tp_op *op);
/* Steps until nothing may run (asserts that this takes fewer than 1000000).  Returns how many. */
unsigned fake_net_run(struct fake_net *net);

/* Steps of @kind that wait (@conn NULL: of any connection), held ones too. */
unsigned fake_net_pending(const struct fake_net *net, enum fake_kind kind,
			  const struct tp_conn *conn);

/* While held, steps of @kind run only by fake_net_step_kind() and fake_net_step_op().
 * An end does not go down while it has a held FAKE_OP step. */
void fake_net_hold(struct fake_net *net, enum fake_kind kind, bool hold);

/*
 * The next step of @kind (FAKE_OP, FAKE_GRANTED, FAKE_REVOKED, FAKE_UP) that runs
 * ends with @status.  Failures queue up; status 0 lets one pass:
 * fake_net_fail(net, k, 0) twice and then -EIO fails the third.  A failed op or
 * revocation ends its connection, as the contract says; a failed UP is a failed connect.
 */
void fake_net_fail(struct fake_net *net, enum fake_kind kind, int status);

/* Both ends of the connection go down with @reason. */
void fake_net_cut(struct tp_conn *conn, int reason);
/* Messages waiting for this end are not delivered, so that the other end's tp_send()
 * says -EAGAIN in time; false ends it. */
void fake_conn_set_deaf(struct tp_conn *conn, bool deaf);
/* The other end; NULL when it is down. */
struct tp_conn *fake_conn_peer(const struct tp_conn *conn);
/* Grants of this end through which the peer can reach memory now. */
unsigned fake_conn_grants(const struct tp_conn *conn);
/* tp_grant() on any connection of @tp returns @status until 0 is set. */
void fake_tp_refuse_grants(struct tp *tp, int status);
/* tp_region_register() returns @status until 0 is set; tp_region_release() likewise. */
void fake_tp_refuse_register(struct tp *tp, int status);
void fake_tp_refuse_release(struct tp *tp, int status);
/* Whether any peer could reach memory of @region now. */
bool fake_region_is_exposed(const struct tp_region *region);

/* The net's generator, for tests that want one seed for everything.  [0, @bound). */
uint32_t fake_net_random(struct fake_net *net, uint32_t bound);

#endif /* TESTS_LIB_FAKE_TRANSPORT_H */
