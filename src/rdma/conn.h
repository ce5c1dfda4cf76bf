/* SPDX-License-Identifier: MIT */
/*
 * conn.h - one connection: its life, and what its parts (messages, ops, grants)
 * tell it and ask of it.
 */
#ifndef RDMA_CONN_H
#define RDMA_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>
#include <rdma/rdma_cma.h>

#include "common/list.h"
#include "loop/defer.h"
#include "rdma/cm.h"
#include "rdma/cq.h"
#include "rdma/grant.h"
#include "rdma/msg.h"
#include "rdma/op.h"
#include "rdma/tp.h"
#include "transport/transport.h"

struct vrb_device;

enum vrb_conn_state {
	VRB_CONN_RESOLVING = 1, /* client: waiting for the address, then the route */
	VRB_CONN_CONNECTING,	/* client: waiting for the daemon's answer */
	VRB_CONN_INCOMING,	/* daemon: inside incoming(), waiting for its decision */
	VRB_CONN_REFUSED,	/* daemon: tp_close() inside incoming() */
	VRB_CONN_ACCEPTING,	/* daemon: waiting for the client's last handshake message */
	VRB_CONN_UP,
	VRB_CONN_LINGERING, /* tp_close(): waiting for the farewell to be sent */
	VRB_CONN_DRAINING,  /* queue pair in error: waiting for what was posted */
	VRB_CONN_DEAD,	    /* being taken apart: down() is next */
};

struct vrb_conn {
	struct tp_base base; /* first */
	struct vrb_cm_owner cm;
	struct list node;	/* vrb_tp.conns */
	struct list flush_node; /* vrb_tp.to_flush */
	struct vrb_device *dev; /* NULL until the address is resolved */
	struct rdma_cm_id *id;
	struct ibv_pd *own_pd; /* daemon, devices without windows */
	enum vrb_conn_state state;
	bool is_client;
	bool is_closed_here;  /* tp_close(): no message() any more */
	bool is_reason_vague; /* a better one may still come out of the queue */
	bool is_drain_over;   /* a queue gives nothing any more */
	int reason;
	int resolve_ms;
	uint16_t peer_message_depth; /* daemon: what the client asks for */
	uint8_t responder_resources;
	uint8_t initiator_depth;
	const struct tp_conn_events *events; /* NULL before accept */
	void *events_arg;
	ev_timer deadline; /* of the state */
	struct defer turn; /* callbacks that are due, and the end */
	struct vrb_cq send_cq;
	struct vrb_cq receive_cq;
	struct vrb_msgs msgs;
	struct vrb_ops ops;
	struct vrb_grants grants;
	char name[TP_NAME_BYTES_MAX];
};

/* tp_ops; see transport.h. */
int vrb_conn_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		     const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
void vrb_conn_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void vrb_conn_close(struct tp_conn *conn);
const char *vrb_conn_name(const struct tp_conn *conn);
int vrb_conn_send(struct tp_conn *conn, const void *msg, size_t length_bytes);
void vrb_conn_post(struct tp_conn *conn, struct tp_op *op);

static inline struct vrb_conn *
vrb_conn_of(struct tp_conn *conn)
{
	return (struct vrb_conn *)conn;
}

/* For the listener: takes event->id over on success.  0 or -ENOMEM. */
int vrb_conn_new_incoming(struct vrb_tp *tp, const struct vrb_cm_event *event,
			  uint16_t peer_message_depth, struct vrb_conn **ret_conn);
/* After incoming(): frees a connection that it refused. */
void vrb_conn_incoming_done(struct vrb_conn *conn);

/* For the instance and the devices. */
void vrb_conn_flush_all(struct vrb_tp *tp);
void vrb_conn_close_all(struct vrb_tp *tp);
void vrb_conn_end_all(struct vrb_tp *tp, int reason);
/* @port 0: all ports. */
void vrb_conn_end_on_device(struct vrb_device *device, uint8_t port, int reason);
void vrb_conn_qp_failed(struct vrb_conn *conn, const char *what);
void vrb_conn_comm_established(struct vrb_conn *conn);

/*
 * vrb_conn_end - begin the end; harmless when it has begun.  Calls nobody back:
 * that is left to later turns of the loop.  vrb_conn_fail() logs @what with it.
 */
void vrb_conn_end(struct vrb_conn *conn, int reason);
void vrb_conn_fail(struct vrb_conn *conn, int error, const char *what);
/* Only until something that still comes out of the queue tells more. */
void vrb_conn_end_vaguely(struct vrb_conn *conn, int reason);
/* A completion with an error, of whatever kind. */
void vrb_conn_wc_failed(struct vrb_conn *conn, const struct ibv_wc *wc, const char *what);

/* For the handshake. */
extern const struct vrb_cq_events vrb_conn_cq_events;
/* The client's connection is made: up(). */
void vrb_conn_set_up(struct vrb_conn *conn);

/* For the parts. */
struct ibv_pd *vrb_conn_pd(const struct vrb_conn *conn);
bool vrb_conn_is_up(const struct vrb_conn *conn);
bool vrb_conn_is_ending(const struct vrb_conn *conn);
bool vrb_conn_takes_messages(const struct vrb_conn *conn);
/* Without memory windows, see rdma.h. */
bool vrb_conn_can_post(const struct vrb_conn *conn);
bool vrb_conn_can_grant(const struct vrb_conn *conn);
/* Before the poll, what waits is given to the device. */
void vrb_conn_want_flush(struct vrb_conn *conn);
/* On the next turn, callbacks that are due run. */
void vrb_conn_want_turn(struct vrb_conn *conn);
/* The peer's message, to the core. */
void vrb_conn_deliver(struct vrb_conn *conn, const void *msg, size_t length_bytes);
/* Something arrived: the peer is connected, whatever the CM has told us yet. */
void vrb_conn_heard(struct vrb_conn *conn);
void vrb_conn_bye_sent(struct vrb_conn *conn);

#endif /* RDMA_CONN_H */
