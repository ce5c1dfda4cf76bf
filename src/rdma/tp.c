/* SPDX-License-Identifier: MIT */
/* The table that transport.h calls, and what is made once per process. */
#include "rdma/tp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "rdma/cm.h"
#include "rdma/conn.h"
#include "rdma/device.h"
#include "rdma/grant.h"
#include "rdma/listener.h"
#include "rdma/region.h"

static void
tp_shutdown_begin(struct tp *base, void (*done)(void *arg), void *arg)
{
	struct vrb_tp *tp = vrb_tp_of(base);

	assert(!tp->is_shutting_down);
	tp->shutdown_done = done;
	tp->shutdown_arg = arg;
	vrb_listener_close_all(tp);
	vrb_conn_close_all(tp);
	tp->is_shutting_down = true;
	vrb_tp_check_shutdown(tp);
}

void
vrb_tp_check_shutdown(struct vrb_tp *tp)
{
	if (tp->is_shutting_down && list_is_empty(&tp->conns) && list_is_empty(&tp->listeners))
		defer_start(&tp->shutdown);
}

static void
shutdown_cb(void *arg)
{
	struct vrb_tp *tp = arg;

	tp->shutdown_done(tp->shutdown_arg);
}

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct vrb_tp *tp = container_of(w, struct vrb_tp, flush);

	(void)loop;
	(void)revents;
	vrb_conn_flush_all(tp);
}

static void
tp_release(struct tp *base)
{
	struct vrb_tp *tp = vrb_tp_of(base);

	assert(list_is_empty(&tp->conns) && list_is_empty(&tp->listeners));
	defer_stop(&tp->shutdown);
	ev_prepare_stop(tp->loop, &tp->flush);
	vrb_cq_set_stop(&tp->cqs);
	vrb_device_close_all(tp);
	vrb_cm_close(tp);
	(void)pthread_mutex_destroy(&tp->lock);
	free(tp);
}

static const struct tp_ops vrb_tp_ops = {
	.name = "rdma",
	.connect = vrb_conn_connect,
	.listen = vrb_listener_new,
	.listener_address = vrb_listener_address,
	.listener_close = vrb_listener_close,
	.accept = vrb_conn_accept,
	.close = vrb_conn_close,
	.conn_name = vrb_conn_name,
	.send = vrb_conn_send,
	.post = vrb_conn_post,
	.region_register = vrb_region_register,
	.region_release = vrb_region_release,
	.grant = vrb_grant_new,
	.grant_remote = vrb_grant_remote,
	.revoke = vrb_grant_revoke,
	.shutdown = tp_shutdown_begin,
	.free = tp_release,
};

void
vrb_tp_config_default(struct vrb_tp_config *config)
{
	*config = (struct vrb_tp_config){
		.op_depth = 256,
		.message_depth = 32,
		.pending_max = 64,
		.ack_timeout = 15,
		.retry_count = 6,
		.rnr_retry_count = 6,
	};
}

static int
check_range(const char *name, uint32_t value, uint32_t min, uint32_t max)
{
	if (value >= min && value <= max)
		return 0;
	log_error("rdma: %s is %u, allowed are %u to %u", name, value, min, max);
	return -EINVAL;
}

static int
check_config(const struct vrb_tp_config *config)
{
	if (check_range("op_depth", config->op_depth, 1, 4096) < 0 ||
	    check_range("message_depth", config->message_depth, 2, VRB_MESSAGE_DEPTH_MAX) < 0 ||
	    check_range("pending_max", config->pending_max, 1, 1024) < 0 ||
	    check_range("ack_timeout", config->ack_timeout, 8, 20) < 0 ||
	    check_range("retry_count", config->retry_count, 1, 6) < 0 ||
	    check_range("rnr_retry_count", config->rnr_retry_count, 0, 6) < 0)
		return -EINVAL;
	return 0;
}

int
vrb_tp_new(struct ev_loop *loop, const struct vrb_tp_config *config, struct tp **ret_tp)
{
	struct vrb_tp *tp;
	int r;

	tp = calloc(1, sizeof(*tp));
	if (!tp)
		return -ENOMEM;
	tp->base.ops = &vrb_tp_ops;
	tp->loop = loop;
	vrb_tp_config_default(&tp->config);
	if (config)
		tp->config = *config;
	r = check_config(&tp->config);
	if (r < 0)
		goto err_free;
	list_init(&tp->conns);
	list_init(&tp->listeners);
	list_init(&tp->to_flush);
	list_init(&tp->regions);
	r = -pthread_mutex_init(&tp->lock, NULL);
	if (r < 0)
		goto err_free;
	r = vrb_cm_open(tp);
	if (r < 0)
		goto err_lock;
	r = vrb_device_open_all(tp);
	if (r < 0)
		goto err_cm;
	defer_init(&tp->shutdown, loop, shutdown_cb, tp);
	ev_prepare_init(&tp->flush, flush_cb);
	ev_set_priority(&tp->flush, LOOP_PRI_FLUSH);
	ev_prepare_start(loop, &tp->flush);
	vrb_cq_set_start(&tp->cqs, loop);
	*ret_tp = &tp->base;
	return 0;

err_cm:
	vrb_device_close_all(tp);
	vrb_cm_close(tp);
err_lock:
	(void)pthread_mutex_destroy(&tp->lock);
err_free:
	free(tp);
	return r;
}
