/* SPDX-License-Identifier: MIT */
/* size.h - byte counts and other numbers as people write them: "4096", "64M", "0.2". */
#ifndef COMMON_SIZE_H
#define COMMON_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Room for any size_format() result with its NUL. */
#define SIZE_TEXT_BYTES 24

/*
 * number_parse - decimal digits only: no sign, space, unit or empty text.
 * Returns 0, -EINVAL (not a number) or -ERANGE (over UINT64_MAX); *@ret is
 * written on success only.
 */
int number_parse(const char *text, uint64_t *ret);

/*
 * size_parse - decimal digits, then nothing or one of K, M, G, T (powers of 1024).
 * Returns 0, -EINVAL (not a size) or -ERANGE (over UINT64_MAX bytes);
 * *@ret_bytes is written on success only.
 */
int size_parse(const char *text, uint64_t *ret_bytes);

/*
 * milli_parse - digits, then nothing or a point and one to three digits: "1", "0.25".
 * Returns thousandths; 0, -EINVAL (not a number) or -ERANGE (over UINT64_MAX);
 * *@ret_milli is written on success only.
 */
int milli_parse(const char *text, uint64_t *ret_milli);
/* The shortest text that milli_parse() reads back as @milli.  Returns @buf. */
const char *milli_format(uint64_t milli, char buf[SIZE_TEXT_BYTES]);

/* The shortest text that size_parse() reads back as @bytes.  Returns @buf. */
const char *size_format(uint64_t bytes, char buf[SIZE_TEXT_BYTES]);

#endif /* COMMON_SIZE_H */
