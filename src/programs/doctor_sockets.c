/* SPDX-License-Identifier: MIT */
/*
 * The sockets that the server would make: whoever can write to their folder can put
 * another in their place, and whoever holds one keeps the server from starting.
 */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbd_server/server_config_file.h"
#include "programs/doctor_parse.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"

/* Who listens at @path: 0 and *@ret_pid, -ECONNREFUSED (nobody any more), -ENOENT, ... */
static int
find_listener(const char *path, pid_t *ret_pid)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	int fd, r = 0;

	(void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* EAGAIN: its queue is full, so somebody listens. */
	if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 && errno != EAGAIN)
		r = -errno;
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		peer.pid = 0;
	(void)close(fd);
	if (r == 0)
		*ret_pid = peer.pid;
	return r;
}

void
doctor_check_server(struct doctor *d)
{
	char name[32];
	pid_t pid = 0;

	if (find_listener(d->config->control, &pid) < 0 || pid <= 0) {
		doctor_ok(d, "server", "not running");
		return;
	}
	doctor_read_comm(pid, name, sizeof(name));
	if (strcmp(name, "slabswap-nbd") != 0)
		return; /* the check of the socket says it */
	d->server_pid = pid;
	doctor_ok(d, "server", "running, process %d: its limits are checked", (int)pid);
}

static bool
check_folder(struct doctor *d, const char *what, const char *path)
{
	char copy[SERVER_PATH_BYTES];
	const char *folder;
	struct stat st;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	folder = dirname(copy);
	if (stat(folder, &st) < 0 || !S_ISDIR(st.st_mode)) {
		doctor_failure(d, what, "%s: there is no directory %s", path, folder);
		doctor_fix(d, "install -d -m 700 %s", folder);
		return false;
	}
	if (access(folder, W_OK | X_OK) < 0) {
		doctor_failure(d, what, "%s: cannot be made: %s: %s", path, folder,
			       strerror(errno));
		doctor_fix(d, "chown %u %s", (unsigned int)geteuid(), folder);
		return false;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		doctor_failure(d, what, "%s: uid %u owns %s and can put another socket there", path,
			       (unsigned int)st.st_uid, folder);
		doctor_fix(d, "chown %u %s", (unsigned int)geteuid(), folder);
		return false;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH) && !(st.st_mode & S_ISVTX)) {
		doctor_failure(d, what,
			       "%s: others can write to %s (mode %04o) and put another "
			       "socket there",
			       path, folder, (unsigned int)st.st_mode & 07777u);
		doctor_fix(d, "chmod 700 %s", folder);
		return false;
	}
	if (st.st_mode & (S_IRWXG | S_IRWXO)) {
		doctor_warning(d, what, "%s: %s is open to group or others (mode %04o)", path,
			       folder, (unsigned int)st.st_mode & 07777u);
		doctor_fix(d, "chmod 700 %s", folder);
		return false;
	}
	return true;
}

static void
check_path(struct doctor *d, const char *what, const char *path)
{
	char name[32];
	struct stat st;
	pid_t pid = 0;
	int r;

	if (lstat(path, &st) < 0) {
		if (check_folder(d, what, path))
			doctor_ok(d, what, "%s can be made", path);
		return;
	}
	r = S_ISSOCK(st.st_mode) ? find_listener(path, &pid) : -ENOTSOCK;
	if (r == -ECONNREFUSED) {
		if (check_folder(d, what, path))
			doctor_ok(d, what, "%s is left from a server that is gone, and is replaced",
				  path);
	} else if (r < 0) {
		doctor_failure(d, what, "%s is in the way: %s", path, strerror(-r));
		doctor_fix(d, "rm %s", path);
	} else if (d->server_pid > 0 && (pid == d->server_pid || pid == 1)) {
		/* 1: systemd made it, and gave it to the server. */
		if (check_folder(d, what, path))
			doctor_ok(d, what, "%s is the running server's", path);
	} else {
		doctor_read_comm(pid, name, sizeof(name));
		doctor_failure(d, what, "%s is in use by %s (process %d)", path, name, (int)pid);
		doctor_fix(d, "another path in %s, or: kill %d", d->config_path, (int)pid);
	}
}

void
doctor_check_sockets(struct doctor *d)
{
	const struct ini_list *listen = &d->config->listen;

	for (uint32_t i = 0; i < listen->count; i++) {
		const char *address = listen->item[i];

		if (strncmp(address, "unix:", strlen("unix:")) == 0) {
			check_path(d, "listen socket", address + strlen("unix:"));
			continue;
		}
		doctor_warning(d, "listen socket",
			       "%s: whoever reaches it reads and writes the device, and swapping "
			       "over TCP of this host can hang",
			       address);
		doctor_fix(d, "[nbd] listen = unix:/run/slabswap/%s.sock in %s", d->config->name,
			   d->config_path);
	}
	check_path(d, "control socket", d->config->control);
}
