/* SPDX-License-Identifier: MIT */
/* cut.h - how a request is cut into the pieces that backend.h allows. */
#ifndef NBD_SERVER_CUT_H
#define NBD_SERVER_CUT_H

#include <stdint.h>

#include "nbd_server/backend.h"

/* The piece of a READ or WRITE that starts at @offset_bytes, @rest_bytes (> 0) before the
 * end of the request: part of one page, or whole pages of one block. */
uint32_t nbds_cut_data(uint64_t offset_bytes, uint64_t rest_bytes);

/* How many such pieces the range takes. */
uint32_t nbds_cut_data_count(uint64_t offset_bytes, uint32_t length_bytes);

/* A TRIM or WRITE_ZEROES: the whole pages in the middle, and what is left of them. */
struct nbds_cut_range {
	uint64_t middle_offset_bytes;
	uint64_t middle_bytes;
	uint64_t head_offset_bytes; /* head, tail: part of one page each; 0 bytes: none */
	uint32_t head_bytes;
	uint64_t tail_offset_bytes;
	uint32_t tail_bytes;
};

struct nbds_cut_range nbds_cut_range(uint64_t offset_bytes, uint64_t length_bytes);

#endif /* NBD_SERVER_CUT_H */
