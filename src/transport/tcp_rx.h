/* SPDX-License-Identifier: MIT */
/* tcp_rx.h - from the socket to messages, completed ops and slab memory. */
#ifndef TRANSPORT_TCP_RX_H
#define TRANSPORT_TCP_RX_H

#include <stdbool.h>

struct tp_conn;
struct tp_grant;

/* The socket has bytes: one read, then every frame that came.  UP and LINGER. */
void tcp_rx_readable(struct tp_conn *conn);
/* Goes on after a pause if it can; from the loop. */
void tcp_rx_resume(struct tp_conn *conn);
/* @grant was revoked: a payload on its way into it goes nowhere. */
void tcp_rx_forget_grant(struct tp_conn *conn, struct tp_grant *grant);
/* Waits for the rest of a frame that the peer began. */
bool tcp_rx_is_mid_frame(const struct tp_conn *conn);

#endif /* TRANSPORT_TCP_RX_H */
