/* SPDX-License-Identifier: MIT */
/* read.h - READ, held or streamed, and CACHE, which reads and tells nobody. */
#ifndef NBD_SERVER_READ_H
#define NBD_SERVER_READ_H

#include "nbd_server/step.h"
#include "wire/nbd_proto.h"

struct nbds_conn;
struct nbds_request;

/* What only a READ can be refused for; 0 or -errno. */
int nbds_read_check(const struct nbds_conn *conn, const struct nbdp_request *rq);
enum nbds_step nbds_read_step(struct nbds_request *req);
enum nbds_step nbds_cache_step(struct nbds_request *req);
/* All pieces came back: data or error. */
void nbds_read_reply(struct nbds_request *req);
/* Gives back the pieces of @req that are neither in the backend nor queued. */
void nbds_read_drop(struct nbds_request *req);

#endif /* NBD_SERVER_READ_H */
