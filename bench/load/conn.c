/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "common/page.h"

#define STAMP_BYTES 8u
#define STAMP_KEY UINT64_C(0x9e3779b97f4a7c15)
#define IOVS_A_CALL 1024u

uint64_t
conn_clock_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Never zero, so that a page of zeros is wrong everywhere. */
static uint64_t
stamp_of(uint64_t offset_bytes)
{
	return (offset_bytes / PAGE_BYTES + 1) * STAMP_KEY;
}

static void
stamp(uint8_t *payload, uint64_t offset_bytes, uint32_t length_bytes)
{
	for (uint32_t at = 0; at < length_bytes; at += PAGE_BYTES) {
		const uint64_t value = stamp_of(offset_bytes + at);

		memcpy(payload + at, &value, STAMP_BYTES);
	}
}

static void
check_stamp(struct conn *c, const uint8_t *page, uint64_t offset_bytes)
{
	uint64_t value;

	memcpy(&value, page, STAMP_BYTES);
	if (value != stamp_of(offset_bytes))
		c->common->n_mismatches++;
}

bool
conn_init(struct conn *c, struct conn_common *common, int fd, uint32_t depth,
	  uint32_t payload_bytes)
{
	uint8_t *payloads = aligned_alloc(PAGE_BYTES, (size_t)depth * payload_bytes);

	assert(depth > 0 && depth <= CONN_DEPTH_MAX && payload_bytes % PAGE_BYTES == 0);
	*c = (struct conn){
		.common = common,
		.fd = fd,
		.depth = depth,
		.n_free = depth,
		.payloads = payloads,
		.slots = calloc(depth, sizeof(*c->slots)),
		.free_slots = calloc(depth, sizeof(*c->free_slots)),
		.iovs = calloc((size_t)depth * 2, sizeof(*c->iovs)),
	};
	if (payloads == NULL || c->slots == NULL || c->free_slots == NULL || c->iovs == NULL)
		return false;
	/* Nothing that compresses or is zero. */
	for (size_t i = 0; i < (size_t)depth * payload_bytes; i += sizeof(uint64_t)) {
		const uint64_t value = (i + 1) * STAMP_KEY;

		memcpy(payloads + i, &value, sizeof(value));
	}
	for (uint32_t i = 0; i < depth; i++) {
		c->slots[i].payload = payloads + (size_t)i * payload_bytes;
		c->free_slots[i] = depth - 1 - i;
	}
	return true;
}

void
conn_fini(struct conn *c)
{
	free(c->iovs);
	free(c->free_slots);
	free(c->slots);
	free(c->payloads);
	(void)close(c->fd);
}

void
conn_submit(struct conn *c, enum nbdp_cmd command, uint64_t offset_bytes, uint32_t length_bytes,
	    uint64_t now_ns)
{
	uint32_t index;
	struct slot *s;

	assert(c->n_free > 0);
	index = c->free_slots[--c->n_free];
	s = &c->slots[index];
	assert(!s->is_busy);
	s->is_busy = true;
	s->command = command;
	s->offset_bytes = offset_bytes;
	s->length_bytes = length_bytes;
	s->start_ns = now_ns;
	client_put_request(s->header, command, index, offset_bytes, length_bytes);
	c->iovs[c->n_iovs++] = (struct iovec){.iov_base = s->header, .iov_len = sizeof(s->header)};
	if (command == NBDP_CMD_WRITE) {
		stamp(s->payload, offset_bytes, length_bytes);
		c->iovs[c->n_iovs++] =
			(struct iovec){.iov_base = s->payload, .iov_len = length_bytes};
	}
}

/* Of what is to be sent, @bytes are. */
static void
output_was_sent(struct conn *c, size_t bytes)
{
	size_t n = 0;

	while (n < c->n_iovs && bytes >= c->iovs[n].iov_len)
		bytes -= c->iovs[n++].iov_len;
	if (n < c->n_iovs) {
		c->iovs[n].iov_base = (uint8_t *)c->iovs[n].iov_base + bytes;
		c->iovs[n].iov_len -= bytes;
	}
	c->n_iovs -= n;
	memmove(c->iovs, c->iovs + n, c->n_iovs * sizeof(*c->iovs));
}

bool
conn_flush(struct conn *c)
{
	while (c->n_iovs > 0) {
		const struct msghdr msg = {
			.msg_iov = c->iovs,
			.msg_iovlen = c->n_iovs < IOVS_A_CALL ? c->n_iovs : IOVS_A_CALL,
		};
		const ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			fprintf(stderr, "load: cannot send: %s\n", strerror(errno));
			return false;
		}
		output_was_sent(c, (size_t)n);
	}
	return true;
}

static void
slot_done(struct conn *c, struct slot *s)
{
	s->is_busy = false;
	c->free_slots[c->n_free++] = (uint32_t)(s - c->slots);
	c->common->done(c->common->arg, s);
}

/* An answer begins.  False: it is none, or an error. */
static bool
reply_begins(struct conn *c, const uint8_t *in)
{
	const struct client_reply reply = client_get_reply(in);
	struct slot *s;

	if (reply.magic != NBDP_SIMPLE_REPLY_MAGIC || reply.cookie >= c->depth ||
	    !c->slots[reply.cookie].is_busy) {
		fprintf(stderr, "load: not an answer\n");
		return false;
	}
	s = &c->slots[reply.cookie];
	if (reply.error != 0) {
		fprintf(stderr, "load: error %u for command %d at %llu\n", reply.error, s->command,
			(unsigned long long)s->offset_bytes);
		return false;
	}
	if (s->command == NBDP_CMD_READ) {
		c->reading = s;
		c->payload_at = 0;
	} else {
		slot_done(c, s);
	}
	return true;
}

/* Returns how many of @in were used; 0: the begin of a page is not here yet. */
static size_t
take_payload(struct conn *c, const uint8_t *in, size_t bytes)
{
	struct slot *s = c->reading;
	size_t step = s->length_bytes - c->payload_at;

	if (c->common->verify) {
		const size_t in_page = c->payload_at % PAGE_BYTES;

		if (in_page == 0 && bytes < STAMP_BYTES)
			return 0;
		if (in_page == 0)
			check_stamp(c, in, s->offset_bytes + c->payload_at);
		if (step > PAGE_BYTES - in_page)
			step = PAGE_BYTES - in_page;
	}
	if (step > bytes)
		step = bytes;
	c->payload_at += (uint32_t)step;
	if (c->payload_at == s->length_bytes) {
		c->reading = NULL;
		slot_done(c, s);
	}
	return step;
}

bool
conn_receive(struct conn *c, int flags, uint64_t *ret_now_ns)
{
	uint8_t *in = c->common->input;
	size_t at = 0, bytes;
	ssize_t n;

	memcpy(in, c->rest, c->rest_bytes);
	n = recv(c->fd, in + c->rest_bytes, CONN_INPUT_BYTES - c->rest_bytes, flags);
	*ret_now_ns = conn_clock_ns();
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		fprintf(stderr, "load: cannot receive: %s\n",
			n == 0 ? "the server left" : strerror(errno));
		return false;
	}
	bytes = c->rest_bytes + (size_t)n;
	while (at < bytes) {
		size_t used;

		if (c->reading != NULL) {
			used = take_payload(c, in + at, bytes - at);
		} else if (bytes - at < NBDP_SIMPLE_REPLY_BYTES) {
			used = 0;
		} else {
			if (!reply_begins(c, in + at))
				return false;
			used = NBDP_SIMPLE_REPLY_BYTES;
		}
		if (used == 0)
			break;
		at += used;
	}
	c->rest_bytes = bytes - at;
	assert(c->rest_bytes < sizeof(c->rest));
	memcpy(c->rest, in + at, c->rest_bytes);
	return true;
}
