/* SPDX-License-Identifier: MIT */
#include "nbd_replies.h"

#include "fuzz.h"
#include "wire/nbd_proto.h"

void
nbd_replies_init(struct nbd_replies *r, uint64_t size_bytes)
{
	memset(r, 0, sizeof(*r));
	r->phase = NBD_REPLIES_GREETING;
	r->size_bytes = size_bytes;
}

void
nbd_replies_expect(struct nbd_replies *r, uint64_t cookie, uint16_t command, uint32_t length_bytes)
{
	r->expected[cookie % NBD_REPLIES_EXPECTED_MAX] = (struct nbd_expected){
		.cookie = cookie, .command = command, .length_bytes = length_bytes};
}

static uint64_t
get_be(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

/* NULL: nobody announced it. */
static struct nbd_expected *
find(struct nbd_replies *r, uint64_t cookie)
{
	struct nbd_expected *e = &r->expected[cookie % NBD_REPLIES_EXPECTED_MAX];

	if (r->has_raw_requests)
		return NULL;
	FUZZ_CHECK(cookie && e->cookie == cookie && !e->is_answered);
	return e;
}

static void
check_error(uint32_t error)
{
	FUZZ_CHECK(error == NBDP_EPERM || error == NBDP_EIO || error == NBDP_ENOMEM ||
		   error == NBDP_EINVAL || error == NBDP_ENOSPC || error == NBDP_EOVERFLOW ||
		   error == NBDP_ENOTSUP || error == NBDP_ESHUTDOWN);
}

static void
option_reply(struct nbd_replies *r)
{
	const uint32_t option = (uint32_t)get_be(r->header + 8, 4);
	const uint32_t reply = (uint32_t)get_be(r->header + 12, 4);
	const uint32_t length = (uint32_t)get_be(r->header + 16, 4);

	if (get_be(r->header, 8) == r->size_bytes) { /* of EXPORT_NAME, which has no header */
		r->phase = NBD_REPLIES_UNKNOWN;
		return;
	}
	FUZZ_CHECK(get_be(r->header, 8) == NBDP_OPTION_REPLY_MAGIC);
	FUZZ_CHECK((reply & NBDP_REP_ERROR) || (reply >= NBDP_REP_ACK && reply <= 4));
	FUZZ_CHECK(reply != NBDP_REP_ACK || length == 0);
	FUZZ_CHECK(length <= 2 * NBDP_STRING_BYTES_MAX + 4);
	r->skip_bytes = length;
	if (option == NBDP_OPT_STRUCTURED_REPLY && reply == NBDP_REP_ACK)
		r->is_structured = true;
	if (option == NBDP_OPT_GO && reply == NBDP_REP_ACK)
		r->phase = NBD_REPLIES_TRANSMISSION;
}

static void
simple_reply(struct nbd_replies *r)
{
	const uint32_t error = (uint32_t)get_be(r->header + 4, 4);
	struct nbd_expected *e = find(r, get_be(r->header + 8, 8));

	if (error)
		check_error(error);
	if (e)
		e->is_answered = true;
	if (error || (e && e->command != NBDP_CMD_READ))
		return;
	FUZZ_CHECK(!e || !r->is_structured);
	if (e)
		r->skip_bytes = e->length_bytes;
	else if (!r->is_structured)
		r->phase = NBD_REPLIES_UNKNOWN;
}

static void
chunk(struct nbd_replies *r)
{
	const uint16_t flags = (uint16_t)get_be(r->header + 4, 2);
	const uint16_t type = (uint16_t)get_be(r->header + 6, 2);
	const uint32_t length = (uint32_t)get_be(r->header + 16, 4);
	struct nbd_expected *e = find(r, get_be(r->header + 8, 8));

	FUZZ_CHECK(r->is_structured && (flags & ~NBDP_CHUNK_FLAG_DONE) == 0);
	FUZZ_CHECK(type == NBDP_CHUNK_NONE || type == NBDP_CHUNK_OFFSET_DATA ||
		   type == NBDP_CHUNK_BLOCK_STATUS || type == NBDP_CHUNK_ERROR);
	FUZZ_CHECK(type != NBDP_CHUNK_NONE || (length == 0 && flags));
	FUZZ_CHECK(type != NBDP_CHUNK_OFFSET_DATA || length > NBDP_CHUNK_OFFSET_BYTES);
	FUZZ_CHECK(type != NBDP_CHUNK_BLOCK_STATUS || (length - 4) % NBDP_EXTENT_BYTES == 0);
	FUZZ_CHECK(type != NBDP_CHUNK_ERROR || length >= NBDP_CHUNK_ERROR_BYTES);
	FUZZ_CHECK(length <= NBDP_PAYLOAD_BYTES_MAX + NBDP_CHUNK_OFFSET_BYTES);
	FUZZ_CHECK(!e || type != NBDP_CHUNK_OFFSET_DATA || e->command == NBDP_CMD_READ);
	FUZZ_CHECK(!e || type != NBDP_CHUNK_BLOCK_STATUS || e->command == NBDP_CMD_BLOCK_STATUS);
	if (e)
		e->is_answered = flags & NBDP_CHUNK_FLAG_DONE;
	r->skip_bytes = length;
}

static uint32_t
wanted_bytes(const struct nbd_replies *r)
{
	if (r->phase == NBD_REPLIES_GREETING)
		return NBDP_GREETING_BYTES;
	if (r->phase == NBD_REPLIES_OPTIONS)
		return get_be(r->header, 8) == r->size_bytes ? 10 : NBDP_OPTION_REPLY_BYTES;
	if (r->header_bytes < 4 || get_be(r->header, 4) == NBDP_CHUNK_MAGIC)
		return NBDP_CHUNK_BYTES;
	return NBDP_SIMPLE_REPLY_BYTES;
}

static void
take_header(struct nbd_replies *r)
{
	r->header_bytes = 0;
	if (r->phase == NBD_REPLIES_GREETING) {
		FUZZ_CHECK(memcmp(r->header, "NBDMAGICIHAVEOPT", 16) == 0);
		r->phase = NBD_REPLIES_OPTIONS;
	} else if (r->phase == NBD_REPLIES_OPTIONS) {
		option_reply(r);
	} else if (get_be(r->header, 4) == NBDP_CHUNK_MAGIC) {
		chunk(r);
	} else {
		FUZZ_CHECK(get_be(r->header, 4) == NBDP_SIMPLE_REPLY_MAGIC);
		simple_reply(r);
	}
	memset(r->header, 0, sizeof(r->header));
}

void
nbd_replies_take(struct nbd_replies *r, const uint8_t *bytes, size_t length_bytes)
{
	while (length_bytes && r->phase != NBD_REPLIES_UNKNOWN) {
		if (r->skip_bytes) {
			const size_t n =
				r->skip_bytes < length_bytes ? r->skip_bytes : length_bytes;

			r->skip_bytes -= n;
			bytes += n;
			length_bytes -= n;
			continue;
		}
		r->header[r->header_bytes++] = *bytes++;
		length_bytes--;
		/* The magic number decides how much more there is. */
		if (r->header_bytes == wanted_bytes(r))
			take_header(r);
	}
}
