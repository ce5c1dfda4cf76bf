/* SPDX-License-Identifier: MIT */
/* secret_file.h - reads a key that only its owner may read. */
#ifndef COMMON_SECRET_FILE_H
#define COMMON_SECRET_FILE_H

#include <stddef.h>

/*
 * secret_file_read - the bytes of @path, without the newline at its end.
 *
 * @buf has @max_bytes; its content is undefined after an error.
 * @ret_length_bytes: @min_bytes..@max_bytes, written on success only.
 * @problem: written on failure only: what is wrong, "open to group or others
 * (mode 0644)", cut to @problem_bytes.
 *
 * Returns 0; -EACCES (no permission to read it, or others have it); -EINVAL (not a
 * regular file, too short, too long); another -errno of open(2) or read(2).
 */
int secret_file_read(const char *path, void *buf, size_t min_bytes, size_t max_bytes,
		     size_t *ret_length_bytes, char *problem, size_t problem_bytes);

#endif /* COMMON_SECRET_FILE_H */
