/* SPDX-License-Identifier: MIT */
/* Everything a path can be, and what the operator is told about it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#include "backup/target.h"

#define MIB (1024u * 1024u)

struct places {
	char dir[FIXTURE_PATH_BYTES];
	char file[FIXTURE_PATH_BYTES];
};

static int
setup(void **state)
{
	static struct places places;

	fixture_dir(places.dir);
	fixture_join(places.file, places.dir, "swap0.img");
	*state = &places;
	return 0;
}

static int
teardown(void **state)
{
	struct places *p = *state;

	fixture_dir_remove(p->dir);
	return 0;
}

/* Opening @path must fail with @expected and a single line that holds @words. */
static void
expect_refused(const char *path, uint64_t size_bytes, int expected, const char *words)
{
	struct backup_target t;
	const char *line;
	int r;

	fixture_log_begin();
	r = target_open(path, size_bytes, &t);
	line = fixture_log_end();
	assert_int_equal(r, expected);
	assert_non_null(strstr(line, path));
	assert_non_null(strstr(line, words));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void
absent__is_created_sparse_and_private(void **state)
{
	struct places *p = *state;
	struct backup_target t;
	struct stat st;

	(void)umask(0);
	assert_int_equal(target_open(p->file, 16 * MIB, &t), 0);
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_size, 16 * MIB);
	assert_true(st.st_blocks * 512 < MIB);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(t.is_block_device);
	assert_true(t.is_direct);
	assert_true(t.can_discard && t.can_zero);
	assert_true(fcntl(t.fd, F_GETFL) & O_DIRECT);
	target_close(&t);
	/* what was probed must not have grown it */
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_size, 16 * MIB);
}

static void
empty__is_sized(void **state)
{
	struct places *p = *state;
	struct backup_target t;
	struct stat st;

	fixture_file(p->file, 0);
	assert_int_equal(target_open(p->file, MIB, &t), 0);
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_size, MIB);
	target_close(&t);
}

static void
larger__is_left_alone(void **state)
{
	struct places *p = *state;
	struct backup_target t;
	struct stat st;

	fixture_file(p->file, 2 * MIB + 100);
	assert_int_equal(target_open(p->file, MIB, &t), 0);
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_size, 2 * MIB + 100);
	target_close(&t);
}

static void
smaller__is_refused_with_both_sizes(void **state)
{
	struct places *p = *state;
	struct stat st;

	fixture_file(p->file, MIB);
	expect_refused(p->file, 2 * MIB, -EFBIG, "has 1048576 bytes, the device needs 2097152");
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_size, MIB);
}

static void
other_kinds__are_refused(void **state)
{
	struct places *p = *state;
	char other[FIXTURE_PATH_BYTES];

	expect_refused(p->dir, MIB, -EISDIR, "Is a directory");
	assert_int_equal(mkfifo(p->file, 0600), 0);
	expect_refused(p->file, MIB, -ENOTBLK, "neither a block device nor a file");
	expect_refused("/dev/null", MIB, -ENOTBLK, "neither a block device nor a file");
	fixture_join(other, p->dir, "none/swap0.img");
	expect_refused(other, MIB, -ENOENT, "No such file or directory");
	fixture_join(other, p->file, "swap0.img");
	expect_refused(other, MIB, -ENOTDIR, "Not a directory");
}

static void
misspelt_device__is_not_created(void **state)
{
	struct stat dev, root;

	(void)state;
	assert_int_equal(stat("/dev", &dev), 0);
	assert_int_equal(stat("/", &root), 0);
	if (dev.st_dev == root.st_dev)
		skip();
	expect_refused("/dev/slabswap-no-such-disk", MIB, -ENODEV, "no such device");
	assert_int_equal(access("/dev/slabswap-no-such-disk", F_OK), -1);
}

static void
locked__names_the_holder(void **state)
{
	struct places *p = *state;
	struct backup_target t;
	char words[64];
	int pipe_fds[2];
	char byte;
	pid_t pid;

	fixture_file(p->file, MIB);
	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(pipe_fds[0]);
		if (target_open(p->file, MIB, &t) != 0 || write(pipe_fds[1], "x", 1) != 1)
			_exit(1);
		(void)pause();
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	(void)close(pipe_fds[0]);
	(void)snprintf(words, sizeof(words), "is locked by test_target (process %d)", (int)pid);
	expect_refused(p->file, MIB, -EBUSY, words);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(target_open(p->file, MIB, &t), 0);
	target_close(&t);
}

static void
no_permission__is_said(void **state)
{
	struct places *p = *state;
	bool as_root = fixture_is_root();

	fixture_file(p->file, MIB);
	assert_int_equal(chmod(p->file, 0400), 0);
	assert_int_equal(chmod(p->dir, 0755), 0);
	if (as_root)
		assert_int_equal(seteuid(65534), 0);
	expect_refused(p->file, MIB, -EACCES, "cannot open for writing: Permission denied");
	if (as_root) {
		char other[FIXTURE_PATH_BYTES];

		fixture_join(other, p->dir, "new.img");
		expect_refused(other, MIB, -EACCES, "cannot create: Permission denied");
		assert_int_equal(seteuid(0), 0);
	}
}

static void
read_only_child(void *arg)
{
	const struct places *p = arg;

	fixture_mount("tmpfs", p->dir, "size=4m");
	fixture_file(p->file, MIB);
	assert_int_equal(mount(NULL, p->dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	expect_refused(p->file, MIB, -EROFS, "Read-only file system");
}

static void
read_only__is_said(void **state)
{
	fixture_in_child(read_only_child, *state);
}

static void
full_child(void *arg)
{
	const struct places *p = arg;

	/* inodes: one for the root, none for a file */
	fixture_mount("tmpfs", p->dir, "size=4m,nr_inodes=1");
	expect_refused(p->file, MIB, -ENOSPC, "cannot create: No space left on device");
	assert_int_equal(access(p->file, F_OK), -1);
}

static void
full__is_said(void **state)
{
	fixture_in_child(full_child, *state);
}

/* ramfs: neither O_DIRECT nor holes, on every kernel. */
static void
plain_child(void *arg)
{
	const struct places *p = arg;

	struct backup_target t;
	const char *lines;

	fixture_mount("ramfs", p->dir, NULL);
	fixture_log_begin();
	assert_int_equal(target_open(p->file, MIB, &t), 0);
	lines = fixture_log_end();
	assert_non_null(strstr(lines, "O_DIRECT does not work here"));
	assert_non_null(strstr(lines, "cannot punch holes"));
	assert_false(t.is_direct || t.can_discard || t.can_zero);
	assert_int_equal(fcntl(t.fd, F_GETFL) & O_DIRECT, 0);
	target_close(&t);
}

static void
no_direct__falls_back_with_a_line(void **state)
{
	fixture_in_child(plain_child, *state);
}

static void
too_big_for_file_system_child(void *arg)
{
	const struct places *p = arg;

	struct rlimit limit = {MIB, MIB};

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_refused(p->file, 2 * MIB, -EFBIG, "cannot make it 2097152 bytes: File too large");
	/* what we made and could not size is not left behind */
	assert_int_equal(access(p->file, F_OK), -1);
}

static void
unsizable__is_removed_again(void **state)
{
	fixture_in_child(too_big_for_file_system_child, *state);
}

static void
block_device__is_claimed_and_checked(void **state)
{
	struct places *p = *state;
	char path[FIXTURE_PATH_BYTES];
	struct backup_target t;
	uint64_t start, end;
	int fd, claim;

	if (!fixture_is_root())
		skip();
	fixture_file(p->file, 4 * MIB);
	fd = fixture_loop_device(p->file, path);
	expect_refused(path, 8 * MIB, -EFBIG, "has 4194304 bytes, the device needs 8388608");
	claim = open(path, O_RDWR | O_EXCL | O_CLOEXEC);
	assert_true(claim >= 0);
	expect_refused(path, 4 * MIB, -EBUSY, "is mounted, used for swap or open");
	assert_int_equal(close(claim), 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	expect_refused(path, 4 * MIB, -EBUSY, "is locked by test_target");
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_int_equal(target_open(path, 4 * MIB, &t), 0);
	assert_true(t.is_block_device && t.is_direct && t.can_discard && t.can_zero);
	assert_true(target_next_data(&t, MIB, &start, &end));
	assert_int_equal(start, MIB);
	assert_int_equal(end, 4 * MIB);
	assert_false(target_next_data(&t, 4 * MIB, &start, &end));
	target_close(&t);
	(void)close(fd);
}

static void
next_data__walks_the_extents(void **state)
{
	struct places *p = *state;
	uint64_t start = 0, end = 0;
	struct backup_target t;
	int fd;

	fixture_file(p->file, 8 * MIB);
	fd = open(p->file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, MIB + 5), 1);
	assert_int_equal(pwrite(fd, "x", 1, 5 * MIB - 1), 1);
	assert_int_equal(pwrite(fd, "x", 1, 7 * MIB), 1); /* beyond the device */
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(target_open(p->file, 6 * MIB, &t), 0);
	assert_true(target_next_data(&t, 0, &start, &end));
	assert_in_range(start, MIB - 64 * 1024, MIB);
	assert_in_range(end, MIB + PAGE_BYTES, MIB + 64 * 1024);
	assert_true(target_next_data(&t, MIB, &start, &end)); /* from inside */
	assert_int_equal(start, MIB);
	assert_true(target_next_data(&t, end, &start, &end));
	assert_in_range(start, 5 * MIB - 64 * 1024, 5 * MIB - PAGE_BYTES);
	assert_int_equal(end % PAGE_BYTES, 0);
	assert_false(target_next_data(&t, end, &start, &end));
	assert_false(target_next_data(&t, 6 * MIB, &start, &end));
	target_close(&t);
}

/* Data stays, the rest is written once; a device that is trimmed must not make holes again. */
static void
fill__leaves_no_holes(void **state)
{
	struct places *p = *state;
	struct backup_target t;
	uint64_t start, end;
	char page[PAGE_BYTES];

	assert_int_equal(target_open(p->file, 6 * MIB, &t), 0);
	memset(page, 7, sizeof(page));
	assert_int_equal(fcntl(t.fd, F_SETFL, fcntl(t.fd, F_GETFL) & ~O_DIRECT), 0);
	assert_int_equal(pwrite(t.fd, page, sizeof(page), 2 * MIB), sizeof(page));
	assert_int_equal(fallocate(t.fd, 0, 4 * MIB, MIB), 0);
	assert_int_equal(fsync(t.fd), 0);
	assert_int_equal(target_fill(&t), 0);
	assert_false(t.can_discard || t.can_zero);
	assert_true(target_next_data(&t, 0, &start, &end));
	assert_int_equal(start, 0);
	assert_int_equal(end, 6 * MIB);
	assert_int_equal(pread(t.fd, page, sizeof(page), 2 * MIB), sizeof(page));
	assert_int_equal(page[5], 7);
	assert_int_equal(pread(t.fd, page, sizeof(page), 2 * MIB + PAGE_BYTES), sizeof(page));
	assert_int_equal(page[5], 0);
	target_close(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(absent__is_created_sparse_and_private, setup,
						teardown),
		cmocka_unit_test_setup_teardown(empty__is_sized, setup, teardown),
		cmocka_unit_test_setup_teardown(larger__is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(smaller__is_refused_with_both_sizes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(other_kinds__are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(misspelt_device__is_not_created, setup, teardown),
		cmocka_unit_test_setup_teardown(locked__names_the_holder, setup, teardown),
		cmocka_unit_test_setup_teardown(no_permission__is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(read_only__is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(full__is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(no_direct__falls_back_with_a_line, setup, teardown),
		cmocka_unit_test_setup_teardown(unsizable__is_removed_again, setup, teardown),
		cmocka_unit_test_setup_teardown(block_device__is_claimed_and_checked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(next_data__walks_the_extents, setup, teardown),
		cmocka_unit_test_setup_teardown(fill__leaves_no_holes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
