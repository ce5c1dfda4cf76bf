/* SPDX-License-Identifier: MIT */
/*
 * pattern.h - the bytes that a write of a version puts at a place: every version
 * and every place has its own, so another page's or another time's data shows.
 */
#ifndef TESTS_SIM_PATTERN_H
#define TESTS_SIM_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* @version 0: zeros.  Any alignment and length. */
void pattern_fill(void *buf, uint64_t version, uint64_t offset_bytes, size_t length_bytes);
bool pattern_equal(const void *buf, uint64_t version, uint64_t offset_bytes, size_t length_bytes);
/* A whole page, looked at in 64 bytes of every 512. */
bool pattern_equal_page(const void *buf, uint64_t version, uint64_t offset_bytes);
/* One byte of it. */
uint8_t pattern_byte(uint64_t version, uint64_t offset_bytes);

#endif /* TESTS_SIM_PATTERN_H */
