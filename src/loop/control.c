/* SPDX-License-Identifier: MIT */
#include "loop/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/list.h"
#include "common/log.h"
#include "loop/unix_listen.h"

struct control_client {
	struct control *control;
	ev_io io;
	ev_timer timer;
	int fd; /* -1: this place is free */
	char line[CONTROL_LINE_BYTES];
	size_t line_bytes;
	char *reply;
	size_t reply_bytes;
	size_t sent_bytes;
};

struct control_command {
	const char *name;
	control_answer_fn *answer;
};

struct control {
	struct ev_loop *loop;
	ev_io io;
	int fd;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct control_command commands[CONTROL_COMMANDS_MAX];
	unsigned n_commands;
	void *arg;
	struct control_client clients[CONTROL_CLIENTS_MAX];
};

static void
client_close(struct control_client *cl)
{
	struct control *c = cl->control;

	ev_io_stop(c->loop, &cl->io);
	ev_timer_stop(c->loop, &cl->timer);
	(void)close(cl->fd);
	cl->fd = -1;
	ev_io_start(c->loop, &c->io); /* a place is free again */
}

static void
client_send(struct control_client *cl)
{
	const ssize_t n = send(cl->fd, cl->reply + cl->sent_bytes, cl->reply_bytes - cl->sent_bytes,
			       MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		cl->sent_bytes += (size_t)n;
	if (n <= 0 || cl->sent_bytes == cl->reply_bytes)
		client_close(cl);
}

static void
client_answer(struct control_client *cl)
{
	struct control *c = cl->control;

	for (unsigned i = 0; i < c->n_commands; i++)
		if (strcmp(cl->line, c->commands[i].name) == 0)
			cl->reply_bytes =
				c->commands[i].answer(c->arg, cl->reply, CONTROL_REPLY_BYTES);
	if (cl->reply_bytes == 0)
		cl->reply_bytes =
			(size_t)snprintf(cl->reply, CONTROL_REPLY_BYTES,
					 "{\"error\":\"unknown command or document too large\"}\n");
	ev_io_stop(c->loop, &cl->io);
	ev_io_set(&cl->io, cl->fd, EV_WRITE);
	ev_io_start(c->loop, &cl->io);
}

static void
client_receive(struct control_client *cl)
{
	const size_t room = sizeof(cl->line) - cl->line_bytes;
	const ssize_t n = recv(cl->fd, cl->line + cl->line_bytes, room, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(cl);
		return;
	}
	cl->line_bytes += (size_t)n;
	end = memchr(cl->line, '\n', cl->line_bytes);
	if (!end && cl->line_bytes < sizeof(cl->line))
		return;
	cl->line[end ? (size_t)(end - cl->line) : sizeof(cl->line) - 1] = '\0';
	client_answer(cl);
}

static void
client_io_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct control_client *cl = container_of(w, struct control_client, io);

	(void)loop;
	if (revents & EV_WRITE)
		client_send(cl);
	else
		client_receive(cl);
}

static void
client_timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	client_close(container_of(w, struct control_client, timer));
}

static struct control_client *
client_free_place(struct control *c)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (c->clients[i].fd < 0)
			return &c->clients[i];
	return NULL;
}

static void
accept_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct control *c = container_of(w, struct control, io);
	struct control_client *cl = client_free_place(c);
	int fd;

	(void)revents;
	if (!cl) {
		ev_io_stop(loop, w); /* until client_close() */
		return;
	}
	fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	cl->fd = fd;
	cl->line_bytes = 0;
	cl->reply_bytes = 0;
	cl->sent_bytes = 0;
	ev_io_init(&cl->io, client_io_cb, fd, EV_READ);
	ev_timer_init(&cl->timer, client_timer_cb, CONTROL_TIMEOUT_S, 0.0);
	ev_io_start(loop, &cl->io);
	ev_timer_start(loop, &cl->timer);
}

void
control_add(struct control *c, const char *name, control_answer_fn *answer)
{
	assert(c->n_commands < CONTROL_COMMANDS_MAX);
	c->commands[c->n_commands++] = (struct control_command){name, answer};
}

int
control_new(struct ev_loop *loop, const char *path, control_answer_fn *status, void *arg,
	    struct control **ret_control)
{
	struct control *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->loop = loop;
	control_add(c, "status", status);
	c->arg = arg;
	c->fd = -1;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		c->clients[i].control = c;
		c->clients[i].fd = -1;
		c->clients[i].reply = malloc(CONTROL_REPLY_BYTES);
		if (!c->clients[i].reply)
			goto err_free;
	}
	r = unix_listen(path, SOCK_STREAM, 16);
	if (r < 0) {
		r = log_err_errno(-r, "cannot listen for control at %s", path);
		goto err_free;
	}
	c->fd = r;
	memcpy(c->path, path, strlen(path) + 1);
	ev_io_init(&c->io, accept_cb, c->fd, EV_READ);
	ev_io_start(loop, &c->io);
	*ret_control = c;
	return 0;

err_free:
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		free(c->clients[i].reply);
	free(c);
	return r;
}

struct control *
control_free(struct control *c)
{
	if (!c)
		return NULL;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (c->clients[i].fd >= 0)
			client_close(&c->clients[i]);
		free(c->clients[i].reply);
	}
	ev_io_stop(c->loop, &c->io);
	(void)close(c->fd);
	(void)unlink(c->path);
	free(c);
	return NULL;
}
