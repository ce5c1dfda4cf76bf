/* SPDX-License-Identifier: MIT */
/* The two ends of a connection, from connect and listen to the end. */
#include "lib/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
fake_conn_free(struct fake_conn *c)
{
	struct list *n, *tmp;

	list_foreach_safe (n, tmp, &c->tp->net->steps) {
		if (step_of(n)->conn == c)
			fake_step_free(step_of(n));
	}
	assert(list_is_empty(&c->grants));
	if (c->peer)
		c->peer->peer = NULL;
	list_del(&c->node);
	free(c);
}

/* Messages that were under way: a prefix of them arrives, with seed 0 an empty one. */
static void
lose_messages(struct fake_conn *c, bool all)
{
	struct fake_net *net = c->tp->net;
	struct list *n, *tmp;
	bool lost = all || !c->ready || c->deaf;

	list_foreach_safe (n, tmp, &net->steps) {
		struct step *s = step_of(n);

		if (s->kind != FAKE_MESSAGE || s->conn != c)
			continue;
		lost = lost || !fake_coin(net);
		if (lost)
			fake_step_free(s);
	}
}

void
fake_conn_end(struct fake_conn *c, int reason)
{
	struct fake_net *net = c->tp->net;
	struct list *n, *tmp;

	if (c->ending)
		return;
	c->ending = true;
	lose_messages(c, false);
	list_foreach_safe (n, tmp, &net->steps) {
		struct step *s = step_of(n);

		if (s->conn != c)
			continue;
		if (s->kind == FAKE_OP)
			s->cancelled = !fake_coin(net);
		else if (s->kind == FAKE_UP ||
			 ((s->kind == FAKE_GRANTED || s->kind == FAKE_REVOKED) && !fake_coin(net)))
			fake_step_free(s);
	}
	fake_step_new(net, FAKE_DOWN, c, 0)->reason = reason;
}

/* The other end, which may not even have been shown to its owner yet. */
static void
peer_end(struct fake_conn *c, int reason)
{
	struct fake_conn *peer = c->peer;

	if (!peer)
		return;
	if (peer->listener)
		fake_conn_free(peer);
	else
		fake_conn_end(peer, reason);
}

void
fake_net_cut(struct tp_conn *conn, int reason)
{
	struct fake_conn *c = conn_of(conn);

	peer_end(c, reason);
	fake_conn_end(c, reason);
}

void
fake_close(struct tp_conn *conn)
{
	struct fake_conn *c = conn_of(conn);

	if (c->listener) {
		c->refused = true;
		return;
	}
	if (c->closed)
		return;
	c->closed = true;
	lose_messages(c, true);
	peer_end(c, 0);
	fake_conn_end(c, 0);
}

static struct fake_conn *
conn_new(struct fake_tp *tp, const char *address)
{
	struct fake_conn *c = fake_alloc(sizeof(*c));

	c->base.tp = &tp->tp;
	c->tp = tp;
	list_init(&c->grants);
	(void)snprintf(c->name, sizeof(c->name), "fake:%s#%u", address, ++tp->net->serial);
	list_add_tail(&tp->conns, &c->node);
	return c;
}

static struct fake_listener *
listener_find(struct fake_net *net, const char *address)
{
	struct list *t, *l;

	list_foreach (t, &net->tps) {
		struct fake_tp *tp = container_of(t, struct fake_tp, node);

		list_foreach (l, &tp->listeners) {
			struct fake_listener *listener =
				container_of(l, struct fake_listener, node);

			if (strcmp(listener->address, address) == 0)
				return listener;
		}
	}
	return NULL;
}

int
fake_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
	     const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	struct fake_tp *t = tp_fake(tp);
	struct fake_listener *listener = listener_find(t->net, address);
	struct fake_conn *c, *peer;

	assert(timeout_ns > 0 && events && events->up && events->message && events->down);
	if (strchr(address, ':') == NULL)
		return -EINVAL;
	c = conn_new(t, address);
	c->events = events;
	c->arg = arg;
	if (listener) {
		peer = conn_new(tp_fake(listener->base.tp), address);
		peer->listener = listener;
		peer->peer = c;
		c->peer = peer;
		fake_step_new(t->net, FAKE_INCOMING, peer, 0);
	} else {
		fake_conn_end(c, -ECONNREFUSED);
	}
	*ret_conn = conn_public(c);
	return 0;
}

int
fake_listen(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
	    struct tp_listener **ret_listener)
{
	struct fake_tp *t = tp_fake(tp);
	struct fake_listener *l;

	if (strchr(address, ':') == NULL || strlen(address) >= sizeof(l->address))
		return -EINVAL;
	if (listener_find(t->net, address))
		return -EADDRINUSE;
	l = fake_alloc(sizeof(*l));
	l->base.tp = tp;
	memcpy(l->address, address, strlen(address) + 1);
	l->incoming = incoming;
	l->arg = arg;
	list_add_tail(&t->listeners, &l->node);
	*ret_listener = (struct tp_listener *)(void *)l;
	return 0;
}

void
fake_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	(void)snprintf(buf, size, "fake:%s",
		       ((const struct fake_listener *)(const void *)listener)->address);
}

void
fake_listener_close(struct tp_listener *listener)
{
	struct fake_listener *l = (struct fake_listener *)(void *)listener;
	struct fake_tp *t = tp_fake(l->base.tp);
	struct list *n, *tmp;

	list_foreach_safe (n, tmp, &t->conns) {
		struct fake_conn *c = container_of(n, struct fake_conn, node);

		if (c->listener != l)
			continue;
		if (c->peer)
			fake_conn_end(c->peer, -ECONNREFUSED);
		fake_conn_free(c);
	}
	list_del(&l->node);
	free(l);
}

void
fake_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	struct fake_conn *c = conn_of(conn);

	assert(c->listener && !c->refused && !c->ready);
	assert(events && events->message && events->down);
	c->events = events;
	c->arg = arg;
	c->ready = true;
}

const char *
fake_conn_name(const struct tp_conn *conn)
{
	return ((const struct fake_conn *)(const void *)conn)->name;
}

int
fake_send(struct tp_conn *conn, const void *msg, size_t length_bytes)
{
	struct fake_conn *c = conn_of(conn);
	struct step *s;

	if (length_bytes == 0 || length_bytes > TP_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (c->closed || !c->ready)
		return -ENOTCONN;
	if (c->ending || !c->peer)
		return 0; /* the link is gone, this end does not know yet */
	if (fake_net_pending(c->tp->net, FAKE_MESSAGE, conn_public(c->peer)) >= TP_SEND_QUEUE_MAX)
		return -EAGAIN;
	s = fake_step_new(c->tp->net, FAKE_MESSAGE, c->peer, length_bytes);
	memcpy(s->bytes, msg, length_bytes);
	return 0;
}

struct tp_conn *
fake_conn_peer(const struct tp_conn *conn)
{
	const struct fake_conn *c = (const struct fake_conn *)(const void *)conn;

	return c->peer ? conn_public(c->peer) : NULL;
}

void
fake_conn_set_deaf(struct tp_conn *conn, bool deaf)
{
	conn_of(conn)->deaf = deaf;
}
