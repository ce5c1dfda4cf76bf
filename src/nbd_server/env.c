/* SPDX-License-Identifier: MIT */
/* Replies of a whole turn leave with one system call per connection; leftover work starts the next. */
#include "nbd_server/env.h"

#include "nbd_server/conn.h"
#include "nbd_server/out.h"

#define RATE_SECONDS 10.0

/* Only those that were runnable when the turn began: who becomes so again waits for the next. */
static void
run_cb(void *arg)
{
	struct nbds_env *env = arg;
	struct nbds_conn *conn;
	struct list now;
	struct list *node;

	list_init(&now);
	list_splice_tail(&now, &env->runnable);
	while ((node = list_pop_head(&now))) {
		conn = container_of(node, struct nbds_conn, runnable_node);
		nbds_conn_run(conn);
	}
}

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct nbds_env *env = container_of(w, struct nbds_env, flush);
	struct list *node;

	(void)loop;
	(void)revents;
	while ((node = list_pop_head(&env->dirty)))
		nbds_out_flush(container_of(node, struct nbds_conn, dirty_node));
}

void
nbds_env_start(struct nbds_env *env)
{
	list_init(&env->runnable);
	list_init(&env->dirty);
	defer_init(&env->run, env->loop, run_cb, env);
	ev_prepare_init(&env->flush, flush_cb);
	ev_set_priority(&env->flush, LOOP_PRI_FLUSH);
	ev_prepare_start(env->loop, &env->flush);
	/* It waits for nothing, so it must not keep the loop alive. */
	ev_unref(env->loop);
	nbds_gate_init(&env->gate, env->loop, env->be);
}

void
nbds_env_stop(struct nbds_env *env)
{
	nbds_gate_fini(&env->gate);
	defer_stop(&env->run);
	ev_ref(env->loop);
	ev_prepare_stop(env->loop, &env->flush);
}

bool
nbds_rate_allows(struct nbds_rate *rate, struct ev_loop *loop, uint64_t *ret_dropped)
{
	if (ev_now(loop) < rate->next) {
		rate->dropped++;
		return false;
	}
	rate->next = ev_now(loop) + RATE_SECONDS;
	*ret_dropped = rate->dropped;
	rate->dropped = 0;
	return true;
}
