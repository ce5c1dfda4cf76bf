/* SPDX-License-Identifier: MIT */
/* The ring of log lines: order, a reader that does not read, the end, and abort(). */
#include "common/log_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"

#define TEXT_BYTES (1024u * 1024u)

struct fixture {
	int read_fd;
	int saved_fd;
	char *text;
	size_t text_bytes;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	assert_non_null(f);
	f->text = calloc(1, TEXT_BYTES);
	assert_non_null(f->text);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->read_fd = fds[0];
	f->saved_fd = dup(STDERR_FILENO);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	(void)close(fds[1]);
	assert_int_equal(setenv("JOURNAL_STREAM", "1:2", 1), 0);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	log_ring_stop();
	(void)dup2(f->saved_fd, STDERR_FILENO);
	(void)close(f->saved_fd);
	(void)close(f->read_fd);
	free(f->text);
	free(f);
	return 0;
}

/* Reads until the text has @what in it, or the other end is closed. */
static void
read_until(struct fixture *f, const char *what)
{
	while (!strstr(f->text, what)) {
		const ssize_t n =
			read(f->read_fd, f->text + f->text_bytes, TEXT_BYTES - 1 - f->text_bytes);

		if (n == 0)
			return;
		assert_true(n > 0);
		f->text_bytes += (size_t)n;
	}
}

static void
ring__keeps_the_order(void **state)
{
	struct fixture *f = *state;
	const char *at;
	char line[32];

	log_notice("before");
	assert_int_equal(log_ring_start(), 0);
	for (int i = 0; i < 1000; i++)
		log_notice("line %d.", i);
	log_ring_stop();
	log_notice("after");
	read_until(f, "<5>after\n");
	at = f->text;
	assert_int_equal(strncmp(at, "<5>before\n", 10), 0);
	at += 10;
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(line, sizeof(line), "<5>line %d.\n", i);
		assert_int_equal(strncmp(at, line, strlen(line)), 0);
		at += strlen(line);
	}
	assert_string_equal(at, "<5>after\n");
}

/* Far more than the pipe and the ring hold: nobody waits, and nothing goes missing without a word. */
static void
ring__drops_and_counts(void **state)
{
	struct fixture *f = *state;
	unsigned long long dropped;
	unsigned int seen = 0;
	const char *at;

	assert_int_equal(log_ring_start(), 0);
	for (int i = 0; i < 3000; i++)
		log_notice("%0200d", i);
	read_until(f, "log lines were dropped");
	at = strstr(f->text, "<4>");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "<4>%llu log lines", &dropped), 1);
	for (const char *p = f->text; p < at; p = strchr(p, '\n') + 1)
		seen++;
	assert_int_equal(seen + dropped, 3000);
	assert_true(seen > 500);

	log_notice("again");
	read_until(f, "<5>again\n");
}

/* The end does not wait for a reader that never comes. */
static void
ring__stop_is_bounded(void **state)
{
	const pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		if (log_ring_start() < 0)
			_exit(1);
		for (int i = 0; i < 3000; i++)
			log_notice("%0200d", i);
		log_ring_stop();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void *
log_other(void *arg)
{
	(void)arg;
	log_notice("of another thread");
	return NULL;
}

static void
ring__other_threads_write_themselves(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	assert_int_equal(log_ring_start(), 0);
	assert_int_equal(pthread_create(&thread, NULL, log_other, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	read_until(f, "<5>of another thread\n");
}

static void
ring__abort_loses_nothing(void **state)
{
	struct fixture *f = *state;
	const struct rlimit no_core = {0, 0};
	const pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		if (log_ring_start() < 0)
			_exit(1);
		for (int i = 0; i < 500; i++)
			log_notice("line %d.", i);
		log_error("last words");
		abort();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	read_until(f, "<3>last words\n");
	assert_non_null(strstr(f->text, "<5>line 499.\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ring__keeps_the_order, setup, teardown),
		cmocka_unit_test_setup_teardown(ring__drops_and_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(ring__other_threads_write_themselves, setup,
						teardown),
		cmocka_unit_test_setup_teardown(ring__abort_loses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(ring__stop_is_bounded, setup, teardown),
	};

	return cmocka_run_group_tests_name("log_ring", tests, NULL, NULL);
}
