/* SPDX-License-Identifier: MIT */
/* The private data of the RDMA connection manager: read before anything is known of the peer. */
#include "rdma/hello.h"

#include <errno.h>

#include "fuzz.h"

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(data, size);
	uint8_t out[VRB_HELLO_BYTES];
	uint16_t depth = 0;
	int r = vrb_hello_decode(copy, size, &depth);

	FUZZ_CHECK(r == 0 || r == -EPROTO || r == -EPROTONOSUPPORT);
	if (r == 0) {
		FUZZ_CHECK(depth >= 1 && depth <= VRB_MESSAGE_DEPTH_MAX);
		vrb_hello_encode(depth, out);
		FUZZ_CHECK(memcmp(out, copy, sizeof(out)) == 0);
	}
	r = vrb_reject_decode(copy, size);
	FUZZ_CHECK(r < 0);
	free(copy);
	return 0;
}
