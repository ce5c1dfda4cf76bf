/* SPDX-License-Identifier: MIT */
/*
 * shm_packet.h - between the socket and messages, grants and revocations.
 *
 * What goes out in one turn goes out in this order: preamble, grants, revocations or
 * their answers, messages.  A message that tells of a grant is sent after granted(),
 * which comes when the grant is on its way.
 */
#ifndef TRANSPORT_SHM_PACKET_H
#define TRANSPORT_SHM_PACKET_H

#include <stddef.h>

struct tp_conn;

/* The socket has packets: a bounded number of them. */
void shm_packet_readable(struct tp_conn *conn);

/* Returns 0, -EAGAIN (TP_SEND_QUEUE_MAX waiting), -ENOTCONN or -EMSGSIZE. */
int shm_packet_send(struct tp_conn *conn, const void *msg, size_t length_bytes);
void shm_packet_preamble(struct tp_conn *conn);
/* A flush this turn. */
void shm_packet_schedule(struct tp_conn *conn);
/* Sends what waits; from the flush watcher.  No upcall. */
void shm_packet_flush(struct tp_conn *conn);
/* Before the end: messages that can go out at once do, and what came is thrown away,
 * else the peer would see a reset instead of them. */
void shm_packet_farewell(struct tp_conn *conn);

/* The end without the end of the socket.  Returns 0 or -errno. */
int shm_packet_bye(struct tp_conn *conn);

#endif /* TRANSPORT_SHM_PACKET_H */
