/* SPDX-License-Identifier: MIT */
#include "sim/bump.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "sim/guard.h"

#define CHUNK_BYTES (1024u * 1024u)
#define CHUNKS_MAX 512u

/* One run at a time in a process, and its chunks are worth keeping. */
static uint8_t *chunks[CHUNKS_MAX];
static size_t chunk;
static size_t used;

void *
bump_alloc(size_t bytes)
{
	void *p;

	bytes = (bytes + 7) & ~(size_t)7;
	assert(bytes <= CHUNK_BYTES);
	if (used + bytes > CHUNK_BYTES) {
		chunk++;
		used = 0;
	}
	assert(chunk < CHUNKS_MAX);
	if (!chunks[chunk])
		chunks[chunk] = guard_alloc(CHUNK_BYTES);
	p = chunks[chunk] + used;
	used += bytes;
	memset(p, 0, bytes);
	return p;
}

void
bump_reset(void)
{
	chunk = 0;
	used = 0;
}
