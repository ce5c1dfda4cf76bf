/* SPDX-License-Identifier: MIT */
/* The peer may be anything that speaks RDMA CM: nothing here trusts a byte. */
#include "rdma/hello.h"

#include <errno.h>
#include <string.h>

#include <endian.h>

#define MAGIC UINT32_C(0x44525353) /* "SSRD" on the wire */

enum { KIND_HELLO = 1, KIND_REJECT = 2 };

static void
encode(uint16_t kind, uint16_t value, uint8_t *buf)
{
	const uint32_t magic = htole32(MAGIC);
	const uint16_t fields[] = {htole16(VRB_HELLO_VERSION), htole16(kind), htole16(value)};

	memset(buf, 0, VRB_HELLO_BYTES);
	memcpy(buf, &magic, sizeof(magic));
	memcpy(buf + sizeof(magic), fields, sizeof(fields));
}

static int
decode(const void *data, size_t length_bytes, uint16_t expected_kind, uint16_t *ret_value)
{
	static const uint8_t zeros[6];
	const uint8_t *bytes = data;
	uint16_t fields[3];
	uint32_t magic;

	if (!data || length_bytes < VRB_HELLO_BYTES)
		return -EPROTO;
	memcpy(&magic, bytes, sizeof(magic));
	memcpy(fields, bytes + sizeof(magic), sizeof(fields));
	if (le32toh(magic) != MAGIC)
		return -EPROTO;
	if (le16toh(fields[0]) != VRB_HELLO_VERSION)
		return -EPROTONOSUPPORT;
	if (le16toh(fields[1]) != expected_kind || memcmp(bytes + 10, zeros, sizeof(zeros)) != 0)
		return -EPROTO;
	*ret_value = le16toh(fields[2]);
	return 0;
}

void
vrb_hello_encode(uint16_t message_depth, uint8_t buf[VRB_HELLO_BYTES])
{
	encode(KIND_HELLO, message_depth, buf);
}

int
vrb_hello_decode(const void *data, size_t length_bytes, uint16_t *ret_message_depth)
{
	uint16_t depth;
	const int r = decode(data, length_bytes, KIND_HELLO, &depth);

	if (r < 0)
		return r;
	if (depth == 0 || depth > VRB_MESSAGE_DEPTH_MAX)
		return -EPROTO;
	*ret_message_depth = depth;
	return 0;
}

void
vrb_reject_encode(enum vrb_reject why, uint8_t buf[VRB_HELLO_BYTES])
{
	encode(KIND_REJECT, (uint16_t)why, buf);
}

int
vrb_reject_decode(const void *data, size_t length_bytes)
{
	uint16_t why;
	const int r = decode(data, length_bytes, KIND_REJECT, &why);

	if (r == -EPROTONOSUPPORT)
		return r;
	if (r < 0)
		return -ENOMSG;
	switch (why) {
	case VRB_REJECT_REFUSED:
	case VRB_REJECT_BUSY:
		return -ECONNREFUSED;
	case VRB_REJECT_VERSION:
		return -EPROTONOSUPPORT;
	default:
		return -EPROTO;
	}
}
