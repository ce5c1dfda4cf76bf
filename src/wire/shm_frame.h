/* SPDX-License-Identifier: MIT */
/*
 * shm_frame.h - the packets of a shm connection: bytes <-> struct.
 *
 * Pure.  The socket keeps the borders of packets, so a packet is one frame: a header
 * of SHM_FRAME_HEADER_BYTES and, for MESSAGE, what is left of the packet as payload.
 * docs/protocol.md has the byte table.
 *
 *   client                          daemon
 *     PREAMBLE {version}     ->     <- PREAMBLE {version}     first, once
 *     MESSAGE                <->    MESSAGE
 *                                   <- GRANT {rkey, length} and one descriptor
 *     REVOKED {rkey}         ->     <- REVOKE {rkey}
 *                                   <- BYE
 */
#ifndef WIRE_SHM_FRAME_H
#define WIRE_SHM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define SHM_FRAME_MAGIC UINT32_C(0x4d535353) /* "SSSM" on the wire */
#define SHM_FRAME_VERSION 1u
#define SHM_FRAME_HEADER_BYTES 24u
#define SHM_FRAME_MESSAGE_BYTES_MAX 512u
#define SHM_FRAME_BYTES_MAX (SHM_FRAME_HEADER_BYTES + SHM_FRAME_MESSAGE_BYTES_MAX)

enum shm_frame_kind {
	SHM_FRAME_PREAMBLE = 1,
	SHM_FRAME_MESSAGE,
	SHM_FRAME_GRANT,
	SHM_FRAME_REVOKE,
	SHM_FRAME_REVOKED,
	SHM_FRAME_BYE, /* the daemon's end, when the client still has something of it */
};

struct shm_frame {
	enum shm_frame_kind kind;
	uint32_t rkey;		/* GRANT, REVOKE, REVOKED; any value is valid on the wire */
	uint64_t value;		/* PREAMBLE: the version.  GRANT: length of the memory, not 0 */
	const uint8_t *payload; /* MESSAGE: inside of what was decoded */
	size_t payload_bytes;	/* MESSAGE: 1 to SHM_FRAME_MESSAGE_BYTES_MAX, else 0 */
};

/* The header only; a MESSAGE's payload goes behind it.  @buf has SHM_FRAME_HEADER_BYTES. */
void shm_frame_encode(const struct shm_frame *frame, uint8_t *buf);

/*
 * shm_frame_decode - one packet of @length_bytes with @n_fds descriptors.  @ret_frame
 * is written on success only and borrows from @buf.
 * Returns 0 or -EPROTO: too short or too long, bad magic, unknown kind, descriptors
 * where the kind has none or not exactly one where it has one, a field that the kind
 * does not use is not zero.
 */
int shm_frame_decode(const uint8_t *buf, size_t length_bytes, uint32_t n_fds,
		     struct shm_frame *ret_frame);

#endif /* WIRE_SHM_FRAME_H */
