/* SPDX-License-Identifier: MIT */
/*
 * shm_grant.h - daemon: regions lent to the peer of one connection.
 *
 *   tp_grant() -> GRANT is sent -> granted() -> tp_revoke() -> REVOKE is sent
 *   -> REVOKED comes -> revoked()
 *
 * An rkey is the index of an entry and a number that changes with each use of the entry.
 */
#ifndef TRANSPORT_SHM_GRANT_H
#define TRANSPORT_SHM_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "transport/transport.h"
#include "wire/shm_frame.h"

struct tp_grant {
	struct tp_base base;
	struct tp_conn *conn;
	struct tp_region *region; /* NULL: taken back */
	uint32_t rkey;
	bool is_sent;	  /* the peer may have it */
	struct list node; /* to_grant, to_revoke or revoking of the connection */
	struct list event_node;
	double revoke_sent_at;
	tp_grant_fn *event; /* granted() or revoked() */
	void *event_arg;
	int status;
};

int shm_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
		  struct tp_grant **ret_grant);
void shm_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote);
void shm_grant_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);

/* The GRANT that is to be sent next, with the descriptor to send; false when there is none. */
bool shm_grant_next(struct tp_conn *conn, struct shm_frame *ret_frame, int *ret_fd);
/* It was sent (0), or never will be (-errno). */
void shm_grant_sent(struct tp_conn *conn, int status);
/* The same for REVOKE. */
bool shm_grant_next_revoke(struct tp_conn *conn, struct shm_frame *ret_frame);
void shm_grant_revoke_sent(struct tp_conn *conn);
/* REVOKED came. */
void shm_grant_answered(struct tp_conn *conn, uint32_t rkey);

/* Runs due events, a bounded number of them.  Returns whether some are left. */
bool shm_grants_run_events(struct tp_conn *conn);
/* Slabs that the peer was told of and has not given back, bytes. */
uint64_t shm_grants_held_bytes(const struct tp_conn *conn);
/* The connection has ended: every grant is freed, nobody is called. */
void shm_grants_free_all(struct tp_conn *conn);

#endif /* TRANSPORT_SHM_GRANT_H */
