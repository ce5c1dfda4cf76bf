/* SPDX-License-Identifier: MIT */
/* The table of transport.h, and the life of a transport; fake_world.c has the rest. */
#include "lib/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
fake_shutdown(struct tp *tp, void (*done)(void *arg), void *arg)
{
	struct fake_tp *t = tp_fake(tp);
	struct step *s;
	struct list *n, *tmp;

	list_foreach_safe (n, tmp, &t->listeners) {
		fake_listener_close(
			(struct tp_listener *)(void *)container_of(n, struct fake_listener, node));
	}
	list_foreach (n, &t->conns) {
		fake_close(conn_public(container_of(n, struct fake_conn, node)));
	}
	s = fake_step_new(t->net, FAKE_SHUTDOWN, NULL, 0);
	s->tp = t;
	s->shutdown_done = done;
	s->arg = arg;
}

static void
fake_free(struct tp *tp)
{
	struct fake_tp *t = tp_fake(tp);

	assert(list_is_empty(&t->conns) && list_is_empty(&t->listeners) && t->regions == 0);
	list_del(&t->node);
	free(t);
}

static const struct tp_ops FAKE_TP_OPS = {
	.name = "fake",
	.connect = fake_connect,
	.listen = fake_listen,
	.listener_address = fake_listener_address,
	.listener_close = fake_listener_close,
	.accept = fake_accept,
	.close = fake_close,
	.conn_name = fake_conn_name,
	.send = fake_send,
	.post = fake_post,
	.region_register = fake_region_register,
	.region_release = fake_region_release,
	.grant = fake_grant,
	.grant_remote = fake_grant_remote,
	.revoke = fake_revoke,
	.shutdown = fake_shutdown,
	.free = fake_free,
};

struct tp *
fake_tp_new(struct fake_net *net)
{
	struct fake_tp *t = fake_alloc(sizeof(*t));

	t->tp.ops = &FAKE_TP_OPS;
	t->net = net;
	list_init(&t->conns);
	list_init(&t->listeners);
	list_add_tail(&net->tps, &t->node);
	return &t->tp;
}

static void
note_shutdown(void *arg)
{
	*(bool *)arg = true;
}

struct tp *
fake_tp_end(struct tp *tp)
{
	struct fake_net *net = tp_fake(tp)->net;
	bool done = false;

	memset(net->hold, 0, sizeof(net->hold));
	tp_shutdown(tp, note_shutdown, &done);
	(void)fake_net_run(net);
	assert(done);
	return tp_free(tp);
}
