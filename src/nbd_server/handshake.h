/* SPDX-License-Identifier: MIT */
/* handshake.h - fixed newstyle negotiation, one option after the other. */
#ifndef NBD_SERVER_HANDSHAKE_H
#define NBD_SERVER_HANDSHAKE_H

#include "nbd_server/step.h"

struct nbds_conn;

/* Longest option payload that is looked at. */
#define NBDS_OPTION_BYTES_MAX (64u * 1024u)
/* Options per connection. */
#define NBDS_OPTIONS_MAX 64u

void nbds_handshake_greet(struct nbds_conn *conn);
enum nbds_step nbds_handshake_step(struct nbds_conn *conn);

#endif /* NBD_SERVER_HANDSHAKE_H */
