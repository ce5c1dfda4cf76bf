/* SPDX-License-Identifier: MIT */
/*
 * tcp_fixture.h - one loop with a tcp transport that plays both sides, ends that
 * record their callbacks, and raw sockets that play a peer which keeps no rule.
 *
 * Every callback checks that it does not run from inside a tp_*() call: calls go
 * through CALL().  Waits have a deadline; nothing here sleeps.
 */
#ifndef TESTS_UNIT_TRANSPORT_TCP_FIXTURE_H
#define TESTS_UNIT_TRANSPORT_TCP_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "transport/tcp.h"
#include "transport/transport.h"
#include "wire/frame.h"

#define SLAB_BYTES (1024u * 1024u)
#define BUF_BYTES (8u * 1024u * 1024u)
#define ENDS_MAX 16
#define SPENT_MAX 32

struct fixture;

/* One side of a connection. */
struct end {
	struct fixture *f;
	struct tp_conn *conn;
	int ups;
	int downs;
	int reason;
	uint32_t messages;
	uint8_t message[TP_MESSAGE_BYTES_MAX]; /* the last one */
	size_t message_bytes;
	bool closes_on_up;
	bool closes_on_message;
	bool echoes;
	bool is_ordered; /* message k must be the bytes of pattern_message(k) */
};

/* One grant under way. */
struct loan {
	struct fixture *f;
	struct tp_grant *grant;
	struct tp_remote remote;
	int granted;
	int revoked;
	int status;
	struct tp_conn *close_on_granted;
	struct tp_conn *close_on_revoked;
};

struct fixture {
	struct ev_loop *loop;
	ev_timer tick; /* lets waits look at their deadline */
	struct tp *tp;
	struct tp_listener *listener;
	const char *scheme;		 /* "tcp:" or "shm:" */
	char address[TP_NAME_BYTES_MAX]; /* of the listener, without the scheme */
	char directory[32];		 /* shm: where the socket is */
	int in_call;
	bool is_narrow;
	bool refuses; /* incoming() closes */
	bool closes_accepted;
	struct end daemon[ENDS_MAX]; /* in the order of incoming() */
	int daemons;
	int stopped;
	uint8_t *slab;
	struct tp_region *slab_region;
	uint8_t *spent[SPENT_MAX]; /* shm: slabs that were lent before this one */
	struct tp_region *spent_regions[SPENT_MAX];
	int n_spent;
	uint8_t *buf;
	struct tp_region *buf_region;
};

#define CALL(f, call)                                                                              \
	do {                                                                                       \
		(f)->in_call++;                                                                    \
		call;                                                                              \
		(f)->in_call--;                                                                    \
	} while (0)

/* Turns the loop until @condition; fails the test after 20 seconds. */
#define WAIT(f, condition)                                                                         \
	do {                                                                                       \
		double wait_deadline = fixture_deadline();                                         \
		while (!(condition))                                                               \
			fixture_turn((f), wait_deadline, #condition, __FILE__, __LINE__);          \
	} while (0)

extern const struct tp_conn_events end_events;

/* Short limits: stalls 400 ms, handshake and linger 300 ms, 4 half open. */
int fixture_setup(void **state);
/* The same with the default limits. */
int fixture_setup_default(void **state);
int fixture_setup_ipv6(void **state);
/* The same over shm, with short limits. */
int fixture_setup_shm(void **state);
/* Every socket takes a few kilobytes at a time only: frames go out in many parts. */
int fixture_setup_narrow(void **state);
/* Half-open connections last longer than a test. */
int fixture_setup_patient(void **state);
/* The last line of every test, while its ends still exist: shuts the transport
 * down and checks that nothing is left. */
void fixture_stop(struct fixture *f);
int fixture_teardown(void **state);

double fixture_deadline(void);
void fixture_turn(struct fixture *f, double deadline, const char *what, const char *file, int line);

void fixture_connect(struct fixture *f, struct end *end);
/* A client end and the daemon's (returned), both up. */
struct end *fixture_pair(struct fixture *f, struct end *client);
/* Lends f->slab; over shm a copy takes its place when it was lent before. */
void fixture_lend(struct fixture *f, struct tp_conn *conn, struct loan *loan);
void fixture_revoke(struct loan *loan);
/* Where the end of the connection, @daemon, may come first. */
void fixture_revoke_or_down(struct loan *loan, const struct end *daemon);

void fill_pattern(uint8_t *p, size_t bytes, uint32_t seed);
bool is_pattern(const uint8_t *p, size_t bytes, uint32_t seed);
/* Message number @k: returns its length, 4 to TP_MESSAGE_BYTES_MAX. */
size_t pattern_message(uint32_t k, uint8_t *msg);

/* Raw sockets, non-blocking; the helpers turn the loop while they wait. */
int raw_connect(struct fixture *f);
/* The same and both preambles. */
int raw_connect_up(struct fixture *f);
/* A listening socket; @ret_address has TP_NAME_BYTES_MAX. */
int raw_listen(char *ret_address);
int raw_accept(struct fixture *f, int listen_fd);
void raw_send(struct fixture *f, int fd, const void *bytes, size_t length);
void raw_send_frame(struct fixture *f, int fd, const struct frame *frame);
void raw_recv(struct fixture *f, int fd, void *bytes, size_t length);
void raw_recv_frame(struct fixture *f, int fd, struct frame *ret_frame);
/* Whatever comes is thrown away until the peer has closed. */
void raw_expect_eof(struct fixture *f, int fd);

#endif /* TESTS_UNIT_TRANSPORT_TCP_FIXTURE_H */
