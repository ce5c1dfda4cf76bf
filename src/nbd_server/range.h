/* SPDX-License-Identifier: MIT */
/* range.h - TRIM, WRITE_ZEROES and FLUSH: no payload, one piece after the other. */
#ifndef NBD_SERVER_RANGE_H
#define NBD_SERVER_RANGE_H

struct nbds_request;

/* Goes on by itself until the reply. */
void nbds_range_start(struct nbds_request *req);

#endif /* NBD_SERVER_RANGE_H */
