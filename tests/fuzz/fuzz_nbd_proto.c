/* SPDX-License-Identifier: MIT */
/* The pure NBD decoders: no read behind the input, and what they say of it is true. */
#include "wire/nbd_proto.h"

#include <errno.h>

#include "fuzz.h"

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void
check_inside(const void *part, size_t bytes, const uint8_t *in, size_t size)
{
	const uint8_t *p = part;

	FUZZ_CHECK(bytes <= size);
	FUZZ_CHECK(bytes == 0 || (p >= in && p + bytes <= in + size));
}

static void
info_request(const uint8_t *in, size_t size)
{
	struct nbdp_info_request request;
	const int r = nbdp_get_info_request(in, size, &request);

	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -E2BIG);
	if (r < 0)
		return;
	check_inside(request.name, request.name_bytes, in, size);
	check_inside(request.info_bytes, (size_t)request.infos * 2, in, size);
	FUZZ_CHECK(request.name_bytes <= NBDP_STRING_BYTES_MAX);
	FUZZ_CHECK(4 + (size_t)request.name_bytes + 2 + 2 * (size_t)request.infos == size);
	for (uint32_t i = 0; i < request.infos; i++) {
		const uint8_t *at = request.info_bytes + 2 * (size_t)i;

		FUZZ_CHECK(nbdp_info_at(&request, i) == (at[0] << 8 | at[1]));
	}
}

static void
meta_request(const uint8_t *in, size_t size)
{
	struct nbdp_meta_request request;
	const int r = nbdp_get_meta_request(in, size, &request);
	const char *query;
	uint32_t bytes, queries, seen = 0;

	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -E2BIG);
	if (r < 0)
		return;
	check_inside(request.name, request.name_bytes, in, size);
	queries = request.queries;
	while (nbdp_meta_next(&request, &query, &bytes)) {
		check_inside(query, bytes, in, size);
		FUZZ_CHECK(bytes <= NBDP_STRING_BYTES_MAX);
		seen++;
	}
	FUZZ_CHECK(seen == queries);
}

static void
fixed(const uint8_t *in, size_t size)
{
	struct nbdp_option option;
	struct nbdp_request request;

	if (size >= NBDP_CLIENT_FLAGS_BYTES)
		(void)nbdp_get_client_flags(in);
	if (size >= NBDP_OPTION_HEADER_BYTES && nbdp_get_option(in, &option) == 0)
		FUZZ_CHECK(memcmp(in, "IHAVEOPT", 8) == 0);
	if (size >= NBDP_REQUEST_BYTES && nbdp_get_request(in, &request) == 0)
		FUZZ_CHECK(memcmp(in, "\x25\x60\x95\x13", 4) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	const uint8_t which = fuzz_u8(&in);
	uint8_t *copy = fuzz_copy(in.at, in.left);

	if (which % 3 == 0)
		fixed(copy, in.left);
	else if (which % 3 == 1)
		info_request(copy, in.left);
	else
		meta_request(copy, in.left);
	free(copy);
	return 0;
}
