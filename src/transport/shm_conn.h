/* SPDX-License-Identifier: MIT */
/*
 * shm_conn.h - one shm connection and its life.
 *
 * Client:  PREAMBLE -> UP -> ENDING.
 * Daemon:  PREAMBLE -> OFFERED (inside incoming()) -> UP -> ENDING.
 * Any state may go to ENDING.  From there on no packet is taken and no op runs; from
 * the loop ops are cancelled, a client unmaps what it was lent, a daemon counts what
 * its client may still hold, then the socket is closed and down() runs.
 *
 * Every upcall may end the connection but never frees it: after an upcall look
 * at conn->state before going on.
 */
#ifndef TRANSPORT_SHM_CONN_H
#define TRANSPORT_SHM_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "common/list.h"
#include "loop/defer.h"
#include "transport/shm_tp.h"
#include "wire/shm_frame.h"

struct tp_listener;
struct shm_holder;

enum shm_conn_state {
	SHM_CONN_PREAMBLE = 1,
	SHM_CONN_OFFERED,
	SHM_CONN_UP,
	SHM_CONN_ENDING,
};

/* A message that waits for the socket. */
struct shm_message {
	uint32_t length_bytes;
	uint8_t bytes[SHM_FRAME_MESSAGE_BYTES_MAX];
};

struct shm_tx {
	struct shm_message *messages; /* a ring of TP_SEND_QUEUE_MAX */
	uint32_t head;
	uint32_t count;
	bool preamble_waits;
	bool was_full;	/* a message was refused for want of room */
	bool is_broken; /* the peer takes nothing any more: reading will find out */
	uint64_t packets_total;
};

/* What was lent to the peer (daemon), or what the peer lent to us (client), by rkey. */
struct shm_table {
	struct shm_entry *entries;
	uint32_t size;
	uint32_t free_head; /* daemon: index + 1 of the first free entry; 0: none */
};

struct tp_conn {
	struct tp_base base;
	struct shm_tp *shm;
	struct list node;
	struct list half_open_node;
	struct list flush_node;
	struct list ready_node;
	struct tp_listener *listener; /* daemon, before OFFERED ends; then NULL */
	enum shm_conn_state state;
	bool is_client;
	bool was_reset; /* the peer closed with something of ours unread */
	int reason;
	int fd;
	ev_io read_watcher;
	ev_io write_watcher;
	ev_timer timer;	 /* deadline before UP; in UP: the peer takes nothing */
	ev_timer revoke; /* daemon: of the oldest REVOKE without answer */
	struct defer work;
	const struct tp_conn_events *events; /* NULL: nobody to tell */
	void *arg;

	struct shm_tx tx;
	struct shm_table table;
	uint32_t n_faulting;  /* client: entries whose fault_left_bytes is not 0 */
	uint32_t fault_index; /* client: where to look for one of them */
	uint32_t unmap_next;  /* client, ENDING: entries below it are unmapped */

	struct list waiting; /* client: tp_op.node, not begun */
	struct list running; /* client: tp_op.node, of this turn */

	struct list to_grant; /* daemon: tp_grant.node, GRANT is to be sent */
	struct list to_revoke;
	struct list revoking;	  /* REVOKE is sent, oldest first */
	struct list grant_events; /* tp_grant.event_node */
	struct shm_holder *holder;

	uint32_t answer_head; /* client: entries whose REVOKED is to be sent, index + 1; 0: none */
	uint32_t answer_tail;

	char name[TP_NAME_BYTES_MAX];
};

/* Takes over @fd, an accepted socket.  Returns 0 or -errno (@fd is closed). */
int shm_conn_new_accepted(struct tp_listener *listener, int fd);
int shm_conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		     const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
void shm_conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void shm_conn_close(struct tp_conn *conn);
const char *shm_conn_name(const struct tp_conn *conn);

/* The peer's preamble came.  Makes upcalls. */
void shm_conn_take_preamble(struct tp_conn *conn, const struct shm_frame *frame);
/* Starts the end, from any state; the first @reason counts.  No upcall from inside. */
void shm_conn_end(struct tp_conn *conn, int reason);
/* The peer broke the protocol: one log line, then the end with -EPROTO. */
void shm_conn_violation(struct tp_conn *conn, const char *what);
/* The peer takes nothing (@is_stuck), or does again. */
void shm_conn_set_stuck(struct tp_conn *conn, bool is_stuck);

#endif /* TRANSPORT_SHM_CONN_H */
