/* SPDX-License-Identifier: MIT */
/*
 * The control protocol's bytes.  One table of lengths decides what a message
 * may be; each type then has one pair of put/get functions in payload order.
 */
#include "wire/ctl.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "wire/bytes.h"

/* Offsets in the header. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_TYPE = 6,
	AT_LENGTH = 8, /* of the payload */
	AT_REQUEST_ID = 12,
	AT_RESERVED = 16,
};

static const struct {
	const char *name;
	uint16_t payload_bytes;
	bool any_version; /* needed to tell a peer of another version why it is refused */
} types[] = {
	[CTL_HELLO] = {"HELLO", 104, true},
	[CTL_CHALLENGE] = {"CHALLENGE", 48, false},
	[CTL_AUTH] = {"AUTH", 32, false},
	[CTL_WELCOME] = {"WELCOME", 40, false},
	[CTL_REFUSED] = {"REFUSED", 100, true},
	[CTL_QUERY_MEM] = {"QUERY_MEM", 0, false},
	[CTL_FREE_MEM] = {"FREE_MEM", 16, false},
	[CTL_MAP] = {"MAP", 8, false},
	[CTL_MR_INFO] = {"MR_INFO", 32, false},
	[CTL_UNMAP] = {"UNMAP", 8, false},
	[CTL_UNMAPPED] = {"UNMAPPED", 8, false},
	[CTL_PING] = {"PING", 0, false},
	[CTL_PONG] = {"PONG", 0, false},
	[CTL_CHECK_ACTIVITY] = {"CHECK_ACTIVITY", 8, false},
	[CTL_ACTIVITY] = {"ACTIVITY", 16, false},
	[CTL_EVICT] = {"EVICT", 16, false},
	[CTL_DONE] = {"DONE", 8, false},
};
#define TYPES_END (sizeof(types) / sizeof(types[0]))

_Static_assert(CTL_HEADER_BYTES + 104 <= CTL_MESSAGE_BYTES_MAX, "HELLO fits");

static bool
is_known(uint32_t type)
{
	return type < TYPES_END && types[type].name;
}

static void
put_string(uint8_t *p, const char *s, size_t size)
{
	size_t length = strnlen(s, size - 1);

	memcpy(p, s, length);
	memset(p + length, 0, size - length);
}

/* The text may go to a log as it is, so only printable ASCII passes. */
static int
get_string(const uint8_t *p, char *s, size_t size)
{
	size_t length = strnlen((const char *)p, size);
	size_t i;

	if (length == size)
		return -EPROTO;
	for (i = 0; i < length; i++)
		if (p[i] < 0x20 || p[i] > 0x7e)
			return -EPROTO;
	for (; i < size; i++)
		if (p[i])
			return -EPROTO;
	memcpy(s, p, size);
	return 0;
}

static void
put_payload(const struct ctl_msg *msg, uint8_t *p)
{
	switch (msg->type) {
	case CTL_HELLO:
		memcpy(p, msg->u.hello.client_id, 16);
		put_string(p + 16, msg->u.hello.device, 64);
		put_le64(p + 80, msg->u.hello.slab_bytes);
		memcpy(p + 88, msg->u.hello.nonce, 16);
		break;
	case CTL_CHALLENGE:
		memcpy(p, msg->u.challenge.nonce, 16);
		memcpy(p + 16, msg->u.challenge.proof, 32);
		break;
	case CTL_AUTH:
		memcpy(p, msg->u.auth.proof, 32);
		break;
	case CTL_WELCOME:
		put_le64(p, msg->u.welcome.slab_bytes);
		put_le64(p + 8, msg->u.welcome.epoch);
		put_le32(p + 16, msg->u.welcome.free_slabs);
		put_le32(p + 20, msg->u.welcome.total_slabs);
		put_le64(p + 24, msg->u.welcome.epoch_addr);
		put_le32(p + 32, msg->u.welcome.epoch_rkey);
		put_le32(p + 36, 0);
		break;
	case CTL_REFUSED:
		put_le32(p, msg->u.refused.reason);
		put_string(p + 4, msg->u.refused.text, 96);
		break;
	case CTL_FREE_MEM:
		put_le32(p, msg->u.free_mem.free_slabs);
		put_le32(p + 4, msg->u.free_mem.total_slabs);
		put_le32(p + 8, msg->u.free_mem.usage_permille);
		put_le32(p + 12, 0);
		break;
	case CTL_MAP:
		put_le32(p, msg->u.map.slab);
		put_le32(p + 4, msg->u.map.generation);
		break;
	case CTL_MR_INFO:
		put_le32(p, msg->u.mr_info.slab);
		put_le32(p + 4, msg->u.mr_info.generation);
		put_le64(p + 8, msg->u.mr_info.addr);
		put_le64(p + 16, msg->u.mr_info.length_bytes);
		put_le32(p + 24, msg->u.mr_info.rkey);
		put_le32(p + 28, 0);
		break;
	case CTL_UNMAP:
	case CTL_UNMAPPED:
	case CTL_CHECK_ACTIVITY:
	case CTL_DONE:
		put_le32(p, msg->u.unmap.slab);
		put_le32(p + 4, msg->u.unmap.generation);
		break;
	case CTL_ACTIVITY:
		put_le32(p, msg->u.activity.slab);
		put_le32(p + 4, msg->u.activity.generation);
		put_le64(p + 8, msg->u.activity.milli_pages_per_second);
		break;
	case CTL_EVICT:
		put_le32(p, msg->u.evict.slab);
		put_le32(p + 4, msg->u.evict.generation);
		put_le32(p + 8, msg->u.evict.deadline_ms);
		put_le32(p + 12, 0);
		break;
	case CTL_QUERY_MEM:
	case CTL_PING:
	case CTL_PONG:
		break;
	}
}

static int
get_payload(const uint8_t *p, struct ctl_msg *msg)
{
	switch (msg->type) {
	case CTL_HELLO:
		memcpy(msg->u.hello.client_id, p, 16);
		msg->u.hello.slab_bytes = get_le64(p + 80);
		memcpy(msg->u.hello.nonce, p + 88, 16);
		return get_string(p + 16, msg->u.hello.device, 64);
	case CTL_CHALLENGE:
		memcpy(msg->u.challenge.nonce, p, 16);
		memcpy(msg->u.challenge.proof, p + 16, 32);
		break;
	case CTL_AUTH:
		memcpy(msg->u.auth.proof, p, 32);
		break;
	case CTL_WELCOME:
		msg->u.welcome.slab_bytes = get_le64(p);
		msg->u.welcome.epoch = get_le64(p + 8);
		msg->u.welcome.free_slabs = get_le32(p + 16);
		msg->u.welcome.total_slabs = get_le32(p + 20);
		msg->u.welcome.epoch_addr = get_le64(p + 24);
		msg->u.welcome.epoch_rkey = get_le32(p + 32);
		if (get_le32(p + 36))
			return -EPROTO;
		break;
	case CTL_REFUSED:
		msg->u.refused.reason = get_le32(p);
		return get_string(p + 4, msg->u.refused.text, 96);
	case CTL_FREE_MEM:
		msg->u.free_mem.free_slabs = get_le32(p);
		msg->u.free_mem.total_slabs = get_le32(p + 4);
		msg->u.free_mem.usage_permille = get_le32(p + 8);
		if (msg->u.free_mem.usage_permille > CTL_USAGE_PERMILLE_MAX || get_le32(p + 12))
			return -EPROTO;
		break;
	case CTL_MAP:
		msg->u.map.slab = get_le32(p);
		msg->u.map.generation = get_le32(p + 4);
		break;
	case CTL_MR_INFO:
		msg->u.mr_info.slab = get_le32(p);
		msg->u.mr_info.generation = get_le32(p + 4);
		msg->u.mr_info.addr = get_le64(p + 8);
		msg->u.mr_info.length_bytes = get_le64(p + 16);
		msg->u.mr_info.rkey = get_le32(p + 24);
		if (get_le32(p + 28))
			return -EPROTO;
		break;
	case CTL_UNMAP:
	case CTL_UNMAPPED:
	case CTL_CHECK_ACTIVITY:
	case CTL_DONE:
		msg->u.unmap.slab = get_le32(p);
		msg->u.unmap.generation = get_le32(p + 4);
		break;
	case CTL_ACTIVITY:
		msg->u.activity.slab = get_le32(p);
		msg->u.activity.generation = get_le32(p + 4);
		msg->u.activity.milli_pages_per_second = get_le64(p + 8);
		break;
	case CTL_EVICT:
		msg->u.evict.slab = get_le32(p);
		msg->u.evict.generation = get_le32(p + 4);
		msg->u.evict.deadline_ms = get_le32(p + 8);
		if (msg->u.evict.deadline_ms == 0 || get_le32(p + 12))
			return -EPROTO;
		break;
	case CTL_QUERY_MEM:
	case CTL_PING:
	case CTL_PONG:
		break;
	}
	return 0;
}

size_t
ctl_encode(const struct ctl_msg *msg, uint8_t *buf)
{
	uint32_t payload_bytes;

	assert(is_known(msg->type));
	payload_bytes = types[msg->type].payload_bytes;
	put_le32(buf + AT_MAGIC, CTL_MAGIC);
	put_le16(buf + AT_VERSION, msg->version ? msg->version : CTL_VERSION);
	put_le16(buf + AT_TYPE, (uint16_t)msg->type);
	put_le32(buf + AT_LENGTH, payload_bytes);
	put_le32(buf + AT_REQUEST_ID, msg->request_id);
	put_le64(buf + AT_RESERVED, 0);
	put_payload(msg, buf + CTL_HEADER_BYTES);
	return CTL_HEADER_BYTES + payload_bytes;
}

int
ctl_decode(const void *buf, size_t length_bytes, struct ctl_msg *ret_msg)
{
	const uint8_t *p = buf;
	struct ctl_msg msg;
	uint32_t type;
	int r;

	if (length_bytes < CTL_HEADER_BYTES || get_le32(p + AT_MAGIC) != CTL_MAGIC)
		return -EPROTO;
	memset(&msg, 0, sizeof(msg));
	msg.version = get_le16(p + AT_VERSION);
	msg.request_id = get_le32(p + AT_REQUEST_ID);
	type = get_le16(p + AT_TYPE);
	/* Before anything else is judged: another version may have other types and lengths. */
	if (msg.version != CTL_VERSION && !(is_known(type) && types[type].any_version))
		return -EPROTONOSUPPORT;
	if (!is_known(type) || get_le64(p + AT_RESERVED))
		return -EPROTO;
	msg.type = (enum ctl_type)type;
	if (get_le32(p + AT_LENGTH) != types[type].payload_bytes ||
	    length_bytes - CTL_HEADER_BYTES != types[type].payload_bytes)
		return -EPROTO;
	r = get_payload(p + CTL_HEADER_BYTES, &msg);
	if (r < 0)
		return r;
	*ret_msg = msg;
	return 0;
}

const char *
ctl_type_name(enum ctl_type type)
{
	return is_known(type) ? types[type].name : "?";
}

const char *
ctl_reason_name(uint32_t reason)
{
	static const char *const names[] = {
		[CTL_REASON_VERSION] = "protocol version not supported",
		[CTL_REASON_SLAB_SIZE] = "slab sizes differ",
		[CTL_REASON_AUTH] = "wrong or missing psk",
		[CTL_REASON_CLIENTS] = "too many clients",
		[CTL_REASON_NO_MEMORY] = "no free slab now",
		[CTL_REASON_QUOTA] = "client's quota is used up",
		[CTL_REASON_PROTOCOL] = "message does not fit the state",
		[CTL_REASON_BAD_SLAB] = "no such slab of this client",
		[CTL_REASON_STOPPING] = "daemon is stopping",
	};

	if (reason >= sizeof(names) / sizeof(names[0]) || !names[reason])
		return "unknown reason";
	return names[reason];
}
