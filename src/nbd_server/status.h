/* SPDX-License-Identifier: MIT */
/* status.h - BLOCK_STATUS of base:allocation. */
#ifndef NBD_SERVER_STATUS_H
#define NBD_SERVER_STATUS_H

#include "nbd_server/step.h"

struct nbds_request;

#define NBDS_ALLOCATION_ID 1u

enum nbds_step nbds_status_step(struct nbds_request *req);

#endif /* NBD_SERVER_STATUS_H */
