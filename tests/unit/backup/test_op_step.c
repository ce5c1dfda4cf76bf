/* SPDX-License-Identifier: MIT */
/* Every result a system call can have, for every kind of op. */
#include <errno.h>

#include "fixture.h"

#include "backup/op_step.h"

static void
transfer__whole(void **state)
{
	struct backup_op op = {.kind = BACKUP_OP_READ, .length_bytes = 8192};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 8192, &status), OP_STEP_DONE);
	assert_int_equal(status, 0);
}

static void
transfer__short_goes_on_where_it_stopped(void **state)
{
	struct backup_op op = {.kind = BACKUP_OP_WRITE, .length_bytes = 12288};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 4096, &status), OP_STEP_CONTINUE);
	assert_int_equal(op_step(&op, 512, &status), OP_STEP_CONTINUE);
	assert_int_equal(op.transferred_bytes, 4608);
	assert_int_equal(status, 1);
	assert_int_equal(op_step(&op, 12288 - 4608, &status), OP_STEP_DONE);
	assert_int_equal(status, 0);
}

static void
parts__short_goes_on_where_it_stopped(void **state)
{
	char bytes[4 * 4096];
	struct iovec parts[] = {{bytes, 4096}, {bytes + 8192, 8192}};
	struct backup_op op = {
		.kind = BACKUP_OP_WRITE, .length_bytes = 12288, .parts = parts, .n_parts = 2};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 512, &status), OP_STEP_CONTINUE);
	assert_ptr_equal(op.parts[0].iov_base, bytes + 512);
	assert_int_equal(op.parts[0].iov_len, 4096 - 512);
	assert_int_equal(op.n_parts, 2);
	assert_int_equal(op_step(&op, 4096 - 512, &status), OP_STEP_CONTINUE);
	assert_ptr_equal(op.parts[0].iov_base, bytes + 8192);
	assert_int_equal(op.parts[0].iov_len, 8192);
	assert_int_equal(op.n_parts, 1);
	assert_int_equal(op_step(&op, 8192, &status), OP_STEP_DONE);
	assert_int_equal(status, 0);
}

static void
parts__one_result_over_several(void **state)
{
	char bytes[3 * 4096];
	struct iovec parts[] = {{bytes, 4096}, {bytes + 4096, 4096}, {bytes + 8192, 4096}};
	struct backup_op op = {
		.kind = BACKUP_OP_WRITE, .length_bytes = 12288, .parts = parts, .n_parts = 3};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 8192 + 1024, &status), OP_STEP_CONTINUE);
	assert_int_equal(op.n_parts, 1);
	assert_ptr_equal(op.parts[0].iov_base, bytes + 8192 + 1024);
	assert_int_equal(op.parts[0].iov_len, 3072);
}

static void
transfer__nothing_is_an_error(void **state)
{
	struct backup_op op = {.kind = BACKUP_OP_READ, .length_bytes = 4096};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 0, &status), OP_STEP_DONE);
	assert_int_equal(status, -EIO);
}

static void
any__interrupted_asks_again(void **state)
{
	int status = 1;

	(void)state;
	for (int kind = BACKUP_OP_READ; kind <= BACKUP_OP_ZERO; kind++) {
		struct backup_op op = {.kind = (enum backup_op_kind)kind, .length_bytes = 4096};

		assert_int_equal(op_step(&op, -EINTR, &status), OP_STEP_RETRY);
		assert_int_equal(op_step(&op, -EAGAIN, &status), OP_STEP_RETRY);
		assert_int_equal(op.transferred_bytes, 0);
		assert_int_equal(status, 1);
		assert_int_equal(op_step(&op, -ENOSPC, &status), OP_STEP_DONE);
		assert_int_equal(status, -ENOSPC);
		status = 1;
	}
}

static void
sync__zero_is_success(void **state)
{
	struct backup_op op = {.kind = BACKUP_OP_SYNC};
	int status = 1;

	(void)state;
	assert_int_equal(op_step(&op, 0, &status), OP_STEP_DONE);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer__whole),
		cmocka_unit_test(transfer__short_goes_on_where_it_stopped),
		cmocka_unit_test(parts__short_goes_on_where_it_stopped),
		cmocka_unit_test(parts__one_result_over_several),
		cmocka_unit_test(transfer__nothing_is_an_error),
		cmocka_unit_test(any__interrupted_asks_again),
		cmocka_unit_test(sync__zero_is_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
