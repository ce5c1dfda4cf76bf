/* SPDX-License-Identifier: MIT */
/*
 * The protocol is a datagram and two variables, and is promised to stay as it is
 * (sd_notify(3), sd_listen_fds(3)).  libsystemd brings 3.5 MiB of libraries with it that a server whose memory is
 * locked would hold for three lines at start.
 */
#include "loop/notify.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/alloc_scope.h"
#include "common/size.h"

#define LISTEN_FDS_START 3
#define LISTEN_FDS_MAX 64u
#define MESSAGE_BYTES 1200u

/* False without a service manager that listens. */
static bool
manager_address(struct sockaddr_un *ret_address, socklen_t *ret_bytes)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const size_t length = path ? strlen(path) : 0;

	if (length < 2 || length >= sizeof(ret_address->sun_path) ||
	    (path[0] != '/' && path[0] != '@'))
		return false;
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret_address->sun_path, path, length);
	/* The abstract name space. */
	if (path[0] == '@')
		ret_address->sun_path[0] = '\0';
	*ret_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	return true;
}

static void
tell(const char *text)
{
	struct sockaddr_un address;
	socklen_t address_bytes;
	int fd;

	if (!manager_address(&address, &address_bytes))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&address,
		     address_bytes);
	(void)close(fd);
}

void
notify_ready(const char *status)
{
	char text[MESSAGE_BYTES];

	(void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
	tell(text);
	alloc_serving(true);
}

void
notify_status(const char *status)
{
	char text[MESSAGE_BYTES];

	(void)snprintf(text, sizeof(text), "STATUS=%s", status);
	tell(text);
}

void
notify_stopping(void)
{
	alloc_serving(false);
	tell("STOPPING=1");
}

int
notify_listen_fds(int *ret_first_fd)
{
	const char *pid_text = getenv("LISTEN_PID");
	const char *count_text = getenv("LISTEN_FDS");
	uint64_t pid, count;
	int n = 0;

	*ret_first_fd = LISTEN_FDS_START;
	if (pid_text && count_text && number_parse(pid_text, &pid) == 0 &&
	    number_parse(count_text, &count) == 0 && pid == (uint64_t)getpid() &&
	    count <= LISTEN_FDS_MAX)
		n = (int)count;
	for (int i = 0; i < n; i++)
		(void)fcntl(LISTEN_FDS_START + i, F_SETFD, FD_CLOEXEC);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return n;
}
