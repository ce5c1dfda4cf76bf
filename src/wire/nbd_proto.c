/* SPDX-License-Identifier: MIT */
/* Lengths that a client sends are compared by subtraction from what is there, never added up. */
#include "wire/nbd_proto.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

static size_t
put_u16(uint8_t *out, uint16_t value)
{
	value = htobe16(value);
	memcpy(out, &value, sizeof(value));
	return sizeof(value);
}

size_t
nbdp_put_u32(uint8_t *out, uint32_t value)
{
	value = htobe32(value);
	memcpy(out, &value, sizeof(value));
	return sizeof(value);
}

static size_t
put_u64(uint8_t *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
	return sizeof(value);
}

static uint16_t
get_u16(const uint8_t *in)
{
	uint16_t value;

	memcpy(&value, in, sizeof(value));
	return be16toh(value);
}

static uint32_t
get_u32(const uint8_t *in)
{
	uint32_t value;

	memcpy(&value, in, sizeof(value));
	return be32toh(value);
}

static uint64_t
get_u64(const uint8_t *in)
{
	uint64_t value;

	memcpy(&value, in, sizeof(value));
	return be64toh(value);
}

size_t
nbdp_put_greeting(uint8_t *out)
{
	size_t n = put_u64(out, NBDP_MAGIC);

	n += put_u64(out + n, NBDP_OPTION_MAGIC);
	n += put_u16(out + n, NBDP_FLAG_FIXED_NEWSTYLE | NBDP_FLAG_NO_ZEROES);
	return n;
}

uint32_t
nbdp_get_client_flags(const uint8_t *in)
{
	return get_u32(in);
}

int
nbdp_get_option(const uint8_t *in, struct nbdp_option *ret_option)
{
	if (get_u64(in) != NBDP_OPTION_MAGIC)
		return -EPROTO;
	ret_option->option = get_u32(in + 8);
	ret_option->length_bytes = get_u32(in + 12);
	return 0;
}

size_t
nbdp_put_option_reply(uint8_t *out, uint32_t option, uint32_t reply, uint32_t length_bytes)
{
	size_t n = put_u64(out, NBDP_OPTION_REPLY_MAGIC);

	n += nbdp_put_u32(out + n, option);
	n += nbdp_put_u32(out + n, reply);
	n += nbdp_put_u32(out + n, length_bytes);
	return n;
}

/* A 32-bit length and that many bytes; moves *in and *left behind them. */
static int
get_string(const uint8_t **in, size_t *left, const char **ret_text, uint32_t *ret_bytes)
{
	uint32_t bytes;

	if (*left < 4)
		return -EINVAL;
	bytes = get_u32(*in);
	if (bytes > *left - 4)
		return -EINVAL;
	if (bytes > NBDP_STRING_BYTES_MAX)
		return -E2BIG;
	*ret_text = (const char *)*in + 4;
	*ret_bytes = bytes;
	*in += 4 + bytes;
	*left -= 4 + bytes;
	return 0;
}

int
nbdp_get_info_request(const uint8_t *in, size_t length_bytes, struct nbdp_info_request *ret_request)
{
	struct nbdp_info_request request;
	size_t left = length_bytes;
	int r;

	r = get_string(&in, &left, &request.name, &request.name_bytes);
	if (r < 0)
		return r;
	if (left < 2)
		return -EINVAL;
	request.infos = get_u16(in);
	request.info_bytes = in + 2;
	if (left - 2 != (size_t)request.infos * 2)
		return -EINVAL;
	*ret_request = request;
	return 0;
}

uint16_t
nbdp_info_at(const struct nbdp_info_request *request, uint32_t i)
{
	assert(i < request->infos);
	return get_u16(request->info_bytes + (size_t)i * 2);
}

int
nbdp_get_meta_request(const uint8_t *in, size_t length_bytes, struct nbdp_meta_request *ret_request)
{
	struct nbdp_meta_request request;
	size_t left = length_bytes;
	const char *query;
	uint32_t query_bytes;
	uint32_t i;
	int r;

	r = get_string(&in, &left, &request.name, &request.name_bytes);
	if (r < 0)
		return r;
	if (left < 4)
		return -EINVAL;
	request.queries = get_u32(in);
	in += 4;
	left -= 4;
	request.query_bytes = in;
	/* Each query takes 4 bytes at least, so the payload bounds the loop. */
	if (request.queries > left / 4)
		return -EINVAL;
	for (i = 0; i < request.queries; i++) {
		r = get_string(&in, &left, &query, &query_bytes);
		if (r < 0)
			return r;
	}
	if (left)
		return -EINVAL;
	*ret_request = request;
	return 0;
}

bool
nbdp_meta_next(struct nbdp_meta_request *request, const char **ret_query, uint32_t *ret_query_bytes)
{
	size_t checked = SIZE_MAX;
	int r;

	if (!request->queries)
		return false;
	r = get_string(&request->query_bytes, &checked, ret_query, ret_query_bytes);
	assert(r == 0);
	(void)r;
	request->queries--;
	return true;
}

size_t
nbdp_put_export_reply(uint8_t *out, uint64_t size_bytes, uint16_t flags, bool no_zeroes)
{
	size_t n = put_u64(out, size_bytes);

	n += put_u16(out + n, flags);
	if (!no_zeroes) {
		memset(out + n, 0, NBDP_EXPORT_REPLY_BYTES_MAX - n);
		n = NBDP_EXPORT_REPLY_BYTES_MAX;
	}
	return n;
}

size_t
nbdp_put_info_export(uint8_t *out, uint64_t size_bytes, uint16_t flags)
{
	size_t n = put_u16(out, NBDP_INFO_EXPORT);

	n += put_u64(out + n, size_bytes);
	n += put_u16(out + n, flags);
	return n;
}

size_t
nbdp_put_info_block_size(uint8_t *out, uint32_t min_bytes, uint32_t preferred_bytes,
			 uint32_t max_bytes)
{
	size_t n = put_u16(out, NBDP_INFO_BLOCK_SIZE);

	n += nbdp_put_u32(out + n, min_bytes);
	n += nbdp_put_u32(out + n, preferred_bytes);
	n += nbdp_put_u32(out + n, max_bytes);
	return n;
}

size_t
nbdp_put_info_text(uint8_t *out, enum nbdp_info info)
{
	return put_u16(out, (uint16_t)info);
}

int
nbdp_get_request(const uint8_t *in, struct nbdp_request *ret_request)
{
	if (get_u32(in) != NBDP_REQUEST_MAGIC)
		return -EPROTO;
	ret_request->flags = get_u16(in + 4);
	ret_request->command = get_u16(in + 6);
	ret_request->cookie = get_u64(in + 8);
	ret_request->offset_bytes = get_u64(in + 16);
	ret_request->length_bytes = get_u32(in + 24);
	return 0;
}

size_t
nbdp_put_simple_reply(uint8_t *out, uint32_t error, uint64_t cookie)
{
	size_t n = nbdp_put_u32(out, NBDP_SIMPLE_REPLY_MAGIC);

	n += nbdp_put_u32(out + n, error);
	n += put_u64(out + n, cookie);
	return n;
}

size_t
nbdp_put_chunk(uint8_t *out, uint16_t flags, enum nbdp_chunk_type type, uint64_t cookie,
	       uint32_t length_bytes)
{
	size_t n = nbdp_put_u32(out, NBDP_CHUNK_MAGIC);

	n += put_u16(out + n, flags);
	n += put_u16(out + n, (uint16_t)type);
	n += put_u64(out + n, cookie);
	n += nbdp_put_u32(out + n, length_bytes);
	return n;
}

size_t
nbdp_put_data_chunk(uint8_t *out, uint16_t flags, uint64_t cookie, uint64_t offset_bytes,
		    uint32_t data_bytes)
{
	size_t n = nbdp_put_chunk(out, flags, NBDP_CHUNK_OFFSET_DATA, cookie,
				  NBDP_CHUNK_OFFSET_BYTES + data_bytes);

	return n + put_u64(out + n, offset_bytes);
}

size_t
nbdp_put_error_chunk(uint8_t *out, uint64_t cookie, uint32_t error)
{
	size_t n = nbdp_put_chunk(out, NBDP_CHUNK_FLAG_DONE, NBDP_CHUNK_ERROR, cookie,
				  NBDP_CHUNK_ERROR_BYTES);

	n += nbdp_put_u32(out + n, error);
	n += put_u16(out + n, 0);
	return n;
}

size_t
nbdp_put_extent(uint8_t *out, uint32_t length_bytes, uint32_t state)
{
	size_t n = nbdp_put_u32(out, length_bytes);

	return n + nbdp_put_u32(out + n, state);
}
