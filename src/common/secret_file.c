/* SPDX-License-Identifier: MIT */
/* A key that others can read is no key: refusing it here keeps both programs equally strict. */
#include "common/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
check_mode(int fd, char *problem, size_t problem_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		(void)snprintf(problem, problem_bytes, "%s", strerror(errno));
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		(void)snprintf(problem, problem_bytes, "not a regular file");
		return -EINVAL;
	}
	if (st.st_mode & (S_IRWXG | S_IRWXO)) {
		(void)snprintf(problem, problem_bytes, "open to group or others (mode %04o)",
			       (unsigned int)st.st_mode & 07777u);
		return -EACCES;
	}
	return 0;
}

int
secret_file_read(const char *path, void *buf, size_t min_bytes, size_t max_bytes,
		 size_t *ret_length_bytes, char *problem, size_t problem_bytes)
{
	size_t length = 0;
	char rest[2] = ""; /* a newline may follow a longest key, nothing else */
	ssize_t n;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		r = -errno;
		(void)snprintf(problem, problem_bytes, "cannot read: %s", strerror(-r));
		return r;
	}
	r = check_mode(fd, problem, problem_bytes);
	if (r < 0)
		goto out;
	/* A regular file: a short read is its end. */
	n = pread(fd, buf, max_bytes, 0);
	if (n > 0) {
		length = (size_t)n;
		n = pread(fd, rest, sizeof(rest), n);
	}
	if (n < 0) {
		r = -errno;
		(void)snprintf(problem, problem_bytes, "cannot read: %s", strerror(-r));
		goto out;
	}
	if (n == 1 && rest[0] == '\n')
		n = 0;
	else if (n == 0 && length && ((const uint8_t *)buf)[length - 1] == '\n')
		length--;
	if (n > 0 || length < min_bytes) {
		(void)snprintf(problem, problem_bytes, "key too %s", n > 0 ? "long" : "short");
		r = -EINVAL;
		goto out;
	}
	*ret_length_bytes = length;
out:
	(void)close(fd);
	return r;
}
