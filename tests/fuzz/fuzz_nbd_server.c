/* SPDX-License-Identifier: MIT */
/*
 * Clients without manners against the real NBD server on its loop, over Unix
 * sockets, with the backend of tests/unit/nbd_server.  Server and loop live as long as
 * the process; the backend is emptied between inputs.
 *
 * The first byte chooses the backend, and raw bytes in chunks or a list of operations:
 * requests and options that mostly make sense get deeper than bytes alone.  What the
 * server says is checked; after each input every client is gone, and with that every
 * buffer must be back.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <ev.h>

#include "common/log.h"
#include "fuzz.h"
#include "nbd_replies.h"
#include "nbd_server/server.h"
#include "unit/nbd_server/mem_backend.h"
#include "wire/nbd_proto.h"

#define SIZE_BYTES (4u * 1024u * 1024u)
#define VARIANTS 4u
#define CLIENTS 2u
#define TURNS_TO_END 4000
#define RAW 0x04u

struct bench {
	struct ev_loop *loop;
	struct mem_backend *mem;
	struct nbds_server *server;
	struct sockaddr_un address;
	socklen_t address_bytes;
};

struct client {
	struct bench *b;
	int fd; /* -1: not connected */
	bool is_deaf;
	uint64_t cookie;
	struct nbd_replies replies;
};

static const struct mem_backend_config backends[VARIANTS] = {
	{.size_bytes = SIZE_BYTES, .slots = 64},
	{.size_bytes = SIZE_BYTES, .slots = 8, .reorder_seed = 7, .null_every = 3},
	{.size_bytes = SIZE_BYTES,
	 .slots = 16,
	 .reorder_seed = 3,
	 .fail_kind = BACKEND_READ,
	 .fail_offset_bytes = 64 * 1024,
	 .fail_status = -EIO},
	{.size_bytes = SIZE_BYTES,
	 .slots = 8,
	 .fail_kind = BACKEND_WRITE,
	 .fail_offset_bytes = 64 * 1024,
	 .fail_status = -ENOSPC,
	 .no_fast_zero = true},
};

/* The kernel chooses an abstract address: no file, no port. */
static void
bench_start(struct bench *b, const struct mem_backend_config *config)
{
	struct nbds_config server = {
		.export_name = "swap0",
		.description = "a fuzzed one",
		.max_connections = CLIENTS,
		.hold_bytes_max = NBDS_HOLD_BYTES_MIN,
	};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	FUZZ_CHECK(fd >= 0);
	b->address.sun_family = AF_UNIX;
	b->address_bytes = sizeof(b->address);
	FUZZ_CHECK(bind(fd, (struct sockaddr *)&b->address, sizeof(sa_family_t)) == 0);
	FUZZ_CHECK(listen(fd, CLIENTS) == 0);
	FUZZ_CHECK(getsockname(fd, (struct sockaddr *)&b->address, &b->address_bytes) == 0);
	b->loop = ev_loop_new(EVFLAG_AUTO);
	FUZZ_CHECK(b->loop);
	b->mem = mem_backend_new(b->loop, config);
	server.clock = mem_backend_clock(b->mem);
	FUZZ_CHECK(nbds_server_new(b->loop, mem_backend_of(b->mem), &server, &b->server) == 0);
	FUZZ_CHECK(nbds_server_add_listen_fd(b->server, fd) == 0);
}

static struct bench *
bench_of(uint32_t variant)
{
	static struct bench benches[VARIANTS];
	struct bench *b = &benches[variant % VARIANTS];

	if (!b->server)
		bench_start(b, &backends[variant % VARIANTS]);
	return b;
}

static void
drain(struct client *c)
{
	uint8_t buf[32 * 1024];
	ssize_t n;

	while (c->fd >= 0 && (n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		nbd_replies_take(&c->replies, buf, (size_t)n);
}

static void
turn(struct client *c)
{
	ev_run(c->b->loop, EVRUN_NOWAIT);
	if (!c->is_deaf)
		drain(c);
}

static void
client_close(struct client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
}

static void
client_open(struct client *c)
{
	if (c->fd >= 0)
		return;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	FUZZ_CHECK(c->fd >= 0);
	nbd_replies_init(&c->replies, SIZE_BYTES);
	if (connect(c->fd, (struct sockaddr *)&c->b->address, c->b->address_bytes) < 0)
		client_close(c); /* those that the server has not closed yet fill its backlog */
	turn(c);
}

/* What the server does not take in a few turns is lost. */
static void
say(struct client *c, const void *bytes, size_t length)
{
	const uint8_t *p = bytes;
	ssize_t n;
	int tries = 0;

	client_open(c);
	while (length && c->fd >= 0 && tries < 4) {
		n = send(c->fd, p, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			p += n;
			length -= (size_t)n;
		} else {
			tries++;
			turn(c);
		}
	}
}

/* May hold requests. */
static void
say_raw(struct client *c, const void *bytes, size_t length)
{
	client_open(c);
	c->replies.has_raw_requests = true;
	say(c, bytes, length);
}

static void
put_be(uint8_t *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void
say_option(struct client *c, uint32_t option, uint32_t claimed, const void *bytes, size_t length)
{
	uint8_t header[NBDP_OPTION_HEADER_BYTES];

	put_be(header, NBDP_OPTION_MAGIC, 8);
	put_be(header + 8, option, 4);
	put_be(header + 12, claimed, 4);
	say(c, header, sizeof(header));
	say(c, bytes, length);
}

static void
say_client_flags(struct client *c, uint32_t flags)
{
	uint8_t bytes[NBDP_CLIENT_FLAGS_BYTES];

	put_be(bytes, flags, sizeof(bytes));
	say(c, bytes, sizeof(bytes));
}

/* Into transmission, with what @how asks for. */
static void
negotiate(struct client *c, uint8_t how)
{
	static const uint8_t meta[] = "\0\0\0\5swap0\0\0\0\1\0\0\0\17base:allocation";
	static const uint8_t go[] = "\0\0\0\5swap0\0\3\0\3\0\1\0\2";

	say_client_flags(c, NBDP_FLAG_FIXED_NEWSTYLE | (how & 1 ? NBDP_FLAG_NO_ZEROES : 0));
	if (how & 2)
		say_option(c, NBDP_OPT_STRUCTURED_REPLY, 0, NULL, 0);
	if (how & 4)
		say_option(c, NBDP_OPT_SET_META_CONTEXT, sizeof(meta) - 1, meta, sizeof(meta) - 1);
	if (how & 8)
		say_option(c, NBDP_OPT_EXPORT_NAME, 5, "swap0", 5);
	else
		say_option(c, NBDP_OPT_GO, sizeof(go) - 1, go, sizeof(go) - 1);
}

static void
say_request(struct client *c, uint16_t command, uint16_t flags, uint64_t offset, uint32_t length)
{
	uint8_t header[NBDP_REQUEST_BYTES];

	client_open(c);
	nbd_replies_expect(&c->replies, c->cookie + 1, command, length);
	put_be(header, NBDP_REQUEST_MAGIC, 4);
	put_be(header + 4, flags, 2);
	put_be(header + 6, command, 2);
	put_be(header + 8, ++c->cookie, 8);
	put_be(header + 16, offset, 8);
	put_be(header + 24, length, 4);
	say(c, header, sizeof(header));
}

static void
say_filler(struct client *c, uint32_t bytes)
{
	static const uint8_t filler[4096] = {0x5a, 1, 2, 3};

	for (; bytes; bytes -= bytes < sizeof(filler) ? bytes : (uint32_t)sizeof(filler))
		say(c, filler, bytes < sizeof(filler) ? bytes : sizeof(filler));
}

/* In sectors, with all of its payload. */
static void
request_in_order(struct client *c, struct fuzz_input *in)
{
	const uint8_t what = fuzz_u8(in);
	const uint16_t command = what % NBDP_CMD_COUNT;
	const uint16_t flags = what / NBDP_CMD_COUNT;
	const uint64_t offset = (uint64_t)fuzz_u16(in) * 512;
	const uint32_t length = (uint32_t)fuzz_u16(in) * 512;

	say_request(c, command, flags, offset, length);
	if (command == NBDP_CMD_WRITE && length <= 256 * 1024)
		say_filler(c, length);
}

static void
request_at_will(struct client *c, struct fuzz_input *in)
{
	const uint16_t command = fuzz_u16(in);
	const uint16_t flags = fuzz_u16(in);
	const uint64_t offset = fuzz_u64(in);

	say_request(c, command, flags, offset, fuzz_u32(in));
}

static void
option(struct client *c, struct fuzz_input *in)
{
	const uint32_t number = fuzz_u8(in);
	const uint32_t claimed_more = fuzz_u8(in);
	size_t length;
	const uint8_t *bytes = fuzz_take(in, fuzz_u8(in), &length);

	say_option(c, number, (uint32_t)length + claimed_more, bytes, length);
}

static void
operate(struct client *c, struct fuzz_input *in, uint8_t op)
{
	const uint8_t *bytes;
	size_t length;

	switch (op % 12) {
	case 0:
	case 1:
		request_in_order(c, in);
		break;
	case 2:
		negotiate(c, fuzz_u8(in));
		break;
	case 3:
		option(c, in);
		break;
	case 4:
		request_at_will(c, in);
		break;
	case 5:
		bytes = fuzz_take(in, fuzz_u8(in), &length);
		say_raw(c, bytes, length);
		break;
	case 6:
		say_filler(c, fuzz_u16(in));
		break;
	case 7:
		say_client_flags(c, fuzz_u8(in));
		break;
	case 8:
		client_close(c);
		break;
	case 9:
		if (c->fd >= 0)
			(void)shutdown(c->fd, SHUT_WR);
		break;
	case 10:
		c->is_deaf = !c->is_deaf;
		break;
	default:
		for (length = 1 + fuzz_below(in, 8); length; length--)
			turn(c);
		break;
	}
}

static void
run_raw(struct client *c, struct fuzz_input *in)
{
	const size_t chunk = 1 + (size_t)fuzz_u8(in);

	while (in->left) {
		size_t length;
		const uint8_t *bytes = fuzz_take(in, chunk, &length);

		say_raw(c, bytes, length);
		turn(c);
	}
}

static void
run_operations(struct client *clients, struct fuzz_input *in)
{
	while (in->left) {
		const uint8_t op = fuzz_u8(in);
		struct client *c = &clients[op & 0x80 ? 1 : 0];

		operate(c, in, op & 0x7f);
		if (!(op & 0x40))
			turn(c);
	}
}

/* Nobody is there any more: the server has to notice and to give everything back. */
static void
end(struct client *clients)
{
	struct bench *b = clients[0].b;
	struct nbds_stats stats;
	int turns;

	for (uint32_t i = 0; i < CLIENTS; i++) {
		for (turns = 0; turns < 4; turns++)
			turn(&clients[i]);
		client_close(&clients[i]);
	}
	for (turns = 0; turns < TURNS_TO_END; turns++) {
		ev_run(b->loop, EVRUN_NOWAIT);
		nbds_server_get_stats(b->server, &stats);
		if (!stats.connections && !mem_backend_stats(b->mem)->lent && turns > 1)
			break;
	}
	FUZZ_CHECK(turns < TURNS_TO_END);
	mem_backend_reset(b->mem);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	const uint8_t how = fuzz_u8(&in);
	static struct client clients[CLIENTS];

	for (uint32_t i = 0; i < CLIENTS; i++) {
		clients[i].b = bench_of(how);
		clients[i].fd = -1;
		clients[i].is_deaf = false;
		clients[i].cookie = 0;
	}
	if (how & RAW)
		run_raw(&clients[0], &in);
	else
		run_operations(clients, &in);
	end(clients);
	return 0;
}
