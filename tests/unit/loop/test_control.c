/* SPDX-License-Identifier: MIT */
/* The control socket: answers, refusals, limits, what may stand at its path. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "loop/control.h"

#define TURNS_MAX 10000

struct world {
	struct ev_loop *loop;
	struct control *control;
	char dir[64];
	char path[108];
	size_t document_bytes;
	bool is_too_large;
};

static size_t
status_cb(void *arg, char *buf, size_t size)
{
	struct world *w = arg;

	assert_int_equal(size, CONTROL_REPLY_BYTES);
	memset(buf, 'x', w->document_bytes);
	return w->is_too_large ? 0 : w->document_bytes;
}

static int
set_up(void **state)
{
	static struct world w;

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO), .document_bytes = 3};
	(void)snprintf(w.dir, sizeof(w.dir), "/tmp/test_control.XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	(void)snprintf(w.path, sizeof(w.path), "%s/ctl", w.dir);
	assert_int_equal(control_new(w.loop, w.path, status_cb, &w, &w.control), 0);
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	w->control = control_free(w->control);
	assert_int_equal(access(w->path, F_OK), -1);
	assert_int_equal(rmdir(w->dir), 0);
	ev_loop_destroy(w->loop);
	return 0;
}

static int
dial(struct world *w)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, w->path, sizeof(addr.sun_path));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Runs the loop until the other side closes; how many bytes came. */
static size_t
answer(struct world *w, int fd, char *buf, size_t size)
{
	size_t got = 0;

	for (int turn = 0; turn < TURNS_MAX; turn++) {
		ssize_t n = recv(fd, buf + got, size - got, 0);

		if (n == 0 || (n < 0 && errno == ECONNRESET)) {
			(void)close(fd);
			return got;
		}
		if (n > 0)
			got += (size_t)n;
		else
			(void)ev_run(w->loop, EVRUN_NOWAIT);
	}
	fail_msg("no end after %d turns", TURNS_MAX);
	return 0;
}

static void
status__is_answered(void **state)
{
	struct world *w = *state;
	char buf[64];
	int fd = dial(w);

	/* In two pieces, with a turn between them. */
	say(fd, "sta");
	(void)ev_run(w->loop, EVRUN_NOWAIT);
	say(fd, "tus\n");
	assert_int_equal(answer(w, fd, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "xxx", 3);
}

static void
status__long_document_to_a_slow_reader(void **state)
{
	struct world *w = *state;
	char *buf = malloc(CONTROL_REPLY_BYTES + 1);
	int small = 1, fd = dial(w);

	assert_non_null(buf);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	w->document_bytes = CONTROL_REPLY_BYTES;
	say(fd, "status\n");
	for (int i = 0; i < 100; i++)
		(void)ev_run(w->loop, EVRUN_NOWAIT);
	assert_int_equal(answer(w, fd, buf, CONTROL_REPLY_BYTES + 1), CONTROL_REPLY_BYTES);
	free(buf);
}

static size_t
other_cb(void *arg, char *buf, size_t size)
{
	struct world *w = arg;

	assert_int_equal(size, CONTROL_REPLY_BYTES);
	memset(buf, 'y', w->document_bytes + 1);
	return w->document_bytes + 1;
}

static void
command__another(void **state)
{
	struct world *w = *state;
	char buf[64];
	int fd = dial(w);

	control_add(w->control, "other", other_cb);
	say(fd, "other\n");
	assert_int_equal(answer(w, fd, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "yyyy", 4);
	fd = dial(w);
	say(fd, "status\n");
	assert_int_equal(answer(w, fd, buf, sizeof(buf)), 3);
}

static void
assert_error_answer(struct world *w, const char *line)
{
	char buf[256] = "";
	int fd = dial(w);

	say(fd, line);
	assert_true(answer(w, fd, buf, sizeof(buf) - 1) > 0);
	assert_memory_equal(buf, "{\"error\"", 8);
}

static void
command__unknown_or_too_long(void **state)
{
	struct world *w = *state;
	char line[CONTROL_LINE_BYTES + 1];

	assert_error_answer(w, "reboot\n");
	assert_error_answer(w, "\n");
	assert_error_answer(w, "status \n");
	memset(line, 'a', CONTROL_LINE_BYTES);
	line[CONTROL_LINE_BYTES] = '\0';
	assert_error_answer(w, line);
	w->is_too_large = true;
	assert_error_answer(w, "status\n");
}

static void
client__goes_away_early(void **state)
{
	struct world *w = *state;
	char buf[64];
	int fd;

	for (unsigned i = 0; i < 3 * CONTROL_CLIENTS_MAX; i++) {
		fd = dial(w);
		if (i % 2)
			say(fd, "status\n");
		(void)close(fd);
		(void)ev_run(w->loop, EVRUN_NOWAIT);
	}
	fd = dial(w);
	say(fd, "status\n");
	assert_int_equal(answer(w, fd, buf, sizeof(buf)), 3);
}

static void
client__more_than_places(void **state)
{
	struct world *w = *state;
	int silent[CONTROL_CLIENTS_MAX];
	char buf[64];
	int fd;

	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		silent[i] = dial(w);
	fd = dial(w);
	say(fd, "status\n");
	for (int i = 0; i < 100; i++)
		(void)ev_run(w->loop, EVRUN_NOWAIT);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), -1);
	assert_int_equal(errno, EAGAIN);
	/* One place becomes free: the one that waits is next. */
	(void)close(silent[0]);
	assert_int_equal(answer(w, fd, buf, sizeof(buf)), 3);
	for (unsigned i = 1; i < CONTROL_CLIENTS_MAX; i++)
		(void)close(silent[i]);
}

static void
path__mode_and_neighbours(void **state)
{
	struct world *w = *state;
	struct control *other = NULL;
	struct stat st;
	char path[200];
	int fd;

	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* Somebody listens. */
	assert_int_equal(control_new(w->loop, w->path, status_cb, w, &other), -EADDRINUSE);
	/* A socket that somebody left behind. */
	(void)snprintf(path, sizeof(path), "%s/stale", w->dir);
	{
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", path);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
		(void)close(fd);
	}
	assert_int_equal(control_new(w->loop, path, status_cb, w, &other), 0);
	other = control_free(other);
	assert_null(other);
	/* A file that is no socket stays. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	(void)close(fd);
	assert_int_equal(control_new(w->loop, path, status_cb, w, &other), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	/* No such directory, too long. */
	(void)snprintf(path, sizeof(path), "%s/none/ctl", w->dir);
	assert_int_equal(control_new(w->loop, path, status_cb, w, &other), -ENOENT);
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_new(w->loop, path, status_cb, w, &other), -EINVAL);
	assert_null(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(status__is_answered),	 TEST(status__long_document_to_a_slow_reader),
		TEST(command__another),		 TEST(command__unknown_or_too_long),
		TEST(client__goes_away_early),	 TEST(client__more_than_places),
		TEST(path__mode_and_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
