/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - which bytes a read may return, sector by sector.
 *
 * Changes of a sector take effect in the order of their submission.  A read may
 * return the newest change submitted before it; where that failed, also the one
 * before it, and so on down to the newest that did not fail.
 */
#ifndef TESTS_UNIT_SLAB_ORACLE_H
#define TESTS_UNIT_SLAB_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR_BYTES 512u

struct oracle;

struct oracle *oracle_new(uint64_t size_bytes);
void oracle_free(struct oracle *o);

/* The bytes of @version (0: zeros) for the sector at @offset_bytes. */
void oracle_fill(void *buf, uint64_t version, uint64_t offset_bytes);

/* A change @number (rising) of a range to @version was submitted. */
void oracle_change(struct oracle *o, uint64_t number, uint64_t version, uint64_t offset_bytes,
		   uint64_t length_bytes);
/* It failed: its bytes may be there or not. */
void oracle_failed(struct oracle *o, uint64_t number, uint64_t offset_bytes, uint64_t length_bytes);

/* Whether a read submitted as @number may return these bytes.  Prints what is wrong if not. */
bool oracle_allows(const struct oracle *o, uint64_t number, const void *buf, uint64_t offset_bytes,
		   uint64_t length_bytes);
/* Whether the newest change of the sector made zeros. */
bool oracle_is_zero(const struct oracle *o, uint64_t offset_bytes);

#endif /* TESTS_UNIT_SLAB_ORACLE_H */
