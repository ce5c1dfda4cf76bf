/* SPDX-License-Identifier: MIT */
/*
 * ctl.h - the control protocol between server and daemon: bytes <-> structs.
 *
 * Pure: no I/O, no clock, no allocation, no logging.  docs/protocol.md has the
 * byte tables.  Every message: a 24-byte header, then a payload of fixed length
 * for its type; integers little-endian.  The decoder refuses anything else.
 *
 *   client (server program)                        daemon
 *     HELLO {version, client, device, slab, nonce}  ->
 *        <- CHALLENGE {nonce, proof}    only when the daemon has a psk
 *     AUTH {proof}                                  ->
 *        <- WELCOME {version, slab, epoch, free}, or REFUSED and close
 *     QUERY_MEM ->      <- FREE_MEM
 *     MAP ->            <- MR_INFO, or REFUSED
 *     UNMAP ->          <- UNMAPPED
 *     PING ->           <- PONG
 *              CHECK_ACTIVITY <-                     ACTIVITY ->
 *              EVICT <-                              DONE ->
 * Every request carries a non-zero request id, its answer the same one; each side
 * counts its own.
 * FREE_MEM also comes unasked (request id 0) when the number changed.
 */
#ifndef WIRE_CTL_H
#define WIRE_CTL_H

#include <stddef.h>
#include <stdint.h>

#define CTL_MAGIC UINT32_C(0x50575353) /* "SSWP" on the wire */
#define CTL_VERSION 1u
#define CTL_HEADER_BYTES 24u
/* Largest message with its header; at most TP_MESSAGE_BYTES_MAX. */
#define CTL_MESSAGE_BYTES_MAX 256u

#define CTL_CLIENT_ID_BYTES 16u
#define CTL_NONCE_BYTES 16u
#define CTL_PROOF_BYTES 32u	  /* HMAC-SHA256 */
#define CTL_DEVICE_NAME_BYTES 64u /* NUL-padded, at least one NUL */
#define CTL_TEXT_BYTES 96u	  /* REFUSED: for the peer's log; NUL-padded, printable ASCII */

enum ctl_type {
	CTL_HELLO = 1,
	CTL_CHALLENGE = 2,
	CTL_AUTH = 3,
	CTL_WELCOME = 4,
	CTL_REFUSED = 5,
	CTL_QUERY_MEM = 6,
	CTL_FREE_MEM = 7,
	CTL_MAP = 8,
	CTL_MR_INFO = 9,
	CTL_UNMAP = 10,
	CTL_UNMAPPED = 11,
	CTL_PING = 12,
	CTL_PONG = 13,
	CTL_CHECK_ACTIVITY = 14, /* paper appendix B.1 has these four names */
	CTL_ACTIVITY = 15,
	CTL_EVICT = 16,
	CTL_DONE = 17,
};

enum ctl_reason {
	CTL_REASON_VERSION = 1,	  /* the protocol version is not spoken here */
	CTL_REASON_SLAB_SIZE = 2, /* slab sizes differ */
	CTL_REASON_AUTH = 3,	  /* wrong or missing psk */
	CTL_REASON_CLIENTS = 4,	  /* max_clients reached */
	CTL_REASON_NO_MEMORY = 5, /* no free slab now */
	CTL_REASON_QUOTA = 6,	  /* the client holds max_per_client */
	CTL_REASON_PROTOCOL = 7,  /* a message that does not fit the state */
	CTL_REASON_BAD_SLAB = 8,  /* UNMAP of a slab the client does not hold, MAP of one it does */
	CTL_REASON_STOPPING = 9,
};

struct ctl_hello {
	uint8_t client_id
		[CTL_CLIENT_ID_BYTES]; /* random at each server start; a restarted server keeps it */
	char device[CTL_DEVICE_NAME_BYTES];
	uint64_t slab_bytes;
	uint8_t nonce[CTL_NONCE_BYTES];
};
struct ctl_challenge {
	uint8_t nonce[CTL_NONCE_BYTES];
	uint8_t proof[CTL_PROOF_BYTES]; /* the daemon's: the server checks it too */
};
struct ctl_auth {
	uint8_t proof[CTL_PROOF_BYTES];
};
struct ctl_welcome {
	uint64_t slab_bytes;
	uint64_t epoch; /* random at each daemon start */
	uint32_t free_slabs;
	uint32_t total_slabs; /* that the daemon may lend at all */
	/* Where the epoch lies in the daemon's memory, 8 bytes little-endian, for one-sided
	 * READs of this connection; both 0: nowhere. */
	uint64_t epoch_addr;
	uint32_t epoch_rkey;
};
struct ctl_refused {
	uint32_t reason; /* enum ctl_reason; unknown values are valid on the wire */
	char text[CTL_TEXT_BYTES];
};
struct ctl_free_mem {
	uint32_t free_slabs; /* ready to be mapped now, this client's quota counted */
	uint32_t total_slabs;
	uint32_t usage_permille; /* of the host's memory, in use by anything: 0..1000 */
};
#define CTL_USAGE_PERMILLE_MAX 1000u
struct ctl_map {
	uint32_t slab;	     /* the device's index of it */
	uint32_t generation; /* the server's, not 0; distinguishes mappings of one slab */
};
struct ctl_mr_info {
	uint32_t slab;
	uint32_t generation;
	uint64_t addr;
	uint64_t length_bytes;
	uint32_t rkey;
};
struct ctl_unmap {
	uint32_t slab;
	uint32_t generation;
};
struct ctl_activity {
	uint32_t slab;
	uint32_t generation;
	uint64_t milli_pages_per_second; /* page I/Os, the EWMA of paper 4.1, times 1000 */
};
struct ctl_evict {
	uint32_t slab;
	uint32_t generation;
	uint32_t deadline_ms; /* from the sending on; not 0.  Then the grant is revoked. */
};

struct ctl_msg {
	enum ctl_type type;
	uint32_t request_id;
	uint16_t version; /* of the header; the decoder lets any pass for HELLO and REFUSED only */
	union {
		struct ctl_hello hello;
		struct ctl_challenge challenge;
		struct ctl_auth auth;
		struct ctl_welcome welcome;
		struct ctl_refused refused;
		struct ctl_free_mem free_mem;
		struct ctl_map map;
		struct ctl_mr_info mr_info;
		struct ctl_unmap unmap; /* UNMAP, UNMAPPED, CHECK_ACTIVITY and DONE */
		struct ctl_activity activity;
		struct ctl_evict evict;
	} u;
};

/*
 * ctl_encode - @msg as bytes.  @buf has CTL_MESSAGE_BYTES_MAX.  Returns the
 * length.  msg->version 0 means CTL_VERSION.  The type must be known.
 */
size_t ctl_encode(const struct ctl_msg *msg, uint8_t *buf);

/*
 * ctl_decode - bytes as @ret_msg (written on success only).
 * Returns 0, or -EPROTO: bad magic, wrong length for the type, unknown type,
 * strings without NUL or with unprintable bytes (they are refused, so they can
 * go to a log), reserved bytes not zero; -EPROTONOSUPPORT: another version in
 * a message other than HELLO or REFUSED.
 */
int ctl_decode(const void *buf, size_t length_bytes, struct ctl_msg *ret_msg);

/* "MAP", or "?"; static. */
const char *ctl_type_name(enum ctl_type type);
/* "no free slab now", or "unknown reason"; static. */
const char *ctl_reason_name(uint32_t reason);

#endif /* WIRE_CTL_H */
