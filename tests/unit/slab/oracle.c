/* SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY 48u /* changes remembered; more than requests in flight */

struct change {
	uint64_t number;
	uint64_t version;
	bool failed;
};

struct sector {
	uint32_t n; /* ever */
	struct change changes[HISTORY];
};

struct oracle {
	uint64_t n_sectors;
	struct sector *sectors;
};

struct oracle *
oracle_new(uint64_t size_bytes)
{
	struct oracle *o = calloc(1, sizeof(*o));

	assert(o);
	o->n_sectors = size_bytes / SECTOR_BYTES;
	o->sectors = calloc(o->n_sectors, sizeof(*o->sectors));
	assert(o->sectors);
	return o;
}

void
oracle_free(struct oracle *o)
{
	free(o->sectors);
	free(o);
}

void
oracle_fill(void *buf, uint64_t version, uint64_t offset_bytes)
{
	uint64_t words[SECTOR_BYTES / 8];

	memset(words, 0, sizeof(words));
	if (version != 0) {
		words[0] = version;
		for (uint32_t i = 1; i < SECTOR_BYTES / 8; i++)
			words[i] = (version * 0x9e3779b97f4a7c15u + offset_bytes + i) *
				   0xbf58476d1ce4e5b9u;
	}
	memcpy(buf, words, sizeof(words));
}

static struct sector *
sector_at(const struct oracle *o, uint64_t offset_bytes)
{
	assert(offset_bytes % SECTOR_BYTES == 0 && offset_bytes / SECTOR_BYTES < o->n_sectors);
	return &o->sectors[offset_bytes / SECTOR_BYTES];
}

void
oracle_change(struct oracle *o, uint64_t number, uint64_t version, uint64_t offset_bytes,
	      uint64_t length_bytes)
{
	for (uint64_t at = 0; at < length_bytes; at += SECTOR_BYTES) {
		struct sector *s = sector_at(o, offset_bytes + at);

		s->changes[s->n++ % HISTORY] = (struct change){number, version, false};
	}
}

void
oracle_failed(struct oracle *o, uint64_t number, uint64_t offset_bytes, uint64_t length_bytes)
{
	for (uint64_t at = 0; at < length_bytes; at += SECTOR_BYTES) {
		struct sector *s = sector_at(o, offset_bytes + at);

		for (uint32_t i = 0; i < HISTORY && i < s->n; i++)
			if (s->changes[i].number == number)
				s->changes[i].failed = true;
	}
}

static bool
version_allowed(const struct sector *s, uint64_t number, uint64_t version)
{
	uint32_t i;

	for (i = s->n; i > 0 && s->n - i < HISTORY; i--) {
		const struct change *c = &s->changes[(i - 1) % HISTORY];

		if (c->number >= number)
			continue;
		if (c->version == version)
			return true;
		if (!c->failed)
			return false;
	}
	return i == 0 && version == 0;
}

bool
oracle_allows(const struct oracle *o, uint64_t number, const void *buf, uint64_t offset_bytes,
	      uint64_t length_bytes)
{
	for (uint64_t at = 0; at < length_bytes; at += SECTOR_BYTES) {
		const struct sector *s = sector_at(o, offset_bytes + at);
		const uint8_t *bytes = (const uint8_t *)buf + at;
		uint8_t want[SECTOR_BYTES];
		uint64_t version;

		memcpy(&version, bytes, sizeof(version));
		oracle_fill(want, version, offset_bytes + at);
		if (memcmp(want, bytes, SECTOR_BYTES) != 0 ||
		    !version_allowed(s, number, version)) {
			fprintf(stderr,
				"sector at %" PRIu64 ": request %" PRIu64 " got version %" PRIu64
				"; newest change is %" PRIu64 " of request %" PRIu64 "\n",
				offset_bytes + at, number, version,
				s->n ? s->changes[(s->n - 1) % HISTORY].version : 0,
				s->n ? s->changes[(s->n - 1) % HISTORY].number : 0);
			return false;
		}
	}
	return true;
}

bool
oracle_is_zero(const struct oracle *o, uint64_t offset_bytes)
{
	const struct sector *s = sector_at(o, offset_bytes);

	for (uint32_t i = s->n; i > 0 && s->n - i < HISTORY; i--) {
		const struct change *c = &s->changes[(i - 1) % HISTORY];

		if (c->version == 0)
			return true;
		if (!c->failed)
			return false;
	}
	return true;
}
