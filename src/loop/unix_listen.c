/* SPDX-License-Identifier: MIT */
#include "loop/unix_listen.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int
unix_address(const char *path, struct sockaddr_un *ret_address)
{
	const size_t bytes = strlen(path);

	if (path[0] != '/' || bytes >= sizeof(ret_address->sun_path))
		return -EINVAL;
	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->sun_family = AF_UNIX;
	memcpy(ret_address->sun_path, path, bytes);
	return 0;
}

/* Whether @addr is a socket that nobody listens on any more; anything else is not ours to remove. */
static bool
is_stale(const struct sockaddr_un *addr, int type)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
		errno == ECONNREFUSED;
	(void)close(fd);
	return stale;
}

int
unix_listen(const char *path, int type, int backlog)
{
	struct sockaddr_un addr;
	mode_t mask;
	int fd, r;

	r = unix_address(path, &addr);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	if (r == -EADDRINUSE && is_stale(&addr, type) && unlink(path) == 0)
		r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	(void)umask(mask);
	if (r == 0 && listen(fd, backlog) < 0)
		r = -errno;
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	return fd;
}
