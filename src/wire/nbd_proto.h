/* SPDX-License-Identifier: MIT */
/*
 * nbd_proto.h - the NBD protocol: bytes <-> structs.
 *
 * Pure: no I/O, no allocation, no logging.  Everything on the wire is big-endian.
 * "get" decodes and refuses what is malformed, "put" encodes and returns how many
 * bytes it wrote; the caller provides room for the largest value that the name says.
 * The protocol is doc/proto.md of NetworkBlockDevice/nbd.
 */
#ifndef WIRE_NBD_PROTO_H
#define WIRE_NBD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBDP_MAGIC UINT64_C(0x4e42444d41474943)	       /* "NBDMAGIC" */
#define NBDP_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBDP_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBDP_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBDP_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBDP_CHUNK_MAGIC UINT32_C(0x668e33ef)

/* Lengths on the wire. */
#define NBDP_GREETING_BYTES 18u
#define NBDP_CLIENT_FLAGS_BYTES 4u
#define NBDP_OPTION_HEADER_BYTES 16u
#define NBDP_OPTION_REPLY_BYTES 20u
#define NBDP_EXPORT_REPLY_BYTES_MAX 134u
#define NBDP_INFO_BYTES_MAX 14u
#define NBDP_REQUEST_BYTES 28u
#define NBDP_SIMPLE_REPLY_BYTES 16u
#define NBDP_CHUNK_BYTES 20u
#define NBDP_CHUNK_OFFSET_BYTES 8u
#define NBDP_CHUNK_ERROR_BYTES 6u
#define NBDP_EXTENT_BYTES 8u
/* Longest string of the protocol, without an ending NUL. */
#define NBDP_STRING_BYTES_MAX 4096u
/* Longest payload of a READ or WRITE that has to work. */
#define NBDP_PAYLOAD_BYTES_MAX (32u * 1024u * 1024u)

#define NBDP_BASE_ALLOCATION "base:allocation"

/* Handshake flags, and the client's answer to them. */
#define NBDP_FLAG_FIXED_NEWSTYLE (1u << 0)
#define NBDP_FLAG_NO_ZEROES (1u << 1)

enum nbdp_opt {
	NBDP_OPT_EXPORT_NAME = 1,
	NBDP_OPT_ABORT = 2,
	NBDP_OPT_LIST = 3,
	NBDP_OPT_STARTTLS = 5,
	NBDP_OPT_INFO = 6,
	NBDP_OPT_GO = 7,
	NBDP_OPT_STRUCTURED_REPLY = 8,
	NBDP_OPT_LIST_META_CONTEXT = 9,
	NBDP_OPT_SET_META_CONTEXT = 10,
	NBDP_OPT_EXTENDED_HEADERS = 11,
};

#define NBDP_REP_ACK 1u
#define NBDP_REP_SERVER 2u
#define NBDP_REP_INFO 3u
#define NBDP_REP_META_CONTEXT 4u
#define NBDP_REP_ERROR (1u << 31)
#define NBDP_REP_ERR_UNSUP (NBDP_REP_ERROR | 1u)
#define NBDP_REP_ERR_POLICY (NBDP_REP_ERROR | 2u)
#define NBDP_REP_ERR_INVALID (NBDP_REP_ERROR | 3u)
#define NBDP_REP_ERR_UNKNOWN (NBDP_REP_ERROR | 6u)
#define NBDP_REP_ERR_TOO_BIG (NBDP_REP_ERROR | 9u)

enum nbdp_info {
	NBDP_INFO_EXPORT = 0,
	NBDP_INFO_NAME = 1,
	NBDP_INFO_DESCRIPTION = 2,
	NBDP_INFO_BLOCK_SIZE = 3,
};

/* Transmission flags: what an export can do. */
#define NBDP_TF_HAS_FLAGS (1u << 0)
#define NBDP_TF_READ_ONLY (1u << 1)
#define NBDP_TF_SEND_FLUSH (1u << 2)
#define NBDP_TF_SEND_FUA (1u << 3)
#define NBDP_TF_ROTATIONAL (1u << 4)
#define NBDP_TF_SEND_TRIM (1u << 5)
#define NBDP_TF_SEND_WRITE_ZEROES (1u << 6)
#define NBDP_TF_SEND_DF (1u << 7)
#define NBDP_TF_CAN_MULTI_CONN (1u << 8)
#define NBDP_TF_SEND_CACHE (1u << 10)
#define NBDP_TF_SEND_FAST_ZERO (1u << 11)

enum nbdp_cmd {
	NBDP_CMD_READ = 0,
	NBDP_CMD_WRITE = 1,
	NBDP_CMD_DISC = 2,
	NBDP_CMD_FLUSH = 3,
	NBDP_CMD_TRIM = 4,
	NBDP_CMD_CACHE = 5,
	NBDP_CMD_WRITE_ZEROES = 6,
	NBDP_CMD_BLOCK_STATUS = 7,
};
#define NBDP_CMD_COUNT 8u

#define NBDP_CMD_FLAG_FUA (1u << 0)
#define NBDP_CMD_FLAG_NO_HOLE (1u << 1)
#define NBDP_CMD_FLAG_DF (1u << 2)
#define NBDP_CMD_FLAG_REQ_ONE (1u << 3)
#define NBDP_CMD_FLAG_FAST_ZERO (1u << 4)

#define NBDP_CHUNK_FLAG_DONE (1u << 0)
enum nbdp_chunk_type {
	NBDP_CHUNK_NONE = 0,
	NBDP_CHUNK_OFFSET_DATA = 1,
	NBDP_CHUNK_BLOCK_STATUS = 5,
	NBDP_CHUNK_ERROR = 32769,
};

/* States of base:allocation. */
#define NBDP_STATE_HOLE (1u << 0)
#define NBDP_STATE_ZERO (1u << 1)

/* The errors of replies; no others exist. */
#define NBDP_EPERM 1u
#define NBDP_EIO 5u
#define NBDP_ENOMEM 12u
#define NBDP_EINVAL 22u
#define NBDP_ENOSPC 28u
#define NBDP_EOVERFLOW 75u
#define NBDP_ENOTSUP 95u
#define NBDP_ESHUTDOWN 108u

struct nbdp_option {
	uint32_t option;       /* enum nbdp_opt, or anything */
	uint32_t length_bytes; /* of the payload that follows; as the client says, unchecked */
};

/* Payload of INFO and GO; points into the bytes it was decoded from. */
struct nbdp_info_request {
	const char *name; /* no NUL at the end, may hold any bytes */
	uint32_t name_bytes;
	uint32_t infos; /* how many, and where: nbdp_info_at() */
	const uint8_t *info_bytes;
};

/* Payload of LIST_ and SET_META_CONTEXT; points into the bytes it was decoded from. */
struct nbdp_meta_request {
	const char *name;
	uint32_t name_bytes;
	uint32_t queries;
	const uint8_t *query_bytes; /* checked: nbdp_meta_next() walks it */
};

struct nbdp_request {
	uint16_t flags;
	uint16_t command; /* enum nbdp_cmd, or anything */
	uint64_t cookie;
	uint64_t offset_bytes;
	uint32_t length_bytes;
};

/* Handshake. */
size_t nbdp_put_greeting(uint8_t *out);
uint32_t nbdp_get_client_flags(const uint8_t *in);
/* @in: NBDP_OPTION_HEADER_BYTES.  -EPROTO: not the magic. */
int nbdp_get_option(const uint8_t *in, struct nbdp_option *ret_option);
size_t nbdp_put_option_reply(uint8_t *out, uint32_t option, uint32_t reply, uint32_t length_bytes);
/* -EINVAL: lengths contradict each other; -E2BIG: the name is over NBDP_STRING_BYTES_MAX. */
int nbdp_get_info_request(const uint8_t *in, size_t length_bytes,
			  struct nbdp_info_request *ret_request);
uint16_t nbdp_info_at(const struct nbdp_info_request *request, uint32_t i);
/* The same errors; a query over NBDP_STRING_BYTES_MAX is -E2BIG too. */
int nbdp_get_meta_request(const uint8_t *in, size_t length_bytes,
			  struct nbdp_meta_request *ret_request);
/* Takes the next query off @request; false when none is left. */
bool nbdp_meta_next(struct nbdp_meta_request *request, const char **ret_query,
		    uint32_t *ret_query_bytes);
/* The answer to EXPORT_NAME. */
size_t nbdp_put_export_reply(uint8_t *out, uint64_t size_bytes, uint16_t flags, bool no_zeroes);
/* Payloads of NBDP_REP_INFO. */
size_t nbdp_put_info_export(uint8_t *out, uint64_t size_bytes, uint16_t flags);
size_t nbdp_put_info_block_size(uint8_t *out, uint32_t min_bytes, uint32_t preferred_bytes,
				uint32_t max_bytes);
/* NAME and DESCRIPTION; writes 2 bytes, the text follows. */
size_t nbdp_put_info_text(uint8_t *out, enum nbdp_info info);
/* 4 bytes: a length before a name, the id before a meta context's name. */
size_t nbdp_put_u32(uint8_t *out, uint32_t value);

/* Transmission. */
/* @in: NBDP_REQUEST_BYTES.  -EPROTO: not the magic. */
int nbdp_get_request(const uint8_t *in, struct nbdp_request *ret_request);
/* @error: 0 or NBDP_E... */
size_t nbdp_put_simple_reply(uint8_t *out, uint32_t error, uint64_t cookie);
/* @flags: NBDP_CHUNK_FLAG_DONE or 0. */
size_t nbdp_put_chunk(uint8_t *out, uint16_t flags, enum nbdp_chunk_type type, uint64_t cookie,
		      uint32_t length_bytes);
/* A chunk header and its offset; @data_bytes of data follow. */
size_t nbdp_put_data_chunk(uint8_t *out, uint16_t flags, uint64_t cookie, uint64_t offset_bytes,
			   uint32_t data_bytes);
/* A whole error chunk, the last of its reply, without a text. */
size_t nbdp_put_error_chunk(uint8_t *out, uint64_t cookie, uint32_t error);
size_t nbdp_put_extent(uint8_t *out, uint32_t length_bytes, uint32_t state);

#endif /* WIRE_NBD_PROTO_H */
