/* SPDX-License-Identifier: MIT */
/* The instance: the table of operations, what runs once a turn, shutdown. */
#include "transport/shm.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "transport/shm_conn.h"
#include "transport/shm_grant.h"
#include "transport/shm_holder.h"
#include "transport/shm_listener.h"
#include "transport/shm_memory.h"
#include "transport/shm_op.h"
#include "transport/shm_packet.h"
#include "transport/shm_tp.h"

_Static_assert(SHM_FRAME_MESSAGE_BYTES_MAX == TP_MESSAGE_BYTES_MAX, "any message fits a frame");

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct shm_tp *shm = container_of(w, struct shm_tp, flush);
	struct list *node;

	(void)revents;
	while ((node = list_pop_head(&shm->flush_list)))
		shm_packet_flush(container_of(node, struct tp_conn, flush_node));
	if (list_is_empty(&shm->ready))
		ev_idle_stop(loop, &shm->awake);
	else
		ev_idle_start(loop, &shm->awake);
}

static void
copy_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	(void)loop;
	(void)revents;
	shm_ops_run(container_of(w, struct shm_tp, copy));
}

static void
awake_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
stopped_cb(void *arg)
{
	struct shm_tp *shm = arg;

	shm->stopped_fn(shm->stopped_arg);
}

void
shm_tp_conn_gone(struct shm_tp *shm)
{
	if (shm->is_stopping && list_is_empty(&shm->conns))
		defer_start(&shm->stopped);
}

static void
shm_shutdown(struct tp *tp, void (*done)(void *arg), void *arg)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);
	struct list *node, *next;

	assert(!shm->is_stopping);
	shm->is_stopping = true;
	shm->stopped_fn = done;
	shm->stopped_arg = arg;
	while (!list_is_empty(&shm->listeners))
		shm_listener_close(container_of(shm->listeners.next, struct tp_listener, node));
	list_foreach_safe (node, next, &shm->conns)
		shm_conn_close(container_of(node, struct tp_conn, node));
	shm_holders_forget(shm);
	shm_tp_conn_gone(shm);
}

static void
shm_free(struct tp *tp)
{
	struct shm_tp *shm = container_of(tp, struct shm_tp, tp);

	assert(list_is_empty(&shm->conns) && list_is_empty(&shm->listeners));
	assert(atomic_load(&shm->regions) == 0 && list_is_empty(&shm->memories));
	defer_stop(&shm->stopped);
	ev_idle_stop(shm->loop, &shm->awake);
	ev_ref(shm->loop);
	ev_check_stop(shm->loop, &shm->copy);
	ev_ref(shm->loop);
	ev_prepare_stop(shm->loop, &shm->flush);
	(void)pthread_mutex_destroy(&shm->lock);
	free(shm);
}

static uint64_t
memory_held(struct tp *tp)
{
	return atomic_load(&container_of(tp, struct shm_tp, tp)->held_bytes);
}

static const struct tp_ops shm_ops = {
	.name = "shm",
	.connect = shm_conn_connect,
	.listen = shm_listener_new,
	.listener_address = shm_listener_address,
	.listener_close = shm_listener_close,
	.accept = shm_conn_accept,
	.close = shm_conn_close,
	.conn_name = shm_conn_name,
	.send = shm_packet_send,
	.post = shm_op_post,
	.region_register = shm_region_register,
	.region_release = shm_region_release,
	.grant = shm_grant_new,
	.grant_remote = shm_grant_remote,
	.revoke = shm_grant_revoke,
	.shutdown = shm_shutdown,
	.free = shm_free,
	.memory_new = shm_memory_new,
	.memory_free = shm_memory_free,
	.region_is_spent = shm_region_is_spent,
	.memory_held = memory_held,
};

/* Always active and unreferenced, as tcp's flush: they alone are no reason to go on. */
static void
start_watchers(struct shm_tp *shm)
{
	ev_prepare_init(&shm->flush, flush_cb);
	ev_set_priority(&shm->flush, LOOP_PRI_FLUSH);
	ev_prepare_start(shm->loop, &shm->flush);
	ev_unref(shm->loop);
	/* After the descriptors of the same turn, whose callbacks post. */
	ev_check_init(&shm->copy, copy_cb);
	ev_set_priority(&shm->copy, LOOP_PRI_LATE);
	ev_check_start(shm->loop, &shm->copy);
	ev_unref(shm->loop);
	ev_idle_init(&shm->awake, awake_cb);
}

int
shm_tp_new_with_limits(struct ev_loop *loop, const struct shm_limits *limits, struct tp **ret_tp)
{
	struct shm_tp *shm;
	int r;

	assert(limits->handshake_ms && limits->stall_ms && limits->revoke_ms &&
	       limits->half_open_max);
	shm = calloc(1, sizeof(*shm));
	if (!shm)
		return -ENOMEM;
	r = -pthread_mutex_init(&shm->lock, NULL);
	if (r < 0) {
		free(shm);
		return r;
	}
	shm->tp.ops = &shm_ops;
	shm->loop = loop;
	shm->limits = *limits;
	list_init(&shm->conns);
	list_init(&shm->listeners);
	list_init(&shm->half_open);
	list_init(&shm->flush_list);
	list_init(&shm->ready);
	list_init(&shm->memories);
	shm_holders_init(shm);
	atomic_init(&shm->regions, 0);
	defer_init(&shm->stopped, loop, stopped_cb, shm);
	start_watchers(shm);
	*ret_tp = &shm->tp;
	return 0;
}

int
shm_tp_new(struct ev_loop *loop, struct tp **ret_tp)
{
	const struct shm_limits limits = SHM_LIMITS_DEFAULT;

	return shm_tp_new_with_limits(loop, &limits, ret_tp);
}
