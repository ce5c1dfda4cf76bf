/* SPDX-License-Identifier: MIT */
/* Key files: length limits, the newline at the end, and who may read them. */
#include "common/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIN_BYTES 16u
#define MAX_BYTES 32u

struct fixture {
	char dir[64];
	char path[96];
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/slabswap-secret-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/psk", f->dir);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->path);
	(void)rmdir(f->path);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static void
file_write(const struct fixture *f, const void *bytes, size_t length, mode_t mode)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
}

/* Reads @length bytes of 'k' followed by @tail; the bytes read, or -errno. */
static int
read_back(const struct fixture *f, size_t length, const char *tail, char problem[128])
{
	char text[MAX_BYTES + 8];
	char buf[MAX_BYTES];
	size_t got = 0;
	int r;

	assert_true(length + strlen(tail) < sizeof(text));
	memset(text, 'k', sizeof(text));
	memcpy(text + length, tail, strlen(tail));
	file_write(f, text, length + strlen(tail), 0600);
	r = secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem, 128);
	if (r < 0) {
		assert_int_equal(got, 0);
		return r;
	}
	assert_memory_equal(buf, text, got);
	return (int)got;
}

static void
read__length_limits(void **state)
{
	char problem[128];

	assert_int_equal(read_back(*state, MIN_BYTES, "", problem), MIN_BYTES);
	assert_int_equal(read_back(*state, MIN_BYTES, "\n", problem), MIN_BYTES);
	assert_int_equal(read_back(*state, MAX_BYTES, "", problem), MAX_BYTES);
	assert_int_equal(read_back(*state, MAX_BYTES, "\n", problem), MAX_BYTES);
	assert_int_equal(read_back(*state, MAX_BYTES - 1, "\n\n", problem), MAX_BYTES);
	assert_int_equal(read_back(*state, MIN_BYTES, "\n\n", problem), MIN_BYTES + 1);

	assert_int_equal(read_back(*state, 0, "", problem), -EINVAL);
	assert_string_equal(problem, "key too short");
	assert_int_equal(read_back(*state, MIN_BYTES - 1, "\n", problem), -EINVAL);
	assert_string_equal(problem, "key too short");
	assert_int_equal(read_back(*state, MAX_BYTES, "\n\n", problem), -EINVAL);
	assert_string_equal(problem, "key too long");
	assert_int_equal(read_back(*state, MAX_BYTES + 1, "", problem), -EINVAL);
	assert_string_equal(problem, "key too long");
}

static void
read__others_may(void **state)
{
	static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0777};
	struct fixture *f = *state;
	char buf[MAX_BYTES], problem[128];
	size_t got;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		file_write(f, "0123456789abcdef", 16, modes[i]);
		assert_int_equal(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
						  sizeof(problem)),
				 -EACCES);
		assert_non_null(strstr(problem, "open to group or others"));
	}
	file_write(f, "0123456789abcdef", 16, 0400);
	assert_int_equal(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
					  sizeof(problem)),
			 0);
}

static void
read__no_file(void **state)
{
	struct fixture *f = *state;
	char buf[MAX_BYTES], problem[128];
	size_t got;

	assert_int_equal(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
					  sizeof(problem)),
			 -ENOENT);
	assert_string_equal(problem, "cannot read: No such file or directory");
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_int_equal(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
					  sizeof(problem)),
			 -EINVAL);
	assert_string_equal(problem, "not a regular file");
	assert_int_equal(rmdir(f->path), 0);
	assert_int_equal(mkfifo(f->path, 0600), 0); /* must not wait for a writer */
	assert_int_equal(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
					  sizeof(problem)),
			 -EINVAL);
}

/* Root may read everything: the check runs as nobody. */
static void
read__no_permission(void **state)
{
	struct fixture *f = *state;
	char buf[MAX_BYTES], problem[128];
	size_t got;
	int status;
	pid_t pid;

	file_write(f, "0123456789abcdef", 16, 0000);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (geteuid() == 0 && setuid(65534) < 0)
			_exit(2);
		_exit(secret_file_read(f->path, buf, MIN_BYTES, MAX_BYTES, &got, problem,
				       sizeof(problem)) == -EACCES
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(read__length_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(read__others_may, setup, teardown),
		cmocka_unit_test_setup_teardown(read__no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(read__no_permission, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
