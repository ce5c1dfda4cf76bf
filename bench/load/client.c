/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_BYTES_MAX 255u
#define REPLY_BYTES_MAX 4096u

static void
put_be16(uint8_t *out, uint16_t value)
{
	value = htobe16(value);
	memcpy(out, &value, sizeof(value));
}

static void
put_be32(uint8_t *out, uint32_t value)
{
	value = htobe32(value);
	memcpy(out, &value, sizeof(value));
}

static void
put_be64(uint8_t *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
}

static uint16_t
get_be16(const uint8_t *in)
{
	uint16_t value;

	memcpy(&value, in, sizeof(value));
	return be16toh(value);
}

static uint32_t
get_be32(const uint8_t *in)
{
	uint32_t value;

	memcpy(&value, in, sizeof(value));
	return be32toh(value);
}

static uint64_t
get_be64(const uint8_t *in)
{
	uint64_t value;

	memcpy(&value, in, sizeof(value));
	return be64toh(value);
}

void
client_put_request(uint8_t *out, enum nbdp_cmd command, uint64_t cookie, uint64_t offset_bytes,
		   uint32_t length_bytes)
{
	put_be32(out, NBDP_REQUEST_MAGIC);
	put_be16(out + 4, 0);
	put_be16(out + 6, (uint16_t)command);
	put_be64(out + 8, cookie);
	put_be64(out + 16, offset_bytes);
	put_be32(out + 24, length_bytes);
}

struct client_reply
client_get_reply(const uint8_t *in)
{
	return (struct client_reply){
		.magic = get_be32(in),
		.error = get_be32(in + 4),
		.cookie = get_be64(in + 8),
	};
}

static bool
get(int fd, void *to, size_t bytes)
{
	return bytes == 0 || recv(fd, to, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static bool
put(int fd, const void *from, size_t bytes)
{
	return send(fd, from, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool
put_go(int fd, const char *name)
{
	const uint32_t name_bytes = (uint32_t)strlen(name);
	uint8_t out[NBDP_CLIENT_FLAGS_BYTES + NBDP_OPTION_HEADER_BYTES + 4 + NAME_BYTES_MAX + 2];
	uint8_t *p = out;

	put_be32(p, NBDP_FLAG_FIXED_NEWSTYLE | NBDP_FLAG_NO_ZEROES);
	put_be64(p + 4, NBDP_OPTION_MAGIC);
	put_be32(p + 12, NBDP_OPT_GO);
	put_be32(p + 16, 4 + name_bytes + 2);
	put_be32(p + 20, name_bytes);
	p += 24;
	memcpy(p, name, name_bytes);
	p += name_bytes;
	put_be16(p, 0);
	return put(fd, out, (size_t)(p + 2 - out));
}

/* Returns what is wrong, or NULL. */
static const char *
shake_hands(int fd, const char *name, uint64_t *ret_size_bytes)
{
	uint8_t in[REPLY_BYTES_MAX];

	if (!get(fd, in, NBDP_GREETING_BYTES) || get_be64(in) != NBDP_MAGIC ||
	    get_be64(in + 8) != NBDP_OPTION_MAGIC)
		return "no NBD server";
	if (!put_go(fd, name))
		return "cannot send";
	*ret_size_bytes = 0;
	for (;;) {
		uint32_t reply, bytes;

		if (!get(fd, in, NBDP_OPTION_REPLY_BYTES) ||
		    get_be64(in) != NBDP_OPTION_REPLY_MAGIC)
			return "no answer to GO";
		reply = get_be32(in + 12);
		bytes = get_be32(in + 16);
		if (bytes > sizeof(in) || !get(fd, in, bytes))
			return "bad answer to GO";
		if (reply == NBDP_REP_ACK)
			return *ret_size_bytes > 0 ? NULL : "an export without a size";
		if (reply != NBDP_REP_INFO)
			return "the export was refused";
		if (bytes >= 12 && get_be16(in) == NBDP_INFO_EXPORT)
			*ret_size_bytes = get_be64(in + 2);
	}
}

int
client_connect(const char *path, const char *export_name, uint64_t *ret_size_bytes)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *problem;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path) || strlen(export_name) > NAME_BYTES_MAX) {
		fprintf(stderr, "load: name too long: %s\n", path);
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		problem = strerror(errno);
	else
		problem = shake_hands(fd, export_name, ret_size_bytes);
	if (problem == NULL)
		return fd;
	fprintf(stderr, "load: %s: %s\n", path, problem);
	if (fd >= 0)
		(void)close(fd);
	return -1;
}
