/* SPDX-License-Identifier: MIT */
/*
 * Decoders of what daemons and servers tell each other: control messages, tcp
 * frames, proofs.  What is accepted encodes to the very bytes it came from: no two
 * readings of one message, nothing smuggled in padding.
 */
#include <errno.h>

#include "fuzz.h"
#include "wire/auth.h"
#include "wire/ctl.h"
#include "wire/frame.h"

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void
message(const uint8_t *in, size_t size)
{
	struct ctl_msg msg;
	uint8_t out[CTL_MESSAGE_BYTES_MAX];
	const int r = ctl_decode(in, size, &msg);

	FUZZ_CHECK(r == 0 || r == -EPROTO || r == -EPROTONOSUPPORT);
	if (r < 0)
		return;
	FUZZ_CHECK(strcmp(ctl_type_name(msg.type), "?") != 0);
	if (msg.type == CTL_REFUSED)
		FUZZ_CHECK(*ctl_reason_name(msg.u.refused.reason));
	/* The encoder takes version 0 for its own. */
	if (msg.version == 0)
		return;
	FUZZ_CHECK(ctl_encode(&msg, out) == size);
	FUZZ_CHECK(memcmp(in, out, size) == 0);
}

static void
frame(const uint8_t *in, size_t size)
{
	struct frame frame;
	uint8_t out[FRAME_HEADER_BYTES];
	int r;

	if (size < FRAME_HEADER_BYTES)
		return;
	r = frame_decode(in, &frame);
	FUZZ_CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	FUZZ_CHECK(strcmp(frame_kind_name(frame.kind), "?") != 0);
	FUZZ_CHECK(frame.length_bytes <= FRAME_OP_BYTES_MAX);
	frame_encode(&frame, out);
	FUZZ_CHECK(memcmp(in, out, sizeof(out)) == 0);
}

/* The rest of the input is HELLO; one bit of anything else changes the proof. */
static void
proof(struct fuzz_input *in)
{
	struct auth_psk psk = {.length_bytes = AUTH_PSK_BYTES_MIN};
	uint8_t nonce[CTL_NONCE_BYTES] = {fuzz_u8(in)};
	uint8_t a[CTL_PROOF_BYTES], b[CTL_PROOF_BYTES];
	uint8_t *hello;

	psk.length_bytes += fuzz_below(in, AUTH_PSK_BYTES_MAX - AUTH_PSK_BYTES_MIN + 1);
	memset(psk.key, fuzz_u8(in), psk.length_bytes);
	hello = fuzz_copy(in->at, in->left);
	auth_proof(&psk, AUTH_DAEMON, hello, in->left, nonce, a);
	auth_proof(&psk, AUTH_DAEMON, hello, in->left, nonce, b);
	FUZZ_CHECK(auth_proof_equal(a, b));
	auth_proof(&psk, AUTH_CLIENT, hello, in->left, nonce, b);
	FUZZ_CHECK(!auth_proof_equal(a, b));
	nonce[0] ^= 1;
	auth_proof(&psk, AUTH_DAEMON, hello, in->left, nonce, b);
	FUZZ_CHECK(!auth_proof_equal(a, b));
	free(hello);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	const uint8_t which = fuzz_u8(&in);
	uint8_t *copy = fuzz_copy(in.at, in.left);

	if (which % 4 == 3)
		proof(&in);
	else if (which % 4 == 2)
		frame(copy, in.left);
	else
		message(copy, in.left);
	free(copy);
	return 0;
}
