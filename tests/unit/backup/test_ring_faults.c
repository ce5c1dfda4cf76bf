/* SPDX-License-Identifier: MIT */
/*
 * What a kernel answers once in a blue moon.  The ring is real; the linker puts
 * these wrappers (-Wl,--wrap) between it and us.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "fixture.h"
#include "loop/turn_clock.h"

#define MIB (1024u * 1024u)

/* How often each fault still happens. */
static struct {
	unsigned int setup_flags_refused;
	unsigned int setups;
	unsigned int submit_failures;
	int submit_error;
	unsigned int result_failures;
	int result;
	unsigned int seen; /* completions */
	bool is_stuck;	   /* none is shown */
} faults;

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes,
					unsigned count);

int
__wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	faults.setups++;
	if (flags & faults.setup_flags_refused)
		return -EINVAL;
	return __real_io_uring_queue_init(entries, ring, flags);
}

int
__wrap_io_uring_submit(struct io_uring *ring)
{
	if (faults.submit_failures > 0) {
		faults.submit_failures--;
		return faults.submit_error;
	}
	return __real_io_uring_submit(ring);
}

unsigned
__wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	unsigned n = faults.is_stuck ? 0 : __real_io_uring_peek_batch_cqe(ring, cqes, count);

	faults.seen += n;
	for (unsigned i = 0; i < n && faults.result_failures > 0; i++) {
		faults.result_failures--;
		cqes[i]->res = faults.result;
	}
	return n;
}

struct places {
	char dir[FIXTURE_PATH_BYTES];
	char file[FIXTURE_PATH_BYTES];
	struct ev_loop *loop;
	struct turn_clock clock;
	struct uring_backup *ub;
	struct backup *b;
	char *buf;
};

static void
reopen(struct places *p)
{
	struct uring_backup_config config = {.path = p->file,
					     .clock = &p->clock,
					     .size_bytes = 16 * MIB,
					     .area = p->buf,
					     .area_bytes = BLOCK_BYTES,
					     .depth = 16};

	p->ub = uring_backup_close(p->ub);
	assert_int_equal(uring_backup_open(p->loop, &config, &p->ub), 0);
	p->b = uring_backup_as_backup(p->ub);
}

static int
setup(void **state)
{
	static struct places places;

	memset(&faults, 0, sizeof(faults));
	fixture_dir(places.dir);
	fixture_join(places.file, places.dir, "swap0.img");
	places.loop = ev_loop_new(EVFLAG_AUTO);
	turn_clock_start(&places.clock, places.loop);
	places.buf = fixture_memory(BLOCK_BYTES);
	places.ub = NULL;
	reopen(&places);
	*state = &places;
	return 0;
}

static int
teardown(void **state)
{
	struct places *p = *state;

	uring_backup_close(p->ub);
	turn_clock_stop(&p->clock);
	ev_loop_destroy(p->loop);
	fixture_memory_free(p->buf, BLOCK_BYTES);
	fixture_dir_remove(p->dir);
	return 0;
}

static void
write_and_read_back(struct places *p, int byte)
{
	memset(p->buf, byte, BLOCK_BYTES);
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_WRITE, p->buf, MIB, BLOCK_BYTES), 0);
	memset(p->buf, 0, BLOCK_BYTES);
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_READ, p->buf, MIB, BLOCK_BYTES), 0);
	assert_int_equal(p->buf[0], byte);
	assert_memory_equal(p->buf, p->buf + 1, BLOCK_BYTES - 1);
}

static void
old_kernel__gets_fewer_flags(void **state)
{
	struct places *p = *state;

	faults.setups = 0;
	faults.setup_flags_refused = IORING_SETUP_COOP_TASKRUN;
	reopen(p);
	assert_int_equal(faults.setups, 2);
	write_and_read_back(p, 1);
}

static void
submit_fails__is_tried_again_and_said_once(void **state)
{
	struct places *p = *state;
	const char *line;

	faults.submit_failures = 5;
	faults.submit_error = -EAGAIN;
	fixture_log_begin();
	write_and_read_back(p, 3);
	line = fixture_log_end();
	assert_int_equal(faults.submit_failures, 0);
	assert_non_null(strstr(line, "cannot submit to io_uring"));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	/* a signal is nothing to speak of */
	faults.submit_failures = 2;
	faults.submit_error = -EINTR;
	fixture_log_begin();
	write_and_read_back(p, 4);
	assert_string_equal(fixture_log_end(), "");
}

static void
short_result__is_completed(void **state)
{
	struct places *p = *state;

	faults.result_failures = 3;
	faults.result = PAGE_BYTES;
	write_and_read_back(p, 5);
	assert_int_equal(faults.seen, 2 + 3);
}

/* Pages of memory that lie in another order than those of the disk. */
static void
write_parts_and_read_back(struct places *p, unsigned int n_short)
{
	struct iovec parts[3] = {{p->buf + 4 * PAGE_BYTES, PAGE_BYTES},
				 {p->buf, 2 * PAGE_BYTES},
				 {p->buf + 6 * PAGE_BYTES, PAGE_BYTES}};
	struct fixture_op fop = {.op = {.kind = BACKUP_OP_WRITE,
					.offset_bytes = MIB,
					.length_bytes = 4 * PAGE_BYTES,
					.done = fixture_op_done,
					.parts = parts,
					.n_parts = 3}};
	static const int expected[] = {4, 0, 1, 6};

	for (int i = 0; i < 8; i++)
		memset(p->buf + i * PAGE_BYTES, i, PAGE_BYTES);
	faults.result_failures = n_short;
	faults.result = PAGE_BYTES;
	backup_submit(p->b, &fop.op);
	fixture_run_until(p->loop, &fop.done, 1);
	assert_int_equal(fop.status, 0);
	memset(p->buf, 0xff, BLOCK_BYTES);
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_READ, p->buf, MIB, 4 * PAGE_BYTES), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(p->buf[i * PAGE_BYTES], expected[i]);
		assert_memory_equal(p->buf + i * PAGE_BYTES, p->buf + i * PAGE_BYTES + 1,
				    PAGE_BYTES - 1);
	}
}

static void
parts__are_written_one_after_the_other(void **state)
{
	write_parts_and_read_back(*state, 0);
}

static void
parts__short_result_is_completed(void **state)
{
	write_parts_and_read_back(*state, 2);
	assert_int_equal(faults.seen, 2 + 2);
}

static void
again_result__is_retried(void **state)
{
	struct places *p = *state;

	faults.result_failures = 20;
	faults.result = -EAGAIN;
	write_and_read_back(p, 6);
	assert_int_equal(faults.seen, 2 + 20);
	faults.seen = 0;
	faults.result_failures = 2;
	faults.result = -EINTR;
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_SYNC, NULL, 0, 0), 0);
	assert_int_equal(faults.seen, 3);
	faults.result_failures = 2;
	faults.result = -EAGAIN;
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_ZERO, NULL, 0, MIB), 0);
}

static void
error_result__is_passed_on(void **state)
{
	struct places *p = *state;

	faults.result = -EIO;
	for (int kind = BACKUP_OP_READ; kind <= BACKUP_OP_ZERO; kind++) {
		faults.result_failures = 1;
		assert_int_equal(fixture_do(p->loop, p->b, (enum backup_op_kind)kind, p->buf, 0,
					    BLOCK_BYTES),
				 -EIO);
	}
	write_and_read_back(p, 7);
}

static void
unsupported__is_remembered(void **state)
{
	struct places *p = *state;
	struct fixture_op fops[200];
	struct uring_backup_info info;
	unsigned int done = 0;
	const char *line;

	faults.result_failures = 1;
	faults.result = -EOPNOTSUPP;
	fixture_log_begin();
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_DISCARD, NULL, 0, MIB), -EOPNOTSUPP);
	faults.seen = 0;
	for (unsigned int i = 0; i < 200; i++) {
		fops[i] = (struct fixture_op){.op = {.kind = BACKUP_OP_DISCARD,
						     .offset_bytes = (uint64_t)i * PAGE_BYTES,
						     .length_bytes = PAGE_BYTES,
						     .done = fixture_op_done}};
		backup_submit(p->b, &fops[i].op);
		assert_int_equal(fops[i].done, 0);
	}
	fixture_run_until(p->loop, &fops[199].done, 1);
	for (unsigned int i = 0; i < 200; i++) {
		assert_int_equal(fops[i].status, -EOPNOTSUPP);
		done += fops[i].done;
	}
	line = fixture_log_end();
	assert_int_equal(done, 200);
	assert_int_equal(faults.seen, 0);
	assert_non_null(strstr(line, "cannot discard"));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	uring_backup_info(p->ub, &info);
	assert_false(info.can_discard);
	assert_true(info.can_zero);
	assert_int_equal(info.waiting + info.in_flight, 0);
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_ZERO, NULL, 0, MIB), 0);
}

/* Those that were queued when it became known. */
static void
unsupported__answers_the_queue_too(void **state)
{
	struct places *p = *state;
	struct fixture_op fops[100];
	unsigned int reached = 0;

	faults.result_failures = 4; /* as many ranges as are in flight at a time */
	faults.result = -EOPNOTSUPP;
	for (unsigned int i = 0; i < 100; i++) {
		fops[i] = (struct fixture_op){.op = {.kind = BACKUP_OP_ZERO,
						     .offset_bytes = (uint64_t)i * PAGE_BYTES,
						     .length_bytes = PAGE_BYTES,
						     .done = fixture_op_done}};
		backup_submit(p->b, &fops[i].op);
	}
	for (unsigned int i = 0; i < 100; i++) {
		fixture_run_until(p->loop, &fops[i].done, 1);
		assert_int_equal(fops[i].status, -EOPNOTSUPP);
		reached += fops[i].done;
	}
	assert_int_equal(reached, 100);
	assert_int_equal(faults.seen, 4);
}

/* Linux before 6.12 has no discard command: the op goes round as a punched hole. */
static void
discard_command_unknown__punches(void **state)
{
	struct places *p = *state;
	char path[FIXTURE_PATH_BYTES], backing[FIXTURE_PATH_BYTES];
	struct uring_backup_config config = {
		.path = path, .clock = &p->clock, .size_bytes = MIB, .depth = 4};
	struct uring_backup_info info;
	struct uring_backup *ub;
	int fd;

	if (!fixture_is_root())
		skip();
	fixture_join(backing, p->dir, "disk.img");
	fixture_file(backing, MIB);
	fd = fixture_loop_device(backing, path);
	assert_int_equal(uring_backup_open(p->loop, &config, &ub), 0);
	faults.seen = 0;
	faults.result_failures = 1;
	faults.result = -EOPNOTSUPP;
	assert_int_equal(fixture_do(p->loop, uring_backup_as_backup(ub), BACKUP_OP_DISCARD, NULL, 0,
				    MIB / 2),
			 0);
	assert_int_equal(faults.seen, 2);
	assert_int_equal(fixture_do(p->loop, uring_backup_as_backup(ub), BACKUP_OP_DISCARD, NULL, 0,
				    MIB / 2),
			 0);
	assert_int_equal(faults.seen, 3);
	uring_backup_info(ub, &info);
	assert_true(info.can_discard);
	uring_backup_close(ub);
	(void)close(fd);
}

/* A long trim must not hold up what people wait for. */
static void
ranges__leave_room_for_transfers(void **state)
{
	struct places *p = *state;
	struct fixture_op fops[64];
	unsigned int late = 0;

	for (unsigned int i = 0; i < 64; i++) {
		fops[i] = (struct fixture_op){.op = {.kind = BACKUP_OP_DISCARD,
						     .offset_bytes = (uint64_t)i * PAGE_BYTES,
						     .length_bytes = PAGE_BYTES,
						     .done = fixture_op_done}};
		backup_submit(p->b, &fops[i].op);
	}
	assert_int_equal(fixture_do(p->loop, p->b, BACKUP_OP_READ, p->buf, 8 * MIB, PAGE_BYTES), 0);
	for (unsigned int i = 0; i < 64; i++)
		late += fops[i].done == 0;
	assert_true(late > 32);
	for (unsigned int i = 0; i < 64; i++)
		fixture_run_until(p->loop, &fops[i].done, 1);
}

static void
submit_pages(struct places *p, struct fixture_op *fops, unsigned int n, enum backup_op_kind kind)
{
	for (unsigned int i = 0; i < n; i++) {
		fops[i] = (struct fixture_op){.op = {.kind = kind,
						     .buf = p->buf,
						     .offset_bytes = (uint64_t)i * PAGE_BYTES,
						     .length_bytes = PAGE_BYTES,
						     .done = fixture_op_done}};
		backup_submit(p->b, &fops[i].op);
	}
	(void)ev_run(p->loop, EVRUN_NOWAIT);
}

/* Of the depth of 16. */
static void
in_flight_is(struct places *p, uint32_t in_flight, uint32_t waiting)
{
	struct uring_backup_info info;

	uring_backup_info(p->ub, &info);
	assert_int_equal(info.in_flight, in_flight);
	assert_int_equal(info.waiting, waiting);
}

/* However many of one kind there are, the others go on. */
static void
one_kind_leaves_room_for_another(struct places *p, enum backup_op_kind many,
				 enum backup_op_kind few)
{
	struct fixture_op crowd[40], others[5];

	faults.is_stuck = true;
	submit_pages(p, crowd, 40, many);
	in_flight_is(p, 12, 28);
	submit_pages(p, others, 5, few);
	in_flight_is(p, 16, 29);
	faults.is_stuck = false;
	for (unsigned int i = 0; i < 5; i++)
		fixture_run_until(p->loop, &others[i].done, 1);
	for (unsigned int i = 0; i < 40; i++)
		fixture_run_until(p->loop, &crowd[i].done, 1);
	in_flight_is(p, 0, 0);
}

static void
writes__leave_room_for_reads(void **state)
{
	one_kind_leaves_room_for_another(*state, BACKUP_OP_WRITE, BACKUP_OP_READ);
}

static void
reads__leave_room_for_writes(void **state)
{
	one_kind_leaves_room_for_another(*state, BACKUP_OP_READ, BACKUP_OP_WRITE);
}

static void
reads__go_before_queued_writes(void **state)
{
	struct places *p = *state;
	struct fixture_op writes[200], reads[40];

	faults.is_stuck = true;
	submit_pages(p, writes, 200, BACKUP_OP_WRITE);
	submit_pages(p, reads, 40, BACKUP_OP_READ);
	faults.is_stuck = false;
	for (unsigned int i = 0; i < 40; i++)
		fixture_run_until(p->loop, &reads[i].done, 1);
	assert_int_equal(writes[199].done, 0);
	for (unsigned int i = 0; i < 200; i++)
		fixture_run_until(p->loop, &writes[i].done, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(old_kernel__gets_fewer_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(submit_fails__is_tried_again_and_said_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(short_result__is_completed, setup, teardown),
		cmocka_unit_test_setup_teardown(parts__are_written_one_after_the_other, setup,
						teardown),
		cmocka_unit_test_setup_teardown(parts__short_result_is_completed, setup, teardown),
		cmocka_unit_test_setup_teardown(again_result__is_retried, setup, teardown),
		cmocka_unit_test_setup_teardown(error_result__is_passed_on, setup, teardown),
		cmocka_unit_test_setup_teardown(unsupported__is_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(unsupported__answers_the_queue_too, setup,
						teardown),
		cmocka_unit_test_setup_teardown(discard_command_unknown__punches, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges__leave_room_for_transfers, setup, teardown),
		cmocka_unit_test_setup_teardown(writes__leave_room_for_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(reads__leave_room_for_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(reads__go_before_queued_writes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
