/* SPDX-License-Identifier: MIT */
/*
 * fake_backup.h - slab/backup.h in memory, for tests of the device core.
 *
 * Nothing completes until the test steps it.  The contract is checked by assert:
 * no two ops in flight on a byte of which one writes, no op submitted twice, a
 * WRITE buffer that does not change between submit and done().  DISCARD fills
 * the bytes with garbage, so that nobody relies on them.
 */
#ifndef TESTS_LIB_FAKE_BACKUP_H
#define TESTS_LIB_FAKE_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "slab/backup.h"

struct fake_backup;

/* @size_bytes of zeros.  @can_zero, @can_discard: else those ops give -EOPNOTSUPP. */
struct fake_backup *fake_backup_new(uint64_t size_bytes, bool can_zero, bool can_discard);
/* No op is in flight.  Returns NULL. */
struct fake_backup *fake_backup_free(struct fake_backup *fb);

struct backup *fake_backup_as_backup(struct fake_backup *fb);
/* The bytes; what a restarted server would find. */
uint8_t *fake_backup_bytes(struct fake_backup *fb);

/* Ops in flight. */
uint32_t fake_backup_pending(const struct fake_backup *fb);
/* The @index-th op in flight, oldest first. */
const struct backup_op *fake_backup_op(const struct fake_backup *fb, uint32_t index);
/* Completes the @index-th op in flight, oldest first. */
void fake_backup_step(struct fake_backup *fb, uint32_t index);
/* Completes ops, oldest first, and those that follow from them, until none is left. */
void fake_backup_run(struct fake_backup *fb);

/* Until 0 is set: ops of these kinds end with @status and change nothing. */
void fake_backup_fail_writes(struct fake_backup *fb, int status); /* WRITE, ZERO, DISCARD */
void fake_backup_fail_reads(struct fake_backup *fb, int status);
/* WRITEs that ended with 0 since the last SYNC was submitted or later are not durable. */
bool fake_backup_is_durable(const struct fake_backup *fb, uint64_t offset_bytes);

#endif /* TESTS_LIB_FAKE_BACKUP_H */
