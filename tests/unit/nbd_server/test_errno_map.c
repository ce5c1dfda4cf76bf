/* SPDX-License-Identifier: MIT */
/* Every errno there is becomes one of the protocol's errors, and the telling ones the right one. */
#include "nbd_server/errno_map.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "wire/nbd_proto.h"

static void
error_of__each_telling_errno(void **state)
{
	(void)state;
	assert_int_equal(nbds_error_of(0), 0);
	assert_int_equal(nbds_error_of(-EPERM), NBDP_EPERM);
	assert_int_equal(nbds_error_of(-EACCES), NBDP_EPERM);
	assert_int_equal(nbds_error_of(-EROFS), NBDP_EPERM);
	assert_int_equal(nbds_error_of(-EIO), NBDP_EIO);
	assert_int_equal(nbds_error_of(-ENOMEM), NBDP_ENOMEM);
	assert_int_equal(nbds_error_of(-EINVAL), NBDP_EINVAL);
	assert_int_equal(nbds_error_of(-ENOSPC), NBDP_ENOSPC);
	assert_int_equal(nbds_error_of(-EDQUOT), NBDP_ENOSPC);
	assert_int_equal(nbds_error_of(-EFBIG), NBDP_ENOSPC);
	assert_int_equal(nbds_error_of(-EOVERFLOW), NBDP_EOVERFLOW);
	assert_int_equal(nbds_error_of(-EOPNOTSUPP), NBDP_ENOTSUP);
	assert_int_equal(nbds_error_of(-ETIMEDOUT), NBDP_EIO);
	assert_int_equal(nbds_error_of(-ESHUTDOWN), NBDP_EIO);
}

static void
error_of__every_number(void **state)
{
	uint32_t error;
	int number;

	(void)state;
	for (number = 1; number < 4096; number++) {
		error = nbds_error_of(-number);
		assert_true(error == NBDP_EPERM || error == NBDP_EIO || error == NBDP_ENOMEM ||
			    error == NBDP_EINVAL || error == NBDP_ENOSPC ||
			    error == NBDP_EOVERFLOW || error == NBDP_ENOTSUP);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_of__each_telling_errno),
		cmocka_unit_test(error_of__every_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
