/* SPDX-License-Identifier: MIT */
/*
 * frame.h - the header of every frame on a tcp connection: bytes <-> struct.
 *
 * Pure.  A frame is FRAME_HEADER_BYTES and, for MESSAGE, WRITE and a READ_DONE
 * without error, length_bytes of payload.  docs/protocol.md has the byte table.
 *
 *   client                          daemon
 *     PREAMBLE {version}     ->     <- PREAMBLE {version}     first, once
 *     MESSAGE                <->    MESSAGE
 *     READ {id, rkey, range} ->     <- READ_DONE {id, status} bytes
 *     WRITE {...} bytes      ->     <- WRITE_DONE {id, status}
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <stdint.h>

#define FRAME_MAGIC UINT32_C(0x54575353) /* "SSWT" on the wire */
#define FRAME_VERSION 1u
#define FRAME_HEADER_BYTES 32u
#define FRAME_MESSAGE_BYTES_MAX 512u
#define FRAME_OP_BYTES_MAX (128u * 1024u)

enum frame_kind {
	FRAME_PREAMBLE = 1,
	FRAME_MESSAGE,
	FRAME_READ,
	FRAME_READ_DONE,
	FRAME_WRITE,
	FRAME_WRITE_DONE,
};

enum frame_status {
	FRAME_STATUS_OK = 0,
	FRAME_STATUS_ACCESS = 13, /* no such grant, or out of its range; the sender closes next */
};

struct frame {
	enum frame_kind kind;
	uint16_t status; /* READ_DONE, WRITE_DONE; any value is valid on the wire */
	uint32_t op_id;	 /* the asker's; its answer carries the same.  PREAMBLE: the version */
	uint32_t rkey;	 /* READ, WRITE */
	uint64_t addr;	 /* READ, WRITE; not checked against anything here */
	uint32_t length_bytes; /* MESSAGE, READ, WRITE, READ_DONE */
};

void frame_encode(const struct frame *frame, uint8_t *buf);

/*
 * frame_decode - @buf has FRAME_HEADER_BYTES; @ret_frame is written on success only.
 * Returns 0 or -EPROTO: bad magic, unknown kind, a length outside the kind's
 * limits, a field that the kind does not use is not zero.
 */
int frame_decode(const uint8_t *buf, struct frame *ret_frame);

/* "READ_DONE", or "?"; static. */
const char *frame_kind_name(enum frame_kind kind);

#endif /* WIRE_FRAME_H */
