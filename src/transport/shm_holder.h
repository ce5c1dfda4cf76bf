/* SPDX-License-Identifier: MIT */
/*
 * shm_holder.h - daemon: peers of ended connections that may still have slabs mapped.
 *
 * Their memory is not ours any more, and not the host's either until they end.  The
 * socket stays open for nothing but to notice that.
 */
#ifndef TRANSPORT_SHM_HOLDER_H
#define TRANSPORT_SHM_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "transport/transport.h"

struct shm_tp;

struct shm_holder {
	struct list node;
	int fd;
	uint64_t bytes;
	bool was_said;
	char name[TP_NAME_BYTES_MAX]; /* of the connection */
};

/* @conn is ending.  Returns true when its peer may hold memory: then its socket and its
 * holder are no longer the connection's. */
bool shm_holder_keep(struct tp_conn *conn);
void shm_holders_init(struct shm_tp *shm);
/* Forgets them all: the process ends. */
void shm_holders_forget(struct shm_tp *shm);

#endif /* TRANSPORT_SHM_HOLDER_H */
