/* SPDX-License-Identifier: MIT */
/*
 * client.h - one connection of the daemon, from tp_accept() to down().
 *
 *   HELLO_WAIT -> [ AUTH_WAIT ] -> [ GRANT_WAIT ] -> SERVING -> CLOSING
 *
 * REFUSED stands beside SERVING: the peer has been told why it is not served and
 * gets a second to read that and to close; tp_close() at once could lose the
 * message.  CLOSING waits for down(), which ends every grant by contract.
 */
#ifndef DAEMON_CLIENT_H
#define DAEMON_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "daemon/timers.h"
#include "wire/ctl.h"

struct daemon;
struct tp_conn;
struct tp_grant;

/* FREE_MEM unasked, at most so often. */
#define CLIENT_PUSH_INTERVAL_NS (100 * NSEC_PER_MSEC)
/* Time for a refused peer to close. */
#define CLIENT_REFUSED_LINGER_NS (1 * NSEC_PER_SEC)
#define CLIENT_WHY_BYTES 128u

enum client_state {
	CLIENT_HELLO_WAIT = 1, /* waits for HELLO, until hello_timeout */
	CLIENT_AUTH_WAIT,      /* waits for AUTH, until the same moment */
	CLIENT_GRANT_WAIT,     /* waits for the grant of the epoch page, until the same moment */
	CLIENT_SERVING,	       /* waits for requests, client_timeout after the last one */
	CLIENT_REFUSED,	       /* waits for the peer to close, CLIENT_REFUSED_LINGER_NS */
	CLIENT_CLOSING,	       /* waits for down() */
};

struct client {
	struct list node; /* of the daemon's free slots or connections */
	struct daemon *daemon;
	struct tp_conn *conn;
	uint32_t index; /* of the slot */
	enum client_state state;
	bool has_joined; /* got its WELCOME */

	struct timer timer; /* of one of the daemon's queues, by state */

	struct list slabs; /* struct pool_slab: granting, granted, revoking */
	uint32_t slab_count;
	uint32_t told_free; /* the last number of free slabs that went out */

	uint32_t last_ask_id;				/* of the daemon's requests, from 1 */
	uint32_t asks;					/* of these, how many wait for an answer */
	bool is_force_told, is_lie_told, is_quota_told; /* what is said once has been */

	uint32_t welcome_id;	      /* request that WELCOME answers */
	struct tp_grant *epoch_grant; /* revoked by the connection's end */

	uint8_t hello[CTL_MESSAGE_BYTES_MAX]; /* as received: the proofs cover it */
	uint32_t hello_bytes;
	uint8_t nonce[CTL_NONCE_BYTES];
	uint8_t expected_proof[CTL_PROOF_BYTES];
	char device[CTL_DEVICE_NAME_BYTES]; /* "" before HELLO */
	char why[CLIENT_WHY_BYTES];	    /* the connection ends; "" until decided */
};

/* Takes @conn, which incoming() brought, into the free slot @c. */
void client_accept(struct client *c, struct tp_conn *conn);
/* Its timer has run out. */
void client_expire(struct client *c);
/* Sends FREE_MEM unasked if the number is another than the client knows; whether it did. */
bool client_push_free_mem(struct client *c);

/* Closes the connection; the first reason stays.  Harmless when it is closing. */
void client_end(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same, for a peer that does not keep to the protocol. */
void client_protocol_error(struct client *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Sends @msg; a peer that takes no messages loses its connection. */
void client_send(struct client *c, struct ctl_msg *msg);
/* Answers @request_id with REFUSED; the connection lives on. */
void client_refuse(struct client *c, uint32_t request_id, enum ctl_reason reason, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));

#endif /* DAEMON_CLIENT_H */
