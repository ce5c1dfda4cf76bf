/* SPDX-License-Identifier: MIT */
#include "handshake.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "wire/nbd_proto.h"

#define PAYLOAD_BYTES_MAX 8192u
#define TRANSMISSION_FLAGS (NBDP_TF_HAS_FLAGS | NBDP_TF_SEND_FLUSH | NBDP_TF_CAN_MULTI_CONN)

struct shake {
	int fd;
	uint64_t size_bytes;
	bool no_zeroes;
};

static bool
get(const struct shake *s, void *to, size_t bytes)
{
	return bytes == 0 || recv(s->fd, to, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static bool
put(const struct shake *s, const void *from, size_t bytes)
{
	return send(s->fd, from, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool
answer(const struct shake *s, uint32_t option, uint32_t reply, const void *data, uint32_t bytes)
{
	uint8_t out[NBDP_OPTION_REPLY_BYTES];

	return put(s, out, nbdp_put_option_reply(out, option, reply, bytes)) &&
	       (bytes == 0 || put(s, data, bytes));
}

static bool
answer_info(const struct shake *s, uint32_t option)
{
	uint8_t info[NBDP_INFO_BYTES_MAX];
	const size_t bytes = nbdp_put_info_export(info, s->size_bytes, TRANSMISSION_FLAGS);

	return answer(s, option, NBDP_REP_INFO, info, (uint32_t)bytes) &&
	       answer(s, option, NBDP_REP_ACK, NULL, 0);
}

/* Returns false when the connection has ended.  *@ret_done: requests follow. */
static bool
serve_option(const struct shake *s, uint32_t option, bool *ret_done)
{
	uint8_t reply[NBDP_EXPORT_REPLY_BYTES_MAX];

	switch (option) {
	case NBDP_OPT_EXPORT_NAME:
		*ret_done = true;
		return put(s, reply,
			   nbdp_put_export_reply(reply, s->size_bytes, TRANSMISSION_FLAGS,
						 s->no_zeroes));
	case NBDP_OPT_GO:
		*ret_done = true;
		return answer_info(s, option);
	case NBDP_OPT_INFO:
		return answer_info(s, option);
	case NBDP_OPT_ABORT:
		(void)answer(s, option, NBDP_REP_ACK, NULL, 0);
		return false;
	default:
		return answer(s, option, NBDP_REP_ERR_UNSUP, NULL, 0);
	}
}

bool
handshake(int fd, uint64_t size_bytes)
{
	struct shake s = {.fd = fd, .size_bytes = size_bytes};
	uint8_t bytes[PAYLOAD_BYTES_MAX];
	bool is_done = false;

	if (!put(&s, bytes, nbdp_put_greeting(bytes)) || !get(&s, bytes, NBDP_CLIENT_FLAGS_BYTES))
		return false;
	s.no_zeroes = nbdp_get_client_flags(bytes) & NBDP_FLAG_NO_ZEROES;
	while (!is_done) {
		struct nbdp_option option;

		if (!get(&s, bytes, NBDP_OPTION_HEADER_BYTES) ||
		    nbdp_get_option(bytes, &option) < 0 || option.length_bytes > sizeof(bytes) ||
		    !get(&s, bytes, option.length_bytes) ||
		    !serve_option(&s, option.option, &is_done))
			return false;
	}
	return true;
}
