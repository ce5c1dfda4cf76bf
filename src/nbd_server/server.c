/* SPDX-License-Identifier: MIT */
/*
 * Happy path: new, listen, clients come and go, stop, stopped().
 * Failure modes: too many clients (closed at accept, so that they do not wait for
 * ever); clients that take no replies at the stop (cut off at the deadline).
 */
#include "nbd_server/server.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ev.h>

#include "common/list.h"
#include "common/log.h"
#include "nbd_server/conn.h"
#include "nbd_server/env.h"
#include "nbd_server/listener.h"

#define LISTENERS_MAX 16u
#define TRANSMISSION_FLAGS                                                                         \
	(NBDP_TF_HAS_FLAGS | NBDP_TF_SEND_FLUSH | NBDP_TF_SEND_FUA | NBDP_TF_SEND_TRIM |           \
	 NBDP_TF_SEND_WRITE_ZEROES | NBDP_TF_SEND_DF | NBDP_TF_CAN_MULTI_CONN |                    \
	 NBDP_TF_SEND_CACHE | NBDP_TF_SEND_FAST_ZERO)

struct nbds_server {
	struct nbds_env env;
	struct nbds_listener listeners[LISTENERS_MAX];
	size_t listener_count;
	struct list free_conns;
	struct list conns; /* nbds_conn.node: in use */
	uint64_t next_number;
	struct nbds_rate refused_rate;
	char *export_name;
	char *description;

	bool is_stopping;
	bool has_stopped;
	double stop_seconds;
	ev_timer stop_deadline;
	struct defer stopped_later;
	void (*stopped)(void *arg);
	void *stopped_arg;
};

static void
maybe_stopped(struct nbds_server *server)
{
	if (!server->is_stopping || server->has_stopped || !list_is_empty(&server->conns))
		return;
	server->has_stopped = true;
	ev_timer_stop(server->env.loop, &server->stop_deadline);
	defer_start(&server->stopped_later);
}

static void
stopped_cb(void *arg)
{
	struct nbds_server *server = arg;

	server->stopped(server->stopped_arg);
}

static void
conn_closed(struct nbds_env *env, struct nbds_conn *conn)
{
	struct nbds_server *server = container_of(env, struct nbds_server, env);

	list_del(&conn->node);
	list_add_head(&server->free_conns, &conn->node);
	maybe_stopped(server);
}

static void
accepted_cb(void *arg, int fd, const char *peer)
{
	struct nbds_server *server = arg;
	struct nbds_conn *conn;
	struct list *node;
	char label[NBDS_LABEL_BYTES];
	uint64_t dropped;

	node = list_pop_head(&server->free_conns);
	if (!node) {
		server->env.stats.refused++;
		(void)close(fd);
		if (nbds_rate_allows(&server->refused_rate, server->env.loop, &dropped))
			log_warn("nbd: refused a connection from %s: max_connections are open "
				 "(%" PRIu64 " more not logged before)",
				 peer, dropped);
		return;
	}
	conn = container_of(node, struct nbds_conn, node);
	list_add_tail(&server->conns, node);
	server->env.stats.accepted++;
	(void)snprintf(label, sizeof(label), "nbd#%" PRIu64 "[%.64s]", ++server->next_number, peer);
	nbds_conn_start(conn, fd, label);
}

static bool
is_valid(const struct nbds_config *config)
{
	return config->clock && config->max_connections &&
	       config->max_connections <= NBDS_CONNECTIONS_MAX &&
	       config->hold_bytes_max >= NBDS_HOLD_BYTES_MIN &&
	       config->hold_bytes_max <= UINT32_MAX &&
	       strlen(config->export_name) <= NBDP_STRING_BYTES_MAX &&
	       (!config->description || strlen(config->description) <= NBDP_STRING_BYTES_MAX);
}

static double
seconds_of(uint32_t ms, uint32_t default_ms)
{
	return (ms ? ms : default_ms) / 1000.0;
}

static void
free_all(struct nbds_server *server)
{
	struct list *node;

	while ((node = list_pop_head(&server->free_conns)))
		nbds_conn_free(container_of(node, struct nbds_conn, node));
	free(server->description);
	free(server->export_name);
	free(server);
}

static void
stop_deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct nbds_server *server = container_of(w, struct nbds_server, stop_deadline);
	struct list *node;

	(void)loop;
	(void)revents;
	list_foreach (node, &server->conns)
		nbds_conn_fail(container_of(node, struct nbds_conn, node),
			       "the server stops and this client has not taken its replies");
}

int
nbds_server_new(struct ev_loop *loop, struct backend *be, const struct nbds_config *config,
		struct nbds_server **ret_server)
{
	struct nbds_server *server;
	struct nbds_conn *conn;
	uint32_t i;

	if (!is_valid(config))
		return -EINVAL;
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	list_init(&server->free_conns);
	list_init(&server->conns);
	server->export_name = strdup(config->export_name);
	server->description = strdup(config->description ? config->description : "");
	if (!server->export_name || !server->description)
		goto err_free;
	server->env = (struct nbds_env){
		.loop = loop,
		.be = be,
		.clock = config->clock,
		.export_name = server->export_name,
		.description = server->description,
		.transmission_flags = TRANSMISSION_FLAGS,
		.hold_bytes_max = config->hold_bytes_max,
		.handshake_seconds =
			seconds_of(config->handshake_timeout_ms, NBDS_HANDSHAKE_TIMEOUT_MS),
		.drain_seconds = seconds_of(config->stop_timeout_ms, NBDS_STOP_TIMEOUT_MS),
		.closed = conn_closed,
	};
	server->stop_seconds = server->env.drain_seconds;
	for (i = 0; i < config->max_connections; i++) {
		if (nbds_conn_new(&server->env, &conn) < 0)
			goto err_free;
		list_add_tail(&server->free_conns, &conn->node);
	}
	nbds_env_start(&server->env);
	defer_init(&server->stopped_later, loop, stopped_cb, server);
	ev_timer_init(&server->stop_deadline, stop_deadline_cb, server->stop_seconds, 0.);
	*ret_server = server;
	return 0;

err_free:
	free_all(server);
	return -ENOMEM;
}

static struct nbds_listener *
next_listener(struct nbds_server *server)
{
	if (server->listener_count < LISTENERS_MAX)
		return &server->listeners[server->listener_count];
	log_error("more than %u listening sockets", LISTENERS_MAX);
	return NULL;
}

static void
start_listener(struct nbds_server *server, struct nbds_listener *listener)
{
	nbds_listener_start(listener, server->env.loop, accepted_cb, server);
	server->listener_count++;
	log_info("nbd: listening on %s", listener->address);
}

int
nbds_server_listen(struct nbds_server *server, const char *address)
{
	struct nbds_listener *listener = next_listener(server);
	int r;

	if (!listener)
		return -ENOSPC;
	r = nbds_listener_open(listener, address);
	if (r < 0)
		return r;
	start_listener(server, listener);
	return 0;
}

int
nbds_server_add_listen_fd(struct nbds_server *server, int fd)
{
	struct nbds_listener *listener = next_listener(server);
	int r;

	if (!listener)
		return -ENOSPC;
	r = nbds_listener_adopt(listener, fd);
	if (r < 0)
		return r;
	start_listener(server, listener);
	return 0;
}

const char *
nbds_server_address(const struct nbds_server *server, size_t i)
{
	return i < server->listener_count ? server->listeners[i].address : NULL;
}

void
nbds_server_stop(struct nbds_server *server, void (*stopped)(void *arg), void *arg)
{
	struct nbds_conn *conn;
	struct list *node;
	size_t i;

	assert(!server->is_stopping);
	server->is_stopping = true;
	server->stopped = stopped;
	server->stopped_arg = arg;
	for (i = 0; i < server->listener_count; i++)
		nbds_listener_close(&server->listeners[i]);
	list_foreach (node, &server->conns) {
		conn = container_of(node, struct nbds_conn, node);
		if (conn->state == NBDS_CONN_HANDSHAKE)
			nbds_conn_fail(conn, "the server stops");
		else
			nbds_conn_drain(conn, "the server stops");
	}
	ev_timer_start(server->env.loop, &server->stop_deadline);
	maybe_stopped(server);
}

void
nbds_server_get_stats(const struct nbds_server *server, struct nbds_stats *ret_stats)
{
	*ret_stats = server->env.stats;
}

const struct nbds_stages *
nbds_server_stages(const struct nbds_server *server)
{
	return &server->env.stages;
}

void
nbds_server_free(struct nbds_server *server)
{
	size_t i;

	if (!server)
		return;
	assert(list_is_empty(&server->conns));
	for (i = 0; i < server->listener_count; i++)
		nbds_listener_close(&server->listeners[i]);
	ev_timer_stop(server->env.loop, &server->stop_deadline);
	defer_stop(&server->stopped_later);
	nbds_env_stop(&server->env);
	free_all(server);
}
