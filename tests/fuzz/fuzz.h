/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets share: their entry points, and an input that is
 * eaten from the front.
 *
 * An input that has run out gives zeros, so every byte string is a valid input
 * and a mutation in the middle keeps the meaning of what stands before it.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of libFuzzer; replay_main.c calls them too. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input; on in every build. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "%s:%d: does not hold: %s (errno: %s)\n", __FILE__,  \
				      __LINE__, #condition, strerror(errno));                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* Up to @bytes of the input; *ret_bytes says how many there were. */
static inline const uint8_t *
fuzz_take(struct fuzz_input *in, size_t bytes, size_t *ret_bytes)
{
	const uint8_t *p = in->at;

	if (bytes > in->left)
		bytes = in->left;
	in->at += bytes;
	in->left -= bytes;
	*ret_bytes = bytes;
	return p;
}

/* Little-endian. */
static inline uint64_t
fuzz_number(struct fuzz_input *in, size_t bytes)
{
	uint64_t v = 0;
	size_t n, i;
	const uint8_t *p = fuzz_take(in, bytes, &n);

	for (i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static inline uint8_t
fuzz_u8(struct fuzz_input *in)
{
	return (uint8_t)fuzz_number(in, 1);
}

static inline uint16_t
fuzz_u16(struct fuzz_input *in)
{
	return (uint16_t)fuzz_number(in, 2);
}

static inline uint32_t
fuzz_u32(struct fuzz_input *in)
{
	return (uint32_t)fuzz_number(in, 4);
}

static inline uint64_t
fuzz_u64(struct fuzz_input *in)
{
	return fuzz_number(in, 8);
}

/* [0, @bound), from one byte. */
static inline uint32_t
fuzz_below(struct fuzz_input *in, uint32_t bound)
{
	return fuzz_u8(in) % bound;
}

/* A copy of its own exact size, so that ASan sees a read behind its end.  free() it. */
static inline uint8_t *
fuzz_copy(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	FUZZ_CHECK(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

#endif /* TESTS_FUZZ_FUZZ_H */
