/* SPDX-License-Identifier: MIT */
/* Real files, real mounts, real loop devices: what is tested is what the kernel does with them. */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

void
fixture_dir(char ret_path[FIXTURE_PATH_BYTES])
{
	const char *base = getenv("TMPDIR");

	(void)snprintf(ret_path, FIXTURE_PATH_BYTES, "%s/backup-test.XXXXXX", base ? base : ".");
	assert_non_null(mkdtemp(ret_path));
}

void
fixture_join(char ret_path[FIXTURE_PATH_BYTES], const char *dir, const char *name)
{
	assert_in_range(snprintf(ret_path, FIXTURE_PATH_BYTES, "%s/%s", dir, name), 1,
			FIXTURE_PATH_BYTES - 1);
}

void
fixture_dir_remove(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)))
		(void)unlinkat(dirfd(d), e->d_name, 0);
	(void)closedir(d);
	assert_int_equal(rmdir(path), 0);
}

void
fixture_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (int64_t)bytes), 0);
	assert_int_equal(close(fd), 0);
}

void *
fixture_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

void
fixture_memory_free(void *p, size_t bytes)
{
	assert_int_equal(munmap(p, bytes), 0);
}

void
fixture_in_child(void (*fn)(void *arg), void *arg)
{
	pid_t pid;
	int status;

	if (!fixture_is_root())
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

bool
fixture_is_root(void)
{
	return geteuid() == 0;
}

void
fixture_mount(const char *type, const char *dir, const char *options)
{
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount(type, dir, type, 0, options), 0);
}

int
fixture_loop_device(const char *file, char ret_path[FIXTURE_PATH_BYTES])
{
	struct loop_config config = {.info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = -1;

	assert_true(control >= 0);
	config.fd = (uint32_t)open(file, O_RDWR | O_CLOEXEC);
	assert_true((int)config.fd >= 0);
	/* Somebody else may take the free one first. */
	for (int tries = 0; tries < 100; tries++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(n >= 0);
		(void)snprintf(ret_path, FIXTURE_PATH_BYTES, "/dev/loop%d", n);
		fd = open(ret_path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		assert_int_equal(errno, EBUSY);
		(void)close(fd);
		fd = -1;
	}
	assert_true(fd >= 0);
	(void)close((int)config.fd);
	(void)close(control);
	return fd;
}

static struct {
	int saved_fd;
	int file_fd;
	char text[8192];
} captured = {.saved_fd = -1};

void
fixture_log_begin(void)
{
	assert_int_equal(captured.saved_fd, -1);
	captured.saved_fd = dup(STDERR_FILENO);
	captured.file_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(captured.saved_fd >= 0 && captured.file_fd >= 0);
	assert_int_equal(dup2(captured.file_fd, STDERR_FILENO), STDERR_FILENO);
}

const char *
fixture_log_end(void)
{
	ssize_t n = pread(captured.file_fd, captured.text, sizeof(captured.text) - 1, 0);

	captured.text[n > 0 ? n : 0] = '\0';
	(void)dup2(captured.saved_fd, STDERR_FILENO);
	(void)close(captured.saved_fd);
	(void)close(captured.file_fd);
	captured.saved_fd = -1;
	print_message("%s", captured.text);
	return captured.text;
}

static void
late_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	*(bool *)w->data = true;
}

void
fixture_run_until(struct ev_loop *loop, const unsigned int *counter, unsigned int target)
{
	bool late = false;
	ev_timer timer;

	ev_timer_init(&timer, late_cb, 60., 0.);
	timer.data = &late;
	ev_now_update(loop);
	ev_timer_start(loop, &timer);
	while (*counter < target && !late)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &timer);
	assert_false(late);
}

void
fixture_op_done(struct backup_op *op, int status)
{
	struct fixture_op *fop = container_of(op, struct fixture_op, op);

	fop->status = status;
	fop->done++;
}

int
fixture_do(struct ev_loop *loop, struct backup *b, enum backup_op_kind kind, void *buf,
	   uint64_t offset_bytes, uint64_t length_bytes)
{
	struct fixture_op fop = {
		.op = {.kind = kind,
		       .buf = buf,
		       .offset_bytes = offset_bytes,
		       .length_bytes = length_bytes,
		       .done = fixture_op_done},
	};

	backup_submit(b, &fop.op);
	assert_int_equal(fop.done, 0);
	fixture_run_until(loop, &fop.done, 1);
	assert_int_equal(fop.done, 1);
	return fop.status;
}
