/* SPDX-License-Identifier: MIT */
/* Unused fields must be zero, so that a later version can give them a meaning. */
#include "wire/shm_frame.h"

#include <errno.h>
#include <stdbool.h>

#include "wire/bytes.h"

/* Offsets in the header. */
enum {
	AT_MAGIC = 0,
	AT_KIND = 4,
	AT_ZERO = 6,
	AT_RKEY = 8,
	AT_ZERO_TOO = 12,
	AT_VALUE = 16,
};

/* Which fields a kind uses. */
static const struct {
	bool is_known;
	bool has_rkey;
	bool has_value;
	bool has_payload;
	uint32_t n_fds;
} kinds[] = {
	[SHM_FRAME_PREAMBLE] = {.is_known = true, .has_value = true},
	[SHM_FRAME_MESSAGE] = {.is_known = true, .has_payload = true},
	[SHM_FRAME_GRANT] = {.is_known = true, .has_rkey = true, .has_value = true, .n_fds = 1},
	[SHM_FRAME_REVOKE] = {.is_known = true, .has_rkey = true},
	[SHM_FRAME_REVOKED] = {.is_known = true, .has_rkey = true},
	[SHM_FRAME_BYE] = {.is_known = true},
};

void
shm_frame_encode(const struct shm_frame *frame, uint8_t *buf)
{
	put_le32(buf + AT_MAGIC, SHM_FRAME_MAGIC);
	put_le16(buf + AT_KIND, (uint16_t)frame->kind);
	put_le16(buf + AT_ZERO, 0);
	put_le32(buf + AT_RKEY, frame->rkey);
	put_le32(buf + AT_ZERO_TOO, 0);
	put_le64(buf + AT_VALUE, frame->value);
}

static bool
is_payload_valid(enum shm_frame_kind kind, size_t payload_bytes)
{
	if (!kinds[kind].has_payload)
		return payload_bytes == 0;
	return payload_bytes >= 1 && payload_bytes <= SHM_FRAME_MESSAGE_BYTES_MAX;
}

int
shm_frame_decode(const uint8_t *buf, size_t length_bytes, uint32_t n_fds,
		 struct shm_frame *ret_frame)
{
	struct shm_frame f;
	uint32_t kind;

	if (length_bytes < SHM_FRAME_HEADER_BYTES || get_le32(buf + AT_MAGIC) != SHM_FRAME_MAGIC ||
	    get_le16(buf + AT_ZERO) || get_le32(buf + AT_ZERO_TOO))
		return -EPROTO;
	kind = get_le16(buf + AT_KIND);
	if (kind >= sizeof(kinds) / sizeof(kinds[0]) || !kinds[kind].is_known)
		return -EPROTO;
	f.kind = (enum shm_frame_kind)kind;
	f.rkey = get_le32(buf + AT_RKEY);
	f.value = get_le64(buf + AT_VALUE);
	f.payload = buf + SHM_FRAME_HEADER_BYTES;
	f.payload_bytes = length_bytes - SHM_FRAME_HEADER_BYTES;
	if ((f.rkey && !kinds[kind].has_rkey) || (f.value == 0) == kinds[kind].has_value ||
	    !is_payload_valid(f.kind, f.payload_bytes) || n_fds != kinds[kind].n_fds)
		return -EPROTO;
	*ret_frame = f;
	return 0;
}
