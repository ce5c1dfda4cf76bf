/* SPDX-License-Identifier: MIT */
/* flock(2) has no F_GETLK: /proc/locks is where its owners are listed. */
#include "backup/lock_holder.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool
find_holder(FILE *locks, const struct stat *st, int *ret_pid)
{
	unsigned int dev_major, dev_minor;
	unsigned long inode;
	char line[256];
	int pid;

	/* "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; "->" marks one that waits */
	while (fgets(line, sizeof(line), locks)) {
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &dev_major, &dev_minor,
			   &inode) != 4)
			continue;
		if (inode == st->st_ino && dev_major == major(st->st_dev) &&
		    dev_minor == minor(st->st_dev)) {
			*ret_pid = pid;
			return true;
		}
	}
	return false;
}

static void
read_name(int pid, char *name, int name_bytes)
{
	char path[64];
	FILE *f;

	name[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(name, name_bytes, f))
		name[strcspn(name, "\n")] = '\0';
	(void)fclose(f);
}

void
lock_holder_describe(int fd, char ret_text[LOCK_HOLDER_BYTES])
{
	FILE *locks = fopen("/proc/locks", "re");
	struct stat st;
	char name[32];
	int pid = 0;

	(void)snprintf(ret_text, LOCK_HOLDER_BYTES, "another process");
	if (!locks)
		return;
	if (fstat(fd, &st) == 0 && find_holder(locks, &st, &pid)) {
		read_name(pid, name, sizeof(name));
		(void)snprintf(ret_text, LOCK_HOLDER_BYTES, "%s (process %d)",
			       name[0] ? name : "another", pid);
	}
	(void)fclose(locks);
}
