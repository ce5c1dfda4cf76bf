/* SPDX-License-Identifier: MIT */
/* An op that is posted by a done() waits for the next turn: a chain of them starves nobody. */
#include "transport/shm_op.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "transport/shm_conn.h"
#include "transport/shm_map.h"
#include "transport/shm_memory.h"

/* Of one connection; about a millisecond. */
#define BYTES_PER_TURN (4u << 20)
#define CANCELS_PER_TURN 256u
#define CACHE_LINE_BYTES 64u
/* The processor follows a longer run by itself. */
#define PREFETCH_BYTES_MAX 4096u

void
shm_ops_start(struct tp_conn *conn)
{
	if (!list_is_empty(&conn->waiting) && !list_is_linked(&conn->ready_node))
		list_add_tail(&conn->shm->ready, &conn->ready_node);
}

void
shm_op_post(struct tp_conn *conn, struct tp_op *op)
{
	assert(conn->is_client);
	assert(op->length_bytes >= 1 && op->length_bytes <= TP_OP_BYTES_MAX);
	assert((uint8_t *)op->buf >= op->region->mem &&
	       (uint8_t *)op->buf + op->length_bytes <= op->region->mem + op->region->length_bytes);
	op->conn = conn;
	list_add_tail(&conn->waiting, &op->node);
	if (conn->state == SHM_CONN_UP)
		shm_ops_start(conn);
}

static void
run_op(struct tp_conn *conn, struct tp_op *op)
{
	uint8_t *remote = shm_map_find(conn, op);

	if (!remote) {
		shm_conn_end(conn, -EACCES);
		op->done(op, -EACCES);
		return;
	}
	if (op->kind == TP_OP_READ)
		memcpy(op->buf, remote, op->length_bytes);
	else
		memcpy(remote, op->buf, op->length_bytes);
	op->done(op, 0);
}

/* Where the pages lie is random: their memory is fetched while those before them are copied. */
static void
prefetch_next(struct tp_conn *conn)
{
	const struct tp_op *op;
	const uint8_t *remote;

	if (list_is_empty(&conn->running))
		return;
	op = container_of(conn->running.next, struct tp_op, node);
	remote = shm_map_find(conn, op);
	for (uint32_t at = 0; remote && at < op->length_bytes && at < PREFETCH_BYTES_MAX;
	     at += CACHE_LINE_BYTES)
		__builtin_prefetch(remote + at);
}

/* Returns with ops in conn->running when the bound was reached. */
static void
run_conn(struct tp_conn *conn)
{
	uint32_t bytes = 0;
	struct list *node;

	list_splice_tail(&conn->running, &conn->waiting);
	while (bytes < BYTES_PER_TURN && conn->state == SHM_CONN_UP &&
	       (node = list_pop_head(&conn->running))) {
		struct tp_op *op = container_of(node, struct tp_op, node);

		bytes += op->length_bytes;
		prefetch_next(conn);
		run_op(conn, op);
	}
}

void
shm_ops_run(struct shm_tp *shm)
{
	struct list turn, *node;

	list_init(&turn);
	list_splice_tail(&turn, &shm->ready);
	while ((node = list_pop_head(&turn))) {
		struct tp_conn *conn = container_of(node, struct tp_conn, ready_node);

		run_conn(conn);
		if (conn->state == SHM_CONN_UP && !list_is_empty(&conn->running) &&
		    !list_is_linked(&conn->ready_node))
			list_add_tail(&shm->ready, &conn->ready_node);
	}
}

bool
shm_ops_cancel(struct tp_conn *conn)
{
	uint32_t n = 0;
	struct list *node;

	while (n++ < CANCELS_PER_TURN &&
	       ((node = list_pop_head(&conn->running)) || (node = list_pop_head(&conn->waiting)))) {
		struct tp_op *op = container_of(node, struct tp_op, node);

		op->done(op, -ECANCELED);
	}
	return list_is_empty(&conn->running) && list_is_empty(&conn->waiting);
}
