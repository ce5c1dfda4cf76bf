/* SPDX-License-Identifier: MIT */
/*
 * The backup as src/backup would find it, without creating, sizing or keeping it.
 * A block device is what swap wants; a file is looked at as critically as it deserves.
 */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backup/lock_holder.h"
#include "common/page.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor_backup_io.h"
#include "programs/doctor_report.h"

#define WHAT "backup"
#define MIB_SHIFT 20

static void
check_file_kind(struct doctor *d, const char *path, bool exists)
{
	doctor_warning(
		d, WHAT,
		"%s %s a file: fine under a file system, but writes to it need memory of the "
		"pool that swapping out waits for, and the machine can hang",
		path, exists ? "is" : "does not exist and becomes");
	doctor_fix(d, "[backup] path = a partition, logical volume or disk (lsblk -f) in %s",
		   d->config_path);
}

/* What must be on disk must not be in the memory that is short. */
static void
check_folder(struct doctor *d, const char *folder)
{
	struct statfs fs;

	if (statfs(folder, &fs) < 0)
		return; /* said where the file is opened */
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) {
		doctor_failure(d, "backup's file system",
			       "%s is in memory: what is swapped out would stay there", folder);
		doctor_fix(d, "[backup] path on a disk in %s", d->config_path);
	} else {
		doctor_ok(d, "backup's file system", "%s is not in memory", folder);
	}
}

/* @missing_bytes: that the file has not got yet. */
static void
check_room(struct doctor *d, const char *folder, uint64_t missing_bytes)
{
	struct statvfs fs;
	uint64_t room;

	if (missing_bytes == 0 || statvfs(folder, &fs) < 0)
		return;
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room >= missing_bytes) {
		doctor_ok(d, "backup's space",
			  "%" PRIu64 " MiB are free, the file can grow by %" PRIu64 " MiB",
			  room >> MIB_SHIFT, missing_bytes >> MIB_SHIFT);
		return;
	}
	doctor_failure(d, "backup's space",
		       "%" PRIu64 " MiB are free, the file can grow by %" PRIu64
		       " MiB: pages would be left in remote memory alone",
		       room >> MIB_SHIFT, missing_bytes >> MIB_SHIFT);
	doctor_fix(d, "free some of %s, or a smaller [device] size in %s", folder, d->config_path);
}

/* An unnamed file in @folder stands for the one that is not there yet. */
static void
check_new_file(struct doctor *d, const char *folder)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0) {
		doctor_failure(d, "O_DIRECT", "does not work in %s: %s", folder, strerror(errno));
		doctor_fix(d, "[backup] path on ext4, xfs, or without a file system in %s",
			   d->config_path);
		return;
	}
	r = ftruncate(fd, PAGE_BYTES) < 0 ? -errno : 0;
	doctor_backup_check_direct(d, fd, r);
	(void)close(fd);
}

static void
check_missing(struct doctor *d, const char *path, int error)
{
	char copy[SERVER_PATH_BYTES];
	const char *folder;
	struct stat st;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	folder = dirname(copy);
	if (error != ENOENT && error != ENOTDIR) {
		doctor_failure(d, WHAT, "%s: %s", path, strerror(error));
		doctor_fix(d, "namei -l %s", path);
	} else if (strncmp(path, "/dev/", 5) == 0) {
		doctor_failure(d, WHAT, "%s: there is no such device", path);
		doctor_fix(d, "lsblk -f (and its name as [backup] path in %s)", d->config_path);
	} else if (stat(folder, &st) < 0 || !S_ISDIR(st.st_mode)) {
		doctor_failure(d, WHAT, "%s: there is no directory %s", path, folder);
		doctor_fix(d, "install -d -m 700 %s", folder);
	} else if (access(folder, W_OK | X_OK) < 0) {
		doctor_failure(d, WHAT, "%s: cannot be created: %s", path, strerror(errno));
		doctor_fix(d, "chown %u %s", (unsigned int)geteuid(), folder);
	} else {
		check_file_kind(d, path, false);
		check_folder(d, folder);
		check_room(d, folder, d->config->size_bytes);
		check_new_file(d, folder);
	}
}

static void
say_size(struct doctor *d, const char *path, uint64_t found_bytes)
{
	if (found_bytes >= d->config->size_bytes) {
		doctor_ok(d, "backup's size", "%" PRIu64 " MiB, the device has %" PRIu64 " MiB",
			  found_bytes >> MIB_SHIFT, d->config->size_bytes >> MIB_SHIFT);
		return;
	}
	doctor_failure(d, "backup's size",
		       "%s has %" PRIu64 " MiB, the device needs %" PRIu64 " MiB", path,
		       found_bytes >> MIB_SHIFT, d->config->size_bytes >> MIB_SHIFT);
	doctor_fix(d, "a smaller [device] size in %s, or a larger backup", d->config_path);
}

/* False: it is somebody's, or cannot be told; said. */
static bool
check_lock(struct doctor *d, int fd, const char *path)
{
	char holder[LOCK_HOLDER_BYTES], ours[32];

	if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
		(void)flock(fd, LOCK_UN);
		doctor_ok(d, "backup's lock", "free: no other server uses it");
		return true;
	}
	lock_holder_describe(fd, holder);
	(void)snprintf(ours, sizeof(ours), "(process %d)", (int)d->server_pid);
	if (d->server_pid > 0 && strstr(holder, ours)) {
		doctor_ok(d, "backup's lock", "the running server's");
		return false;
	}
	doctor_failure(d, "backup's lock", "%s is locked by %s", path, holder);
	doctor_fix(d, "fuser -v %s (another device needs another backup)", path);
	return false;
}

static void
check_file(struct doctor *d, int fd, const char *path, const struct stat *st)
{
	const uint64_t on_disk = (uint64_t)st->st_blocks * 512;
	char copy[SERVER_PATH_BYTES];
	const char *folder;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	folder = dirname(copy);
	check_file_kind(d, path, true);
	check_folder(d, folder);
	if (st->st_size > 0) /* an empty one is given its size at start */
		say_size(d, path, (uint64_t)st->st_size);
	check_room(d, folder,
		   on_disk < d->config->size_bytes ? d->config->size_bytes - on_disk : 0);
	if (check_lock(d, fd, path) && st->st_size >= (int64_t)PAGE_BYTES)
		doctor_backup_check_contents(d, fd, path);
	if (st->st_size >= (int64_t)PAGE_BYTES)
		doctor_backup_check_direct(d, fd, 0);
	else
		check_new_file(d, folder);
}

/* Where the block device @rdev is mounted; false: nowhere. */
static bool
find_mount(dev_t rdev, char *ret_where, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;
	bool is_found = false;
	struct stat st;

	if (!mounts)
		return false;
	while (!is_found && (m = getmntent(mounts)) != NULL) {
		is_found = m->mnt_fsname[0] == '/' && stat(m->mnt_fsname, &st) == 0 &&
			   S_ISBLK(st.st_mode) && st.st_rdev == rdev;
		if (is_found)
			(void)snprintf(ret_where, size, "%s", m->mnt_dir);
	}
	(void)endmntent(mounts);
	return is_found;
}

/* O_EXCL claims it for the moment: what is mounted, swapped to or part of a volume refuses. */
static bool
check_claim(struct doctor *d, const char *path, dev_t rdev)
{
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	char where[256];

	if (fd >= 0) {
		(void)close(fd);
		doctor_ok(d, WHAT, "%s is a block device that nobody uses", path);
		return true;
	}
	if (find_mount(rdev, where, sizeof(where))) {
		doctor_failure(d, WHAT, "%s is mounted at %s", path, where);
		doctor_fix(d, "umount %s, if what is on it can be overwritten", where);
	} else {
		doctor_failure(d, WHAT,
			       "%s cannot be claimed (%s): swapped to, part of a volume, "
			       "or open in another program",
			       path, strerror(errno));
		doctor_fix(d, "swapon --show; lsblk %s; fuser -v %s", path, path);
	}
	return false;
}

static void
check_device(struct doctor *d, int fd, const char *path, const struct stat *st)
{
	uint64_t found_bytes = 0;
	int block_bytes = 0;
	bool is_free;

	is_free = check_lock(d, fd, path) && check_claim(d, path, st->st_rdev);
	if (ioctl(fd, BLKGETSIZE64, &found_bytes) < 0 || ioctl(fd, BLKSSZGET, &block_bytes) < 0) {
		doctor_failure(d, "backup's size", "%s cannot be asked: %s", path, strerror(errno));
		doctor_fix(d, "lsblk -b %s", path);
		return;
	}
	say_size(d, path, found_bytes);
	if (block_bytes > (int)PAGE_BYTES) {
		doctor_failure(d, "backup's blocks",
			       "%s has logical blocks of %d bytes, at most "
			       "%u work",
			       path, block_bytes, PAGE_BYTES);
		doctor_fix(d, "another disk");
	}
	if (is_free)
		doctor_backup_check_contents(d, fd, path);
	doctor_backup_check_direct(d, fd, 0);
}

void
doctor_check_backup(struct doctor *d)
{
	const char *path = d->config->backup_path;
	struct stat st;
	int fd;

	if (!server_file_has_backup(d->config)) {
		doctor_warning(d, WHAT,
			       "none: pages are lost with the daemon that has them, and with this "
			       "server; a program whose pages they are is killed");
		doctor_fix(d,
			   "[backup] path = a partition, logical volume or disk (lsblk -f) in %s",
			   d->config_path);
		return;
	}
	if (stat(path, &st) < 0) {
		check_missing(d, path, errno);
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		doctor_failure(d, WHAT, "%s is neither a block device nor a file", path);
		doctor_fix(d, "lsblk -f (and a name of it as [backup] path in %s)", d->config_path);
		return;
	}
	/* For reading only: closing a disk that was open for writing makes udev look at it. */
	fd = access(path, W_OK) < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		doctor_failure(d, WHAT, "%s cannot be opened for writing: %s", path,
			       strerror(errno));
		doctor_fix(d, "run it as root, or: chown %u %s", (unsigned int)geteuid(), path);
		return;
	}
	if (S_ISBLK(st.st_mode))
		check_device(d, fd, path, &st);
	else
		check_file(d, fd, path, &st);
	(void)close(fd);
}
