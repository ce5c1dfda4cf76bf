/* SPDX-License-Identifier: MIT */
/*
 * shm_op.h - client: ops are copies, run by the loop after the turn's descriptors.
 *
 * An op that was posted from a callback of the poll is copied, and done, in the same
 * turn, before the loop sleeps again; its consumer's answer leaves with the next flush.
 */
#ifndef TRANSPORT_SHM_OP_H
#define TRANSPORT_SHM_OP_H

#include <stdbool.h>

#include "transport/transport.h"

struct shm_tp;

void shm_op_post(struct tp_conn *conn, struct tp_op *op);
/* The connection is up: what was posted before may run. */
void shm_ops_start(struct tp_conn *conn);
/* From the copy watcher: runs what was posted before it, up to a bound. */
void shm_ops_run(struct shm_tp *shm);
/* The connection has ended: a bounded number of done()s.  Returns whether none is left. */
bool shm_ops_cancel(struct tp_conn *conn);

#endif /* TRANSPORT_SHM_OP_H */
