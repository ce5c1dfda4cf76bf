/* SPDX-License-Identifier: MIT */
/*
 * tcp_tx.h - what goes out: messages first, then ops (client) or answers (daemon).
 *
 * Frames are described by the queues and put together only for sendmsg(), so
 * payload goes from op buffers and slabs to the socket without a copy of ours.
 */
#ifndef TRANSPORT_TCP_TX_H
#define TRANSPORT_TCP_TX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"

struct tp_conn;
struct tp_grant;
struct tcp_answer;

/* Returns 0, -EAGAIN (TP_SEND_QUEUE_MAX waiting), -ENOTCONN or -EMSGSIZE. */
int tcp_tx_send(struct tp_conn *conn, const void *msg, size_t length_bytes);
/* Room for it was left by TCP_MESSAGES. */
void tcp_tx_preamble(struct tp_conn *conn);
void tcp_tx_slot(struct tp_conn *conn, uint32_t slot);
/* Whether tcp_tx_answer() may be called. */
bool tcp_tx_has_room(const struct tp_conn *conn);
void tcp_tx_answer(struct tp_conn *conn, const struct tcp_answer *answer);

/* A flush this turn. */
void tcp_tx_schedule(struct tp_conn *conn);
/* Writes what is queued, once; from the flush watcher.  May end the connection; no upcall. */
void tcp_tx_flush(struct tp_conn *conn);
/* Before the socket closes: messages that can go out at once do, ops and answers do not. */
void tcp_tx_farewell(struct tp_conn *conn);
bool tcp_tx_is_empty(const struct tp_conn *conn);
/* @grant was revoked: answers from it turn into errors, the rest of a half-sent
 * one is copied.  Returns whether an answer became an error. */
bool tcp_tx_forget_grant(struct tp_conn *conn, struct tp_grant *grant);

#endif /* TRANSPORT_TCP_TX_H */
