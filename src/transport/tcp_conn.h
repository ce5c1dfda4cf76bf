/* SPDX-License-Identifier: MIT */
/*
 * tcp_conn.h - one tcp connection and its life.
 *
 * Client:  CONNECTING -> PREAMBLE -> UP -> ENDING.
 * Daemon:  PREAMBLE -> OFFERED (inside incoming()) -> UP [-> LINGER] -> ENDING.
 * Any state may go to ENDING.  tcp_conn_end() closes the socket, so from there on
 * nothing touches a buffer or a slab; callbacks (done(), down()) follow from the
 * loop, and the connection is freed after down().
 *
 * Every upcall may end the connection but never frees it: after an upcall look
 * at conn->state before going on.
 */
#ifndef TRANSPORT_TCP_CONN_H
#define TRANSPORT_TCP_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "loop/defer.h"
#include "transport/tcp_tp.h"
#include "wire/frame.h"

#define TCP_RX_BYTES (128u * 1024u)
/* Ops of one connection on the wire; more wait in a list. */
#define TCP_SLOTS 1024u
/* Answers of one connection that wait for the socket; then its requests wait. */
#define TCP_ANSWERS 1024u
/* Preamble and tp_send()'s. */
#define TCP_MESSAGES (TP_SEND_QUEUE_MAX + 1u)
#define TCP_MESSAGE_FRAME_BYTES (FRAME_HEADER_BYTES + FRAME_MESSAGE_BYTES_MAX)

struct tp_listener;
struct tp_grant;

enum tcp_conn_state {
	TCP_CONN_CONNECTING = 1,
	TCP_CONN_PREAMBLE,
	TCP_CONN_OFFERED,
	TCP_CONN_UP,
	TCP_CONN_LINGER, /* the last answers go out, what comes in is thrown away */
	TCP_CONN_ENDING,
};

enum tcp_slot_state {
	TCP_SLOT_FREE = 0,
	TCP_SLOT_QUEUED, /* not, or not all of it, sent */
	TCP_SLOT_SENT,	 /* its answer may come */
};

/* One op of ours on the wire.  Its id is index | generation << 16. */
struct tcp_slot {
	struct tp_op *op;
	uint16_t generation;
	enum tcp_slot_state state;
};

/* What was asked of us and waits to be sent back. */
struct tcp_answer {
	enum frame_kind kind;
	uint16_t status;
	uint32_t op_id;
	uint32_t length_bytes;
	const uint8_t *payload; /* of the grant's memory, or of tx.bounce */
	struct tp_grant *grant; /* NULL: payload is not slab memory */
};

/* A frame as it goes out. */
struct tcp_message {
	uint32_t length_bytes;
	uint8_t bytes[TCP_MESSAGE_FRAME_BYTES];
};

struct tcp_ring {
	uint32_t head;
	uint32_t count;
};

struct tcp_rx {
	uint8_t preamble[FRAME_HEADER_BYTES];
	uint32_t preamble_bytes; /* of it that came */
	uint8_t *buf;
	uint32_t head;
	uint32_t tail;
	struct frame frame;	/* whose payload comes in */
	uint32_t left;		/* bytes of it still to come; 0: a header is next */
	uint8_t *dest;		/* where they go; NULL: nowhere */
	struct tp_grant *grant; /* WRITE: @dest lies in it */
	bool is_paused; /* frames wait in @buf: for answers to leave, or for the next turn */
	uint64_t bytes_total;
};

enum tcp_tx_queue {
	TCP_TX_MESSAGES = 1,
	TCP_TX_WORK, /* client: slots to send.  daemon: answers */
};

struct tcp_tx {
	struct tcp_message *messages;
	struct tcp_ring message_ring;
	bool was_full; /* a tcp_tx_send() was refused for want of room */
	struct tcp_ring work_ring;
	uint16_t *slots_to_send;    /* client */
	struct tcp_answer *answers; /* daemon */
	uint8_t *bounce;	    /* daemon: rest of a half-sent answer whose grant was revoked */
	enum tcp_tx_queue front;    /* the queue whose first frame is half sent, when @sent > 0 */
	uint32_t sent;		    /* bytes of that frame that are out */
	int error;		    /* -errno: nothing goes out any more */
	uint64_t bytes_total;
};

struct tcp_grants {
	struct tcp_grant_entry *entries;
	uint32_t size;
	uint32_t free_head; /* index + 1 of the first free entry; 0: none */
};

/* So many checks of tcp_limits.stall_ms, without progress, make a stall. */
#define TCP_STALL_CHECKS 4u

struct tcp_stall {
	uint64_t rx_bytes; /* at the last check */
	uint64_t tx_bytes;
	uint32_t rx_checks; /* without progress */
	uint32_t tx_checks;
};

struct tp_conn {
	struct tp_base base;
	struct tcp_tp *tcp;
	struct list node;
	struct list half_open_node;
	struct list flush_node;
	struct tp_listener *listener; /* daemon, before OFFERED ends; then NULL */
	enum tcp_conn_state state;
	bool is_client;
	int reason;
	int fd; /* -1 from ENDING on */
	ev_io read_watcher;
	ev_io write_watcher;
	ev_timer timer; /* deadline before UP and in LINGER; in UP the stall check */
	struct defer work;
	const struct tp_conn_events *events; /* NULL: nobody to tell */
	void *arg;

	struct tcp_rx rx;
	struct tcp_tx tx;
	struct tcp_stall stall;

	struct tcp_slot *slots; /* client */
	uint16_t *free_slots;
	uint32_t free_slots_count;
	struct list waiting;	 /* tp_op.node: no slot yet */
	struct tp_op *failed_op; /* the op that ended the connection */
	int failed_status;
	uint32_t cancel_next; /* ENDING: slots below it are done */

	struct tcp_grants grants; /* daemon */
	struct list grant_events; /* tp_grant.event_node */

	char name[TP_NAME_BYTES_MAX];
};

/* Takes over @fd, an accepted socket without a byte read.  Returns 0 or -ENOMEM (@fd is closed). */
int tcp_conn_new_accepted(struct tp_listener *listener, int fd, const char *address);
int tcp_conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		     const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
void tcp_conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void tcp_conn_close(struct tp_conn *conn);
const char *tcp_conn_name(const struct tp_conn *conn);
void tcp_conn_post(struct tp_conn *conn, struct tp_op *op);

/* Starts the end, from any state; the first @reason counts.  No upcall from inside. */
void tcp_conn_end(struct tp_conn *conn, int reason);
/* The peer broke the protocol: one log line, then the end with -EPROTO. */
void tcp_conn_violation(struct tp_conn *conn, const char *what);
/* Reads no request any more; the end follows when the answers are out, at the latest at a deadline. */
void tcp_conn_linger(struct tp_conn *conn);

/* The op in @slot is finished; its done() runs here. */
void tcp_conn_complete(struct tp_conn *conn, uint32_t slot);

#endif /* TRANSPORT_TCP_CONN_H */
