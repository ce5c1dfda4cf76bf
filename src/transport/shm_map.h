/* SPDX-License-Identifier: MIT */
/* shm_map.h - client: the memory that the daemon of one connection lent, mapped here. */
#ifndef TRANSPORT_SHM_MAP_H
#define TRANSPORT_SHM_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/transport.h"
#include "wire/shm_frame.h"

/*
 * GRANT came; takes over @fd.  May end the connection.  When it returns the page tables for the
 * memory are there, since an access on the I/O path must not have to wait for memory, and nearly
 * empty: while conn->n_faulting is not 0 they are being filled, or the first access of a page does it.
 */
void shm_map_add(struct tp_conn *conn, uint32_t rkey, uint64_t length_bytes, int fd);
/* Fills a part of them, from the loop. */
void shm_map_fault_in(struct tp_conn *conn);
/* REVOKE came: unmapped when it returns, the answer is on its way. */
void shm_map_revoke(struct tp_conn *conn, uint32_t rkey);
/* The REVOKED that is to be sent next; false when there is none. */
bool shm_map_next_answer(struct tp_conn *conn, struct shm_frame *ret_frame);
/* It was sent. */
void shm_map_answered(struct tp_conn *conn);

/* The memory that @op asks for, or NULL: not lent to us for that, or beyond its end. */
uint8_t *shm_map_find(const struct tp_conn *conn, const struct tp_op *op);

/* The connection has ended: unmaps a bounded amount.  Returns whether all is unmapped. */
bool shm_maps_unmap(struct tp_conn *conn);

#endif /* TRANSPORT_SHM_MAP_H */
