/* SPDX-License-Identifier: MIT */
#include "programs/doctor_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs/doctor_parse.h"

bool
doctor_read_line(const char *path, char *ret_text, size_t size)
{
	FILE *f = fopen(path, "re");
	bool is_read;

	if (!f)
		return false;
	is_read = fgets(ret_text, (int)size, f) != NULL;
	(void)fclose(f);
	if (is_read)
		ret_text[strcspn(ret_text, "\n")] = '\0';
	return is_read;
}

bool
doctor_read_u64(const char *path, uint64_t *ret)
{
	char text[64];

	return doctor_read_line(path, text, sizeof(text)) && sscanf(text, "%" SCNu64, ret) == 1;
}

bool
doctor_read_key(const char *path, const char *key, int base, uint64_t *ret)
{
	FILE *f = fopen(path, "re");
	bool is_found = false;
	char line[256];

	if (!f)
		return false;
	while (!is_found && fgets(line, sizeof(line), f))
		is_found = doctor_parse_key(line, key, base, ret);
	(void)fclose(f);
	return is_found;
}

void
doctor_read_comm(pid_t pid, char *ret_name, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (!doctor_read_line(path, ret_name, size))
		(void)snprintf(ret_name, size, "?");
}

uint64_t
doctor_read_available_bytes(void)
{
	uint64_t kib;

	return doctor_read_key("/proc/meminfo", "MemAvailable", 10, &kib) ? kib * 1024 : 0;
}

void
doctor_read_self_bytes(uint64_t *ret_mapped, uint64_t *ret_resident)
{
	uint64_t kib;

	*ret_mapped = doctor_read_key("/proc/self/status", "VmSize", 10, &kib) ? kib * 1024 : 0;
	*ret_resident = doctor_read_key("/proc/self/status", "VmRSS", 10, &kib) ? kib * 1024 : 0;
}

static bool
find_in(const char *folders, const char *name, char *ret_path, size_t size)
{
	while (*folders) {
		const size_t length = strcspn(folders, ":");
		const int n = snprintf(ret_path, size, "%.*s/%s", (int)length, folders, name);

		if (length > 0 && (size_t)n < size && access(ret_path, X_OK) == 0)
			return true;
		folders += length;
		folders += *folders == ':';
	}
	return false;
}

bool
doctor_find_program(const char *name, char *ret_path, size_t size)
{
	const char *path = getenv("PATH");

	return find_in(path ? path : "", name, ret_path, size) ||
	       find_in("/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", name, ret_path, size);
}

int
doctor_run_program(char *const argv[])
{
	char *const no_env[] = {NULL};
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	r = posix_spawn_file_actions_init(&actions);
	if (r != 0)
		return -r;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && r == 0; fd++)
		r = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	if (r == 0)
		r = posix_spawn(&pid, argv[0], &actions, NULL, argv, no_env);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return -r;
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}
