/* SPDX-License-Identifier: MIT */
/* Unused fields must be zero, so that a later version can give them a meaning. */
#include "wire/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "wire/bytes.h"

/* Offsets in the header. */
enum {
	AT_MAGIC = 0,
	AT_KIND = 4,
	AT_STATUS = 6,
	AT_OP_ID = 8,
	AT_RKEY = 12,
	AT_ADDR = 16,
	AT_LENGTH = 24,
	AT_RESERVED = 28,
};

/* Which fields a kind uses. */
static const struct {
	const char *name;
	bool has_status;
	bool has_op_id;
	bool has_range; /* rkey and addr */
	uint32_t length_max;
} kinds[] = {
	[FRAME_PREAMBLE] = {"PREAMBLE", false, true, false, 0},
	[FRAME_MESSAGE] = {"MESSAGE", false, false, false, FRAME_MESSAGE_BYTES_MAX},
	[FRAME_READ] = {"READ", false, true, true, FRAME_OP_BYTES_MAX},
	[FRAME_READ_DONE] = {"READ_DONE", true, true, false, FRAME_OP_BYTES_MAX},
	[FRAME_WRITE] = {"WRITE", false, true, true, FRAME_OP_BYTES_MAX},
	[FRAME_WRITE_DONE] = {"WRITE_DONE", true, true, false, 0},
};

static bool
is_known(uint32_t kind)
{
	return kind < sizeof(kinds) / sizeof(kinds[0]) && kinds[kind].name;
}

void
frame_encode(const struct frame *frame, uint8_t *buf)
{
	put_le32(buf + AT_MAGIC, FRAME_MAGIC);
	put_le16(buf + AT_KIND, (uint16_t)frame->kind);
	put_le16(buf + AT_STATUS, frame->status);
	put_le32(buf + AT_OP_ID, frame->op_id);
	put_le32(buf + AT_RKEY, frame->rkey);
	put_le64(buf + AT_ADDR, frame->addr);
	put_le32(buf + AT_LENGTH, frame->length_bytes);
	put_le32(buf + AT_RESERVED, 0);
}

static bool
is_length_valid(const struct frame *f)
{
	uint32_t max = kinds[f->kind].length_max;

	if (max == 0 || f->status != FRAME_STATUS_OK)
		return f->length_bytes == 0;
	return f->length_bytes >= 1 && f->length_bytes <= max;
}

int
frame_decode(const uint8_t *buf, struct frame *ret_frame)
{
	uint32_t kind = get_le16(buf + AT_KIND);
	struct frame f;

	if (get_le32(buf + AT_MAGIC) != FRAME_MAGIC || !is_known(kind) ||
	    get_le32(buf + AT_RESERVED))
		return -EPROTO;
	f.kind = (enum frame_kind)kind;
	f.status = get_le16(buf + AT_STATUS);
	f.op_id = get_le32(buf + AT_OP_ID);
	f.rkey = get_le32(buf + AT_RKEY);
	f.addr = get_le64(buf + AT_ADDR);
	f.length_bytes = get_le32(buf + AT_LENGTH);
	if ((f.status && !kinds[kind].has_status) || (f.op_id && !kinds[kind].has_op_id) ||
	    ((f.rkey || f.addr) && !kinds[kind].has_range) || !is_length_valid(&f))
		return -EPROTO;
	*ret_frame = f;
	return 0;
}

const char *
frame_kind_name(enum frame_kind kind)
{
	return is_known(kind) ? kinds[kind].name : "?";
}
