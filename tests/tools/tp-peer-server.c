/* SPDX-License-Identifier: MIT */
/* Does what its clients ask for, as a daemon would, and checks that all memory comes back. */
#include "tp-peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

#include "common/list.h"

struct slab {
	void *memory;
	size_t length_bytes;
	struct tp_region *region;
	struct tp_grant *grant; /* also while it is not granted yet */
	struct guest *owner;
};

struct server {
	struct env *env;
	struct tp_listener *listener;
	struct slab slabs[GRANTS_MAX];
	uint32_t n_conns;
	uint32_t n_sunk;
	struct list floods; /* guest.node */
	ev_timer more;
	ev_signal stop[2];
	bool is_stopping;
};

struct guest {
	struct server *server;
	struct tp_conn *conn;
	struct list node;
	uint32_t n_flood;
};

static void
reply(struct guest *g, const void *msg, size_t length_bytes)
{
	const int r = tp_send(g->conn, msg, length_bytes);

	if (r == -EAGAIN)
		tp_close(g->conn);
}

static void
reply_result(struct guest *g, uint8_t command, int status, uint64_t sum)
{
	const struct result result = {.command = command, .status = status, .sum = sum};

	reply(g, &result, sizeof(result));
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct slab *slab = arg;
	struct granted granted = {.command = CMD_GRANT, .status = status};

	if (status == 0)
		tp_grant_remote(grant, &granted.remote);
	reply(slab->owner, &granted, sizeof(granted));
	if (status < 0)
		slab->grant = NULL;
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct slab *slab = arg;

	(void)grant;
	reply_result(slab->owner, CMD_REVOKE, status, 0);
	if (status < 0)
		return;
	slab->grant = NULL;
	slab->owner = NULL;
}

static void
flood_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct server *s = container_of(w, struct server, more);
	struct list *node, *next;
	uint8_t msg[100] = {CMD_SINK};

	(void)revents;
	list_foreach_safe (node, next, &s->floods) {
		struct guest *g = container_of(node, struct guest, node);

		while (g->n_flood > 0 && tp_send(g->conn, msg, sizeof(msg)) == 0)
			g->n_flood--;
		if (g->n_flood == 0)
			list_del(&g->node);
	}
	if (list_is_empty(&s->floods))
		ev_timer_stop(loop, w);
}

static void
serve_status(struct guest *g)
{
	struct status status = {
		.command = CMD_STATUS, .n_conns = g->server->n_conns, .n_sunk = g->server->n_sunk};
	uint32_t i;

	for (i = 0; i < GRANTS_MAX; i++)
		status.n_granted += g->server->slabs[i].grant != NULL;
	reply(g, &status, sizeof(status));
}

static void
make_slab(struct tp *tp, struct slab *slab)
{
	if (tp_has_memory(tp))
		CHECK_INT(tp_memory_new(tp, slab->length_bytes, false, &slab->memory), 0);
	else
		slab->memory = map_memory(slab->length_bytes);
	CHECK_INT(tp_region_register(tp, slab->memory, slab->length_bytes, TP_LEND, &slab->region),
		  0);
}

static void
drop_slab(struct tp *tp, struct slab *slab)
{
	CHECK_INT(tp_region_release(slab->region), 0);
	if (tp_has_memory(tp))
		tp_memory_free(tp, slab->memory);
	else
		CHECK_INT(munmap(slab->memory, slab->length_bytes), 0);
}

/* As a daemon has to: memory of a spent region is not lent again. */
static void
renew(struct tp *tp, struct slab *slab)
{
	if (!tp_region_is_spent(slab->region))
		return;
	drop_slab(tp, slab);
	make_slab(tp, slab);
}

static void
serve_slab(struct guest *g, const struct request *request)
{
	struct slab *slab = &g->server->slabs[request->value % GRANTS_MAX];
	int r;

	switch (request->command) {
	case CMD_GRANT:
		if (!slab->grant)
			renew(g->server->env->tp, slab);
		slab->owner = g;
		r = slab->grant ? -EBUSY
				: tp_grant(g->conn, slab->region, granted_cb, slab, &slab->grant);
		if (r < 0)
			reply_result(g, CMD_GRANT, r, 0);
		break;
	case CMD_REVOKE:
		tp_revoke(slab->grant, revoked_cb, slab);
		break;
	case CMD_SUM:
		reply_result(g, CMD_SUM, 0, sum_of(slab->memory, slab->length_bytes));
		break;
	default:
		reply_result(g, CMD_RELEASE, tp_region_release(slab->region), 0);
		break;
	}
}

static void
server_message_cb(void *arg, const void *msg, size_t length_bytes)
{
	struct guest *g = arg;
	struct request request = {0};
	int i;

	memcpy(&request, msg, length_bytes < sizeof(request) ? length_bytes : sizeof(request));
	switch (request.command) {
	case CMD_ECHO:
		reply(g, msg, length_bytes);
		break;
	case CMD_SINK:
		g->server->n_sunk++;
		break;
	case CMD_FLOOD:
		g->n_flood = request.value;
		list_add_tail(&g->server->floods, &g->node);
		ev_timer_again(g->server->env->loop, &g->server->more);
		break;
	case CMD_STATUS:
		serve_status(g);
		break;
	case CMD_GRANT:
	case CMD_REVOKE:
	case CMD_SUM:
	case CMD_RELEASE:
		serve_slab(g, &request);
		break;
	case CMD_CLOSE:
		tp_close(g->conn);
		break;
	case CMD_SAY_AND_CLOSE:
		for (i = 0; i < 10; i++)
			reply_result(g, CMD_SINK, i, 0);
		tp_close(g->conn);
		break;
	case CMD_KILL:
		(void)kill(getpid(), SIGKILL);
		break;
	default:
		tp_close(g->conn);
		break;
	}
}

static void
server_down_cb(void *arg, int reason)
{
	struct guest *g = arg;
	struct server *s = g->server;
	uint32_t i;

	(void)printf("down %d\n", reason);
	(void)fflush(stdout);
	for (i = 0; i < GRANTS_MAX; i++) {
		if (s->slabs[i].owner != g)
			continue;
		s->slabs[i].owner = NULL;
		s->slabs[i].grant = NULL;
	}
	list_del(&g->node);
	s->n_conns--;
	free(g);
}

static const struct tp_conn_events server_events = {.message = server_message_cb,
						    .down = server_down_cb};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct server *s = arg;
	struct guest *g;

	if (s->env->refuse) {
		tp_close(conn);
		return;
	}
	g = calloc(1, sizeof(*g));
	CHECK(g);
	g->server = s;
	g->conn = conn;
	list_init(&g->node);
	s->n_conns++;
	tp_accept(conn, &server_events, g);
}

static void
stop_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct server *s = w->data;

	(void)loop;
	(void)revents;
	if (s->is_stopping)
		return;
	s->is_stopping = true;
	tp_shutdown(s->env->tp, shutdown_done, s->env);
}

int
run_server(struct env *env)
{
	struct server s = {.env = env};
	char address[TP_NAME_BYTES_MAX];
	uint32_t i;
	int r;

	list_init(&s.floods);
	ev_init(&s.more, flood_cb);
	s.more.repeat = 0.001;
	for (i = 0; i < GRANTS_MAX; i++) {
		struct slab *slab = &s.slabs[i];

		slab->length_bytes = i < SLABS ? SLAB_BYTES : SMALL_BYTES;
		make_slab(env->tp, slab);
	}
	r = tp_listen(env->tp, env->address, incoming_cb, &s, &s.listener);
	if (r < 0)
		peer_fail("listen %s: %s", env->address, strerror(-r));
	tp_listener_address(s.listener, address, sizeof(address));
	(void)printf("listening %s\n", address);
	(void)fflush(stdout);
	ev_signal_init(&s.stop[0], stop_cb, SIGTERM);
	ev_signal_init(&s.stop[1], stop_cb, SIGINT);
	for (i = 0; i < 2; i++) {
		s.stop[i].data = &s;
		ev_signal_start(env->loop, &s.stop[i]);
	}
	ev_run(env->loop, 0);
	CHECK(env->is_down);
	CHECK_INT(s.n_conns, 0);
	for (i = 0; i < GRANTS_MAX; i++)
		drop_slab(env->tp, &s.slabs[i]);
	return 0;
}
