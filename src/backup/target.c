/* SPDX-License-Identifier: MIT */
/*
 * What stands under the backup: a raw block device (what swap wants) or a file.
 * Everything that can be wrong with a path is said here, at start, in one line.
 */
#include "backup/target.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "backup/lock_holder.h"
#include "common/log.h"
#include "common/page.h"

#define FILE_MODE 0600

/* A misspelt device name must not become a file in the memory that holds /dev. */
static bool
is_in_dev(const char *dir)
{
	struct stat dir_st, dev_st, root_st;

	return stat(dir, &dir_st) == 0 && stat("/dev", &dev_st) == 0 && stat("/", &root_st) == 0 &&
	       dir_st.st_dev == dev_st.st_dev && dev_st.st_dev != root_st.st_dev;
}

/* The name of a new file must survive a power cut as its contents do. */
static int
sync_dir(const char *path, const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = log_err_errno(errno, "backup[%s]: cannot sync its directory", path);
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static int
create_in_dir(struct backup_target *t, const char *dir)
{
	int r;

	if (is_in_dev(dir)) {
		log_error("backup[%s]: no such device, and a file in /dev would be in memory",
			  t->path);
		return -ENODEV;
	}
	t->fd = open(t->path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, FILE_MODE);
	if (t->fd < 0)
		return log_err_errno(errno, "backup[%s]: cannot create", t->path);
	r = sync_dir(t->path, dir);
	if (r < 0) {
		(void)unlink(t->path);
		(void)close(t->fd);
		t->fd = -1;
	}
	return r;
}

static int
create_file(struct backup_target *t)
{
	char *copy = strdup(t->path);
	int r;

	if (!copy)
		return log_err_errno(ENOMEM, "backup[%s]: cannot create", t->path);
	r = create_in_dir(t, dirname(copy));
	free(copy);
	return r;
}

/* Sets t->fd and t->is_block_device. */
static int
open_existing(struct backup_target *t, mode_t mode)
{
	struct stat st;

	if (S_ISDIR(mode))
		return log_err_errno(EISDIR, "backup[%s]: cannot open", t->path);
	if (!S_ISBLK(mode) && !S_ISREG(mode)) {
		log_error("backup[%s]: is neither a block device nor a file", t->path);
		return -ENOTBLK;
	}
	t->is_block_device = S_ISBLK(mode);
	/* O_EXCL without O_CREAT claims a block device: mounts and other claims fail. */
	t->fd = open(t->path, O_RDWR | O_CLOEXEC | (t->is_block_device ? O_EXCL : 0));
	if (t->fd < 0 && errno == EBUSY) {
		log_error("backup[%s]: is mounted, used for swap or open in another program",
			  t->path);
		return -EBUSY;
	}
	if (t->fd < 0)
		return log_err_errno(errno, "backup[%s]: cannot open for writing", t->path);
	if (fstat(t->fd, &st) < 0 || (st.st_mode & S_IFMT) != (mode & S_IFMT)) {
		log_error("backup[%s]: was replaced while it was opened", t->path);
		return -EAGAIN;
	}
	return 0;
}

static int
lock_target(struct backup_target *t)
{
	char holder[LOCK_HOLDER_BYTES];

	if (flock(t->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return log_err_errno(errno, "backup[%s]: cannot lock", t->path);
	lock_holder_describe(t->fd, holder);
	log_error("backup[%s]: is locked by %s", t->path, holder);
	return -EBUSY;
}

static int
refuse_size(const struct backup_target *t, uint64_t found_bytes)
{
	log_error("backup[%s]: has %llu bytes, the device needs %llu", t->path,
		  (unsigned long long)found_bytes, (unsigned long long)t->size_bytes);
	return -EFBIG;
}

static int
size_file(struct backup_target *t)
{
	struct stat st;

	if (fstat(t->fd, &st) < 0)
		return log_err_errno(errno, "backup[%s]: cannot stat", t->path);
	if ((uint64_t)st.st_size >= t->size_bytes)
		return 0;
	if (st.st_size > 0)
		return refuse_size(t, (uint64_t)st.st_size);
	if (ftruncate(t->fd, (int64_t)t->size_bytes) < 0 || fsync(t->fd) < 0)
		return log_err_errno(errno, "backup[%s]: cannot make it %llu bytes", t->path,
				     (unsigned long long)t->size_bytes);
	return 0;
}

static int
check_device(const struct backup_target *t)
{
	uint64_t found_bytes;
	int block_bytes;

	if (ioctl(t->fd, BLKGETSIZE64, &found_bytes) < 0 ||
	    ioctl(t->fd, BLKSSZGET, &block_bytes) < 0)
		return log_err_errno(errno, "backup[%s]: cannot ask for its size", t->path);
	if (found_bytes < t->size_bytes)
		return refuse_size(t, found_bytes);
	if (block_bytes > (int)PAGE_BYTES) {
		log_error("backup[%s]: has logical blocks of %d bytes, at most %u work", t->path,
			  block_bytes, PAGE_BYTES);
		return -EMEDIUMTYPE;
	}
	return 0;
}

static void
fall_back(struct backup_target *t, int err)
{
	int flags = fcntl(t->fd, F_GETFL);

	(void)fcntl(t->fd, F_SETFL, flags & ~O_DIRECT);
	t->is_direct = false;
	log_warn("backup[%s]: O_DIRECT does not work here (%s): using the page cache", t->path,
		 strerror(err));
}

/* Some file systems take the flag and refuse the I/O, so this reads a page. */
static int
make_direct(struct backup_target *t)
{
	int flags = fcntl(t->fd, F_GETFL);
	void *page;
	ssize_t n;
	int err;

	if (flags < 0 || fcntl(t->fd, F_SETFL, flags | O_DIRECT) < 0) {
		fall_back(t, errno);
		return 0;
	}
	if (posix_memalign(&page, PAGE_BYTES, PAGE_BYTES) != 0)
		return log_err_errno(ENOMEM, "backup[%s]: cannot open", t->path);
	n = pread(t->fd, page, PAGE_BYTES, 0);
	err = n < 0 ? errno : EIO;
	free(page);
	t->is_direct = true;
	if (n == (ssize_t)PAGE_BYTES)
		return 0;
	if (err != EINVAL && err != EOPNOTSUPP)
		return log_err_errno(err, "backup[%s]: cannot read", t->path);
	fall_back(t, err);
	return 0;
}

/* Whether @limit of the device's queue is above 0; true when nobody knows. */
static bool
device_can(const struct backup_target *t, const char *limit)
{
	static const char *const shapes[] = {
		"/sys/dev/block/%u:%u/queue/%s",
		"/sys/dev/block/%u:%u/../queue/%s", /* a partition has its disk's */
	};
	unsigned long long value;
	struct stat st;
	char path[128];
	FILE *f;
	int n;

	if (fstat(t->fd, &st) < 0)
		return true;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(path, sizeof(path), shapes[i], major(st.st_rdev), minor(st.st_rdev),
			       limit);
#pragma GCC diagnostic pop
		f = fopen(path, "re");
		if (!f)
			continue;
		n = fscanf(f, "%llu", &value);
		(void)fclose(f);
		if (n == 1)
			return value > 0;
	}
	return true;
}

static void
find_abilities(struct backup_target *t)
{
	struct stat st;

	if (t->is_block_device) {
		t->can_discard = device_can(t, "discard_max_bytes");
		t->can_zero = device_can(t, "write_zeroes_max_bytes");
		return;
	}
	/* A hole after the end changes nothing, and tells. */
	t->can_zero =
		fstat(t->fd, &st) == 0 &&
		(fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			   st.st_size - st.st_size % PAGE_BYTES + PAGE_BYTES, PAGE_BYTES) == 0 ||
		 errno != EOPNOTSUPP);
	t->can_discard = t->can_zero;
	if (!t->can_zero)
		log_warn("backup[%s]: its file system cannot punch holes: trimmed space stays used",
			 t->path);
}

int
target_open(const char *path, uint64_t size_bytes, struct backup_target *ret_target)
{
	struct backup_target t = {.fd = -1, .size_bytes = size_bytes};
	bool created = false;
	struct stat st;
	int r;

	t.path = strdup(path);
	if (!t.path)
		return log_err_errno(ENOMEM, "backup[%s]: cannot open", path);
	if (stat(path, &st) == 0) {
		r = open_existing(&t, st.st_mode);
	} else if (errno == ENOENT) {
		r = create_file(&t);
		created = r == 0;
	} else {
		r = log_err_errno(errno, "backup[%s]: cannot open", path);
	}
	if (r == 0)
		r = lock_target(&t);
	if (r == 0)
		r = t.is_block_device ? check_device(&t) : size_file(&t);
	if (r == 0)
		r = make_direct(&t);
	if (r < 0)
		goto err_close;
	find_abilities(&t);
	*ret_target = t;
	return 0;

err_close:
	if (created)
		(void)unlink(path);
	target_close(&t);
	return r;
}

void
target_close(struct backup_target *t)
{
	if (t->fd >= 0)
		(void)close(t->fd);
	t->fd = -1;
	free(t->path);
	t->path = NULL;
}

bool
target_next_data(const struct backup_target *t, uint64_t offset_bytes, uint64_t *ret_start_bytes,
		 uint64_t *ret_end_bytes)
{
	int64_t start = (int64_t)offset_bytes;
	int64_t end = (int64_t)t->size_bytes;

	if (start >= end)
		return false;
	if (!t->is_block_device) {
		start = lseek(t->fd, start, SEEK_DATA);
		if (start < 0 && errno == ENXIO)
			return false;
		/* What cannot be asked counts as data. */
		if (start < 0)
			start = (int64_t)offset_bytes;
		else
			end = lseek(t->fd, start, SEEK_HOLE);
		if (end < 0 || end > (int64_t)t->size_bytes)
			end = (int64_t)t->size_bytes;
		if (start >= end)
			return false;
	}
	*ret_start_bytes = (uint64_t)start & ~(uint64_t)(PAGE_BYTES - 1);
	*ret_end_bytes = ((uint64_t)end + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	return true;
}
