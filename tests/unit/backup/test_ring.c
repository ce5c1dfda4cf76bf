/* SPDX-License-Identifier: MIT */
/* Bytes in and out of real files and a real block device, with every page looked at. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "loop/turn_clock.h"

#define MIB (1024u * 1024u)
#define DEPTH 32u

struct places {
	char dir[FIXTURE_PATH_BYTES];
	char file[FIXTURE_PATH_BYTES];
	struct ev_loop *loop;
	struct turn_clock clock;
};

static int
setup(void **state)
{
	static struct places places;

	fixture_dir(places.dir);
	fixture_join(places.file, places.dir, "swap0.img");
	places.loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(places.loop);
	turn_clock_start(&places.clock, places.loop);
	*state = &places;
	return 0;
}

static int
teardown(void **state)
{
	struct places *p = *state;

	turn_clock_stop(&p->clock);
	ev_loop_destroy(p->loop);
	fixture_dir_remove(p->dir);
	return 0;
}

static struct uring_backup *
open_backup(struct places *p, const char *path, uint64_t size_bytes, void *area, size_t area_bytes)
{
	struct uring_backup_config config = {
		.path = path,
		.clock = &p->clock,
		.size_bytes = size_bytes,
		.area = area,
		.area_bytes = area_bytes,
		.depth = DEPTH,
	};
	struct uring_backup *ub;

	assert_int_equal(uring_backup_open(p->loop, &config, &ub), 0);
	return ub;
}

static void
fill(void *buf, size_t bytes, uint32_t seed)
{
	uint32_t *words = buf;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = (seed + (uint32_t)i) * 2654435761u;
}

static bool
is_filled(const void *buf, size_t bytes, uint32_t seed)
{
	const uint32_t *words = buf;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		if (words[i] != (seed + (uint32_t)i) * 2654435761u)
			return false;
	return true;
}

static bool
is_zero(const void *buf, size_t bytes)
{
	const char *c = buf;

	return c[0] == 0 && memcmp(c, c + 1, bytes - 1) == 0;
}

/*
 * Random ops: more at a time than the depth, never two on one page, which is the
 * core's side of the contract.
 */
#define RANDOM_PAGES 4096u
#define RANDOM_SLOTS 80u
#define RANDOM_OPS 10000u
#define SEED_ZEROS 0u
#define SEED_ANY 1u

struct slot {
	struct fixture_op fop;
	struct random_run *run;
	void *buf;
	uint32_t seed;
	bool busy;
};

struct random_run {
	struct backup *b;
	struct slot slots[RANDOM_SLOTS];
	uint32_t seeds[RANDOM_PAGES]; /* SEED_ZEROS, SEED_ANY or what fill() was given */
	bool busy[RANDOM_PAGES];
	unsigned int started;
	unsigned int finished;
	unsigned int by_kind[BACKUP_OP_ZERO + 1];
	uint32_t next_seed;
	unsigned int random;
};

static void random_start(struct random_run *run, struct slot *slot);

static void
check_read(const struct random_run *run, const struct slot *slot)
{
	const struct backup_op *op = &slot->fop.op;

	for (uint32_t i = 0; i < op->length_bytes / PAGE_BYTES; i++) {
		const char *page = (const char *)op->buf + (size_t)i * PAGE_BYTES;
		uint32_t seed = run->seeds[op->offset_bytes / PAGE_BYTES + i];

		if (seed == SEED_ZEROS)
			assert_true(is_zero(page, PAGE_BYTES));
		else if (seed != SEED_ANY)
			assert_true(is_filled(page, PAGE_BYTES, seed));
	}
}

static void
random_done(struct backup_op *op, int status)
{
	struct slot *slot = container_of(op, struct slot, fop.op);
	struct random_run *run = slot->run;
	uint64_t page = op->offset_bytes / PAGE_BYTES;
	uint64_t pages = op->length_bytes / PAGE_BYTES;

	assert_int_equal(status, 0);
	assert_true(slot->busy);
	if (op->kind == BACKUP_OP_READ)
		check_read(run, slot);
	for (uint64_t i = 0; i < pages; i++) {
		run->busy[page + i] = false;
		if (op->kind == BACKUP_OP_WRITE)
			run->seeds[page + i] = slot->seed + (uint32_t)(i * PAGE_BYTES / 4);
		else if (op->kind == BACKUP_OP_ZERO)
			run->seeds[page + i] = SEED_ZEROS;
		else if (op->kind == BACKUP_OP_DISCARD)
			run->seeds[page + i] = SEED_ANY;
	}
	slot->busy = false;
	run->finished++;
	/* from inside done(), as the core does */
	if (run->started < RANDOM_OPS)
		random_start(run, slot);
}

static enum backup_op_kind
random_kind(unsigned int *random)
{
	int dice = rand_r(random) % 100;

	if (dice < 45)
		return BACKUP_OP_WRITE;
	if (dice < 90)
		return BACKUP_OP_READ;
	if (dice < 94)
		return BACKUP_OP_ZERO;
	return dice < 98 ? BACKUP_OP_DISCARD : BACKUP_OP_SYNC;
}

static void
random_start(struct random_run *run, struct slot *slot)
{
	struct backup_op *op = &slot->fop.op;
	uint32_t page, pages;
	bool clash;

	*op = (struct backup_op){.kind = random_kind(&run->random), .done = random_done};
	if (op->kind != BACKUP_OP_SYNC) {
		do {
			pages = 1 + (uint32_t)rand_r(&run->random) % BLOCK_PAGES;
			page = (uint32_t)rand_r(&run->random) % (RANDOM_PAGES - pages + 1);
			clash = false;
			for (uint32_t i = 0; i < pages; i++)
				clash |= run->busy[page + i];
		} while (clash);
		for (uint32_t i = 0; i < pages; i++)
			run->busy[page + i] = true;
		op->offset_bytes = (uint64_t)page * PAGE_BYTES;
		op->length_bytes = (uint64_t)pages * PAGE_BYTES;
		op->buf = slot->buf;
		slot->seed = run->next_seed;
		run->next_seed += BLOCK_BYTES / 4;
		if (op->kind == BACKUP_OP_WRITE)
			fill(op->buf, op->length_bytes, slot->seed);
	}
	slot->busy = true;
	run->started++;
	run->by_kind[op->kind]++;
	backup_submit(run->b, op);
}

static void
random_ops_on(struct places *p, const char *path)
{
	size_t area_bytes = (size_t)RANDOM_SLOTS * BLOCK_BYTES;
	char *area = fixture_memory(area_bytes);
	struct random_run *run = calloc(1, sizeof(*run));
	struct uring_backup *ub;
	struct uring_backup_info info;
	char page[PAGE_BYTES];
	int fd;

	assert_non_null(run);
	ub = open_backup(p, path, (uint64_t)RANDOM_PAGES * PAGE_BYTES, area, area_bytes);
	run->b = uring_backup_as_backup(ub);
	run->next_seed = 2;
	run->random = 1;
	for (uint32_t i = 0; i < RANDOM_SLOTS; i++) {
		run->slots[i].run = run;
		run->slots[i].buf = area + (size_t)i * BLOCK_BYTES;
		random_start(run, &run->slots[i]);
	}
	uring_backup_info(ub, &info);
	assert_int_equal(info.waiting, RANDOM_SLOTS);
	fixture_run_until(p->loop, &run->finished, RANDOM_OPS);
	assert_int_equal(run->finished, RANDOM_OPS);
	for (int kind = BACKUP_OP_READ; kind <= BACKUP_OP_ZERO; kind++)
		assert_true(run->by_kind[kind] > 100);
	assert_int_equal(fixture_do(p->loop, run->b, BACKUP_OP_SYNC, NULL, 0, 0), 0);
	uring_backup_info(ub, &info);
	assert_int_equal(info.in_flight + info.waiting, 0);
	assert_true(info.can_discard && info.can_zero);
	uring_backup_close(ub);

	/* what a plain reader finds afterwards */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (uint32_t i = 0; i < RANDOM_PAGES; i++) {
		assert_int_equal(pread(fd, page, PAGE_BYTES, (int64_t)i * PAGE_BYTES), PAGE_BYTES);
		if (run->seeds[i] == SEED_ZEROS)
			assert_true(is_zero(page, PAGE_BYTES));
		else if (run->seeds[i] != SEED_ANY)
			assert_true(is_filled(page, PAGE_BYTES, run->seeds[i]));
	}
	(void)close(fd);
	free(run);
	fixture_memory_free(area, area_bytes);
}

static void
random_ops__file(void **state)
{
	struct places *p = *state;

	random_ops_on(p, p->file);
}

static void
random_ops__tmpfs(void **state)
{
	struct places *p = *state;
	char path[] = "/dev/shm/backup-test.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	(void)close(fd);
	random_ops_on(p, path);
	assert_int_equal(unlink(path), 0);
}

static void
random_ops__block_device(void **state)
{
	struct places *p = *state;
	char path[FIXTURE_PATH_BYTES];
	int fd;

	if (!fixture_is_root())
		skip();
	fixture_file(p->file, (uint64_t)RANDOM_PAGES * PAGE_BYTES);
	fd = fixture_loop_device(p->file, path);
	random_ops_on(p, path);
	(void)close(fd);
}

static void
reopen__at_once_finds_everything(void **state)
{
	struct places *p = *state;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub;
	struct backup *b;

	/* the lock must go with the close, not some time after it */
	for (uint32_t i = 0; i < 20; i++) {
		ub = open_backup(p, p->file, MIB, buf, BLOCK_BYTES);
		b = uring_backup_as_backup(ub);
		if (i > 0) {
			assert_int_equal(
				fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), 0);
			assert_true(is_filled(buf, BLOCK_BYTES, i - 1));
		}
		fill(buf, BLOCK_BYTES, i);
		assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, 0, BLOCK_BYTES), 0);
		uring_backup_close(ub);
	}
	fixture_memory_free(buf, BLOCK_BYTES);
}

static int64_t
blocks_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks;
}

static void
discard__gives_space_back(void **state)
{
	struct places *p = *state;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub = open_backup(p, p->file, 8 * MIB, buf, BLOCK_BYTES);
	struct backup *b = uring_backup_as_backup(ub);
	uint64_t start, end;
	int64_t before;

	fill(buf, BLOCK_BYTES, 7);
	for (uint64_t at = 0; at < 4 * MIB; at += BLOCK_BYTES)
		assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, at, BLOCK_BYTES), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_SYNC, NULL, 0, 0), 0);
	before = blocks_of(p->file);
	assert_true(before * 512 >= 4 * MIB);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_DISCARD, NULL, MIB, 2 * MIB), 0);
	assert_true(blocks_of(p->file) * 512 <= before * 512 - 2 * MIB);
	assert_true(backup_next_data(b, MIB, &start, &end));
	assert_int_equal(start, 3 * MIB);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_ZERO, NULL, 0, MIB), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), 0);
	assert_true(is_zero(buf, BLOCK_BYTES));
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 3 * MIB, BLOCK_BYTES), 0);
	assert_true(is_filled(buf, BLOCK_BYTES, 7));
	/* never written */
	assert_int_equal(
		fixture_do(p->loop, b, BACKUP_OP_READ, buf, 8 * MIB - BLOCK_BYTES, BLOCK_BYTES), 0);
	assert_true(is_zero(buf, BLOCK_BYTES));
	uring_backup_close(ub);
	fixture_memory_free(buf, BLOCK_BYTES);
}

/* The file system was told to take no more than half of a transfer. */
static void
limit__ends_a_short_write_with_its_error(void **state)
{
	struct places *p = *state;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub = open_backup(p, p->file, MIB, buf, BLOCK_BYTES);
	struct backup *b = uring_backup_as_backup(ub);
	struct rlimit old, limit;

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){BLOCK_BYTES / 2, old.rlim_max};
	fill(buf, BLOCK_BYTES, 3);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, 0, BLOCK_BYTES), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), 0);
	assert_true(is_filled(buf, BLOCK_BYTES / 2, 3));
	assert_true(is_zero(buf + BLOCK_BYTES / 2, BLOCK_BYTES / 2));
	uring_backup_close(ub);
	fixture_memory_free(buf, BLOCK_BYTES);
}

static void
cut_file__is_an_error_not_zeros(void **state)
{
	struct places *p = *state;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub = open_backup(p, p->file, MIB, buf, BLOCK_BYTES);
	struct backup *b = uring_backup_as_backup(ub);

	assert_int_equal(truncate(p->file, BLOCK_BYTES / 2), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), -EIO);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 2 * BLOCK_BYTES, BLOCK_BYTES),
			 -EIO);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES / 2), 0);
	uring_backup_close(ub);
	fixture_memory_free(buf, BLOCK_BYTES);
}

static void
full_child(void *arg)
{
	struct places *p = arg;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub;
	struct backup *b;
	int r = 0;

	fixture_mount("tmpfs", p->dir, "size=1m");
	ub = open_backup(p, p->file, 4 * MIB, buf, BLOCK_BYTES);
	b = uring_backup_as_backup(ub);
	for (uint64_t at = 0; r == 0 && at < 4 * MIB; at += BLOCK_BYTES)
		r = fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, at, BLOCK_BYTES);
	assert_int_equal(r, -ENOSPC);
	/* and works again when there is room */
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_DISCARD, NULL, 0, MIB / 2), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, 2 * MIB, BLOCK_BYTES), 0);
	uring_backup_close(ub);
}

static void
full__is_reported_and_ends(void **state)
{
	fixture_in_child(full_child, *state);
}

static void
memlock_child(void *arg)
{
	struct places *p = arg;
	size_t area_bytes = 16 * MIB;
	char *area = fixture_memory(area_bytes);
	struct rlimit limit = {64 * 1024, 64 * 1024};
	struct uring_backup_info info;
	struct uring_backup *ub;
	struct backup *b;
	const char *line;

	assert_int_equal(chmod(p->dir, 0777), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	assert_int_equal(setuid(65534), 0);
	fixture_log_begin();
	ub = open_backup(p, p->file, MIB, area, area_bytes);
	line = fixture_log_end();
	assert_non_null(strstr(line, "cannot register 16777216 bytes of buffers"));
	uring_backup_info(ub, &info);
	assert_false(info.is_registered);
	b = uring_backup_as_backup(ub);
	fill(area, BLOCK_BYTES, 5);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, area, 0, BLOCK_BYTES), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, area + MIB, 0, BLOCK_BYTES), 0);
	assert_true(is_filled(area + MIB, BLOCK_BYTES, 5));
	uring_backup_close(ub);
}

static void
memlock__falls_back_with_a_line(void **state)
{
	fixture_in_child(memlock_child, *state);
}

static void
no_uring_child(void *arg)
{
	struct places *p = arg;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
	struct uring_backup_config config = {
		.path = p->file, .clock = &p->clock, .size_bytes = MIB, .depth = 1};
	struct uring_backup *ub;
	const char *line;
	int r;

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	fixture_log_begin();
	r = uring_backup_open(p->loop, &config, &ub);
	line = fixture_log_end();
	assert_int_equal(r, -EPERM);
	assert_non_null(strstr(line, "kernel.io_uring_disabled"));
}

static void
no_uring__is_said(void **state)
{
	fixture_in_child(no_uring_child, *state);
}

static void
bad_config__is_refused(void **state)
{
	struct places *p = *state;
	static const struct {
		uint64_t size_bytes;
		uint32_t depth;
	} bad[] = {{0, 1}, {MIB + 1, 1}, {MIB, 0}, {MIB, URING_BACKUP_DEPTH_MAX + 1}};
	struct uring_backup *ub;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct uring_backup_config config = {.path = p->file,
						     .clock = &p->clock,
						     .size_bytes = bad[i].size_bytes,
						     .depth = bad[i].depth};

		assert_int_equal(uring_backup_open(p->loop, &config, &ub), -EINVAL);
	}
	assert_int_equal(access(p->file, F_OK), -1);
	assert_null(uring_backup_close(NULL));
}

/* What succeeds counts once, also in pieces; what fails says nothing of how long it takes. */
static void
times__by_kind(void **state)
{
	struct places *p = *state;
	char *buf = fixture_memory(BLOCK_BYTES);
	struct uring_backup *ub = open_backup(p, p->file, MIB, buf, BLOCK_BYTES);
	struct backup *b = uring_backup_as_backup(ub);
	struct uring_backup_info info;

	uring_backup_info(ub, &info);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_WRITE, buf, 0, BLOCK_BYTES), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_SYNC, NULL, 0, 0), 0);
	assert_int_equal(truncate(p->file, 0), 0);
	assert_int_equal(fixture_do(p->loop, b, BACKUP_OP_READ, buf, 0, BLOCK_BYTES), -EIO);
	assert_int_equal(info.times[BACKUP_OP_WRITE].count, 3);
	assert_int_equal(info.times[BACKUP_OP_READ].count, 1);
	assert_int_equal(info.times[BACKUP_OP_SYNC].count, 1);
	assert_int_equal(info.times[BACKUP_OP_ZERO].count, 0);
	assert_in_range(info.times[BACKUP_OP_WRITE].max_ns, 1, 60 * NSEC_PER_SEC);
	uring_backup_close(ub);
	fixture_memory_free(buf, BLOCK_BYTES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_ops__file, setup, teardown),
		cmocka_unit_test_setup_teardown(random_ops__tmpfs, setup, teardown),
		cmocka_unit_test_setup_teardown(random_ops__block_device, setup, teardown),
		cmocka_unit_test_setup_teardown(reopen__at_once_finds_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(discard__gives_space_back, setup, teardown),
		cmocka_unit_test_setup_teardown(limit__ends_a_short_write_with_its_error, setup,
						teardown),
		cmocka_unit_test_setup_teardown(cut_file__is_an_error_not_zeros, setup, teardown),
		cmocka_unit_test_setup_teardown(full__is_reported_and_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(memlock__falls_back_with_a_line, setup, teardown),
		cmocka_unit_test_setup_teardown(no_uring__is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(times__by_kind, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_config__is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
