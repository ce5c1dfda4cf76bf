/* SPDX-License-Identifier: MIT */
/* stats.h - counters of an NBD server; all but `connections` only grow. */
#ifndef NBD_SERVER_STATS_H
#define NBD_SERVER_STATS_H

#include <stdint.h>

#include "wire/nbd_proto.h"

struct nbds_stats {
	uint64_t connections;		   /* open now, those in their handshake too */
	uint64_t accepted;		   /* connections */
	uint64_t refused;		   /* connections over the limit */
	uint64_t requests[NBDP_CMD_COUNT]; /* by enum nbdp_cmd; also those answered with an error */
	uint64_t unknown_requests;
	uint64_t errors;	/* error replies */
	uint64_t read_bytes;	/* data sent to clients */
	uint64_t written_bytes; /* payload taken from clients */
};

#endif /* NBD_SERVER_STATS_H */
