/* SPDX-License-Identifier: MIT */
/* write.h - WRITE: payload to pieces, each submitted as soon as it is complete. */
#ifndef NBD_SERVER_WRITE_H
#define NBD_SERVER_WRITE_H

#include "nbd_server/step.h"

struct nbds_conn;
struct nbds_request;

enum nbds_step nbds_write_step(struct nbds_request *req);
/* Gives back the piece that is being filled, if any. */
void nbds_write_drop(struct nbds_conn *conn);

#endif /* NBD_SERVER_WRITE_H */
