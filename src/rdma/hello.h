/* SPDX-License-Identifier: MIT */
/*
 * hello.h - what both sides say while they connect: the private data of the CM's
 * request, reply and reject messages.
 *
 * Pure.  HELLO (request and reply) and REJECT are 16 bytes, little-endian:
 *   0 u32 magic "SSRD"   4 u16 version   6 u16 kind (1 hello, 2 reject)
 *   8 u16 hello: messages the sender can receive before it returns credits
 *         reject: enum vrb_reject
 *   10 six zero bytes
 * The CM pads private data with zeros, so longer data is valid.
 */
#ifndef RDMA_HELLO_H
#define RDMA_HELLO_H

#include <stddef.h>
#include <stdint.h>

#define VRB_HELLO_BYTES 16u
#define VRB_HELLO_VERSION 1u
#define VRB_MESSAGE_DEPTH_MAX 1024u

enum vrb_reject {
	VRB_REJECT_REFUSED = 1, /* the daemon does not want the connection */
	VRB_REJECT_PROTOCOL,	/* not a hello */
	VRB_REJECT_VERSION,	/* another version of it */
	VRB_REJECT_BUSY,	/* too many connections are being made, or no memory */
};

void vrb_hello_encode(uint16_t message_depth, uint8_t buf[VRB_HELLO_BYTES]);
/* Returns 0, -EPROTO or -EPROTONOSUPPORT (version). */
int vrb_hello_decode(const void *data, size_t length_bytes, uint16_t *ret_message_depth);

void vrb_reject_encode(enum vrb_reject why, uint8_t buf[VRB_HELLO_BYTES]);
/* Why the peer refused, as -errno; -ENOMSG when @data is no reject of ours. */
int vrb_reject_decode(const void *data, size_t length_bytes);

#endif /* RDMA_HELLO_H */
