/* SPDX-License-Identifier: MIT */
/* What systemd is told, and what it hands over: without a service manager nothing happens. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/notify.h"

/* What systemd would have received; "" when nothing came. */
struct manager {
	int fd;
	char text[256];
};

/* @name: of the socket, with @ for the abstract name space. */
static void
manager_start(struct manager *m, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(m->fd >= 0);
	assert_int_equal(bind(m->fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static const char *
manager_heard(struct manager *m)
{
	const ssize_t n = recv(m->fd, m->text, sizeof(m->text) - 1, MSG_DONTWAIT);

	m->text[n > 0 ? n : 0] = '\0';
	return m->text;
}

static void
manager_stop(struct manager *m)
{
	(void)close(m->fd);
	(void)unsetenv("NOTIFY_SOCKET");
}

static void
talk(struct manager *m)
{
	notify_ready("all is well");
	assert_string_equal(manager_heard(m), "READY=1\nSTATUS=all is well");
	notify_status("busy");
	assert_string_equal(manager_heard(m), "STATUS=busy");
	notify_stopping();
	assert_string_equal(manager_heard(m), "STOPPING=1");
}

static void
test_socket_in_the_file_system(void **state)
{
	char dir[] = "/tmp/test_notify.XXXXXX";
	char path[64];
	struct manager m;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/notify", dir);
	manager_start(&m, path);
	talk(&m);
	manager_stop(&m);
	(void)unlink(path);
	(void)rmdir(dir);
}

static void
test_abstract_socket(void **state)
{
	char name[64];
	struct manager m;

	(void)state;
	(void)snprintf(name, sizeof(name), "@test_notify.%d", (int)getpid());
	manager_start(&m, name);
	talk(&m);
	manager_stop(&m);
}

static void
test_no_manager_is_no_failure(void **state)
{
	static const char *const names[] = {"", "/", "relative", "/nowhere/at/all"};

	(void)state;
	(void)unsetenv("NOTIFY_SOCKET");
	notify_ready("nobody hears it");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
		notify_stopping();
	}
	(void)unsetenv("NOTIFY_SOCKET");
}

static void
test_endless_status_is_cut(void **state)
{
	char name[64], status[4000];
	struct manager m;

	(void)state;
	memset(status, 'x', sizeof(status) - 1);
	status[sizeof(status) - 1] = '\0';
	(void)snprintf(name, sizeof(name), "@test_notify.%d.long", (int)getpid());
	manager_start(&m, name);
	notify_status(status);
	assert_memory_equal(manager_heard(&m), "STATUS=xxx", 10);
	manager_stop(&m);
}

static int
listen_fds(const char *pid, const char *count)
{
	int first_fd = -1, n;

	if (pid)
		assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
	if (count)
		assert_int_equal(setenv("LISTEN_FDS", count, 1), 0);
	n = notify_listen_fds(&first_fd);
	assert_int_equal(first_fd, 3);
	/* A child must not take them for its own. */
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	return n;
}

static void
test_sockets_that_are_handed_over(void **state)
{
	char pid[16];
	int kept, flags;

	(void)state;
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	/* Whatever has the number now is put aside. */
	kept = fcntl(3, F_DUPFD_CLOEXEC, 10);
	assert_int_equal(dup2(STDERR_FILENO, 3), 3);
	assert_int_equal(listen_fds(pid, "1"), 1);
	flags = fcntl(3, F_GETFD);
	assert_int_equal(flags, FD_CLOEXEC);
	if (kept >= 0)
		assert_int_equal(dup2(kept, 3), 3);
	else
		(void)close(3);
}

static void
test_sockets_of_somebody_else(void **state)
{
	char pid[16];

	(void)state;
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(listen_fds(NULL, NULL), 0);
	assert_int_equal(listen_fds("1", "1"), 0);
	assert_int_equal(listen_fds(pid, NULL), 0);
	assert_int_equal(listen_fds(NULL, "1"), 0);
	assert_int_equal(listen_fds(pid, "one"), 0);
	assert_int_equal(listen_fds(pid, "-1"), 0);
	assert_int_equal(listen_fds(pid, "100000"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_socket_in_the_file_system),
		cmocka_unit_test(test_abstract_socket),
		cmocka_unit_test(test_no_manager_is_no_failure),
		cmocka_unit_test(test_endless_status_is_cut),
		cmocka_unit_test(test_sockets_that_are_handed_over),
		cmocka_unit_test(test_sockets_of_somebody_else),
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
