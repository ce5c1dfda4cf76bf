/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/nbd_proto.h"

struct conn *
conn_new(int fd, uint64_t size_bytes, const uint8_t *content)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		(void)close(fd);
		return NULL;
	}
	c->fd = fd;
	c->size_bytes = size_bytes;
	c->content = content;
	return c;
}

void
conn_free(struct conn *c)
{
	(void)close(c->fd);
	free(c);
}

/* The socket blocks: a client that takes no answers has nothing better to do either. */
static bool
send_replies(struct conn *c)
{
	struct msghdr msg = {.msg_iov = c->iovs, .msg_iovlen = c->n_iovs};

	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		while (msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	c->n_iovs = 0;
	c->n_replies = 0;
	return true;
}

static void
add_reply(struct conn *c, uint64_t cookie, uint32_t error, uint32_t data_bytes)
{
	uint8_t *reply = c->replies[c->n_replies++];

	c->iovs[c->n_iovs++] = (struct iovec){
		.iov_base = reply,
		.iov_len = nbdp_put_simple_reply(reply, error, cookie),
	};
	if (data_bytes > 0)
		c->iovs[c->n_iovs++] = (struct iovec){
			.iov_base = (void *)(uintptr_t)c->content, /* only read */
			.iov_len = data_bytes,
		};
}

static bool
is_inside(const struct conn *c, const struct nbdp_request *request)
{
	return request->length_bytes > 0 && request->length_bytes <= CONN_CONTENT_BYTES &&
	       request->offset_bytes <= c->size_bytes &&
	       request->length_bytes <= c->size_bytes - request->offset_bytes;
}

/* Returns false when the connection has ended. */
static bool
serve(struct conn *c, const struct nbdp_request *request)
{
	switch (request->command) {
	case NBDP_CMD_READ:
		if (is_inside(c, request))
			add_reply(c, request->cookie, 0, request->length_bytes);
		else
			add_reply(c, request->cookie, NBDP_EINVAL, 0);
		return true;
	case NBDP_CMD_WRITE:
		c->skip_bytes = request->length_bytes;
		c->write_cookie = request->cookie;
		c->write_error = is_inside(c, request) ? 0 : NBDP_EINVAL;
		return request->length_bytes > 0 && request->length_bytes <= NBDP_PAYLOAD_BYTES_MAX;
	case NBDP_CMD_FLUSH:
		add_reply(c, request->cookie, 0, 0);
		return true;
	case NBDP_CMD_DISC:
		return false;
	default:
		add_reply(c, request->cookie, NBDP_EINVAL, 0);
		return true;
	}
}

/* Returns how much of the input is done with, or -1 when the connection has ended. */
static ssize_t
serve_input(struct conn *c)
{
	size_t at = 0;

	for (;;) {
		const size_t left = c->input_bytes - at;
		struct nbdp_request request;

		if (c->n_replies == CONN_REPLIES_MAX && !send_replies(c))
			return -1;
		if (c->skip_bytes > 0) {
			const size_t n = c->skip_bytes < left ? c->skip_bytes : left;

			c->skip_bytes -= n;
			at += n;
			if (c->skip_bytes > 0)
				break;
			add_reply(c, c->write_cookie, c->write_error, 0);
			continue;
		}
		if (left < NBDP_REQUEST_BYTES)
			break;
		if (nbdp_get_request(c->input + at, &request) < 0 || !serve(c, &request))
			return -1;
		at += NBDP_REQUEST_BYTES;
	}
	assert(at <= c->input_bytes);
	return (ssize_t)at;
}

bool
conn_turn(struct conn *c, int flags, bool *ret_got)
{
	const ssize_t n =
		recv(c->fd, c->input + c->input_bytes, sizeof(c->input) - c->input_bytes, flags);
	ssize_t served;

	*ret_got = n > 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	c->input_bytes += (size_t)n;
	served = serve_input(c);
	if (served < 0 || !send_replies(c))
		return false;
	c->input_bytes -= (size_t)served;
	memmove(c->input, c->input + served, c->input_bytes);
	return true;
}
