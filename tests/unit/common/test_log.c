/* SPDX-License-Identifier: MIT */
/* Log lines: one line each, cut when too long, the journal's prefix, levels. */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	int read_fd;
	int saved_fd;
	char text[4 * LOG_LINE_BYTES_MAX];
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	assert_non_null(f);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	f->read_fd = fds[0];
	f->saved_fd = dup(STDERR_FILENO);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	(void)close(fds[1]);
	assert_int_equal(setenv("JOURNAL_STREAM", "1:2", 1), 0);
	log_set_level(LOG_LEVEL_NOTICE);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	(void)dup2(f->saved_fd, STDERR_FILENO);
	(void)close(f->saved_fd);
	(void)close(f->read_fd);
	free(f);
	return 0;
}

static const char *
logged(struct fixture *f)
{
	ssize_t n = read(f->read_fd, f->text, sizeof(f->text) - 1);

	f->text[n > 0 ? n : 0] = '\0';
	return f->text;
}

static void
line__journal_prefix(void **state)
{
	log_error("disk %d is gone", 7);
	log_warn("w");
	log_notice("n");
	assert_string_equal(logged(*state), "<3>disk 7 is gone\n<4>w\n<5>n\n");
}

static void
line__timestamp_outside_the_journal(void **state)
{
	const char *line;

	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	log_notice("hello");
	line = logged(*state);
	assert_int_equal(line[4], '-');
	assert_int_equal(line[10], 'T');
	assert_non_null(strstr(line, "Z notice: hello\n"));
}

static void
level__drops_what_is_above(void **state)
{
	log_info("i");
	log_debug("d");
	assert_string_equal(logged(*state), "");
	log_set_level(LOG_LEVEL_DEBUG);
	log_info("i");
	log_debug("d");
	assert_string_equal(logged(*state), "<6>i\n<7>d\n");
}

static void
line__stays_one_line(void **state)
{
	log_notice("a\nb\r\x01\x1b[31mc");
	assert_string_equal(logged(*state), "<5>a?b???[31mc\n");
}

static void
line__too_long_is_cut(void **state)
{
	char text[2 * LOG_LINE_BYTES_MAX];
	const char *line;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_notice("%s", text);
	line = logged(*state);
	assert_true(strlen(line) <= LOG_LINE_BYTES_MAX);
	assert_string_equal(line + strlen(line) - 5, "x...\n");
	assert_int_equal(log_err_errno(EIO, "%s", text), -EIO);
	assert_true(strlen(logged(*state)) <= LOG_LINE_BYTES_MAX);
}

static void
errno__says_why_and_returns_it(void **state)
{
	assert_int_equal(log_err_errno(ENOSPC, "cannot write page %u", 3u), -ENOSPC);
	assert_string_equal(logged(*state), "<3>cannot write page 3: No space left on device\n");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(line__journal_prefix, setup, teardown),
		cmocka_unit_test_setup_teardown(line__timestamp_outside_the_journal, setup,
						teardown),
		cmocka_unit_test_setup_teardown(level__drops_what_is_above, setup, teardown),
		cmocka_unit_test_setup_teardown(line__stays_one_line, setup, teardown),
		cmocka_unit_test_setup_teardown(line__too_long_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(errno__says_why_and_returns_it, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
