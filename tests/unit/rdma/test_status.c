/* SPDX-License-Identifier: MIT */
/* The cores act on these numbers, so each word of the device has exactly one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rdma/status.h"

static void
wc__every_status(void **state)
{
	int status;

	(void)state;
	for (status = IBV_WC_SUCCESS; status <= IBV_WC_TM_RNDV_INCOMPLETE + 1; status++) {
		int expected = -EIO;

		if (status == IBV_WC_SUCCESS)
			expected = 0;
		else if (status == IBV_WC_WR_FLUSH_ERR)
			expected = -ECANCELED;
		else if (status == IBV_WC_RETRY_EXC_ERR || status == IBV_WC_RNR_RETRY_EXC_ERR ||
			 status == IBV_WC_RESP_TIMEOUT_ERR)
			expected = -ETIMEDOUT;
		else if (status == IBV_WC_REM_ACCESS_ERR)
			expected = -EACCES;
		assert_int_equal(vrb_status_of_wc((enum ibv_wc_status)status), expected);
	}
}

static void
cm__never_success(void **state)
{
	int event;

	(void)state;
	for (event = RDMA_CM_EVENT_ADDR_RESOLVED; event <= RDMA_CM_EVENT_TIMEWAIT_EXIT; event++) {
		assert_true(vrb_status_of_cm((enum rdma_cm_event_type)event, 0) < 0);
		assert_int_equal(vrb_status_of_cm((enum rdma_cm_event_type)event, -ENETUNREACH),
				 -ENETUNREACH);
	}
	assert_int_equal(vrb_status_of_cm(RDMA_CM_EVENT_ADDR_ERROR, 0), -EHOSTUNREACH);
	assert_int_equal(vrb_status_of_cm(RDMA_CM_EVENT_UNREACHABLE, 0), -ETIMEDOUT);
	assert_int_equal(vrb_status_of_cm(RDMA_CM_EVENT_CONNECT_ERROR, 3), -EIO);
}

static void
reject__known_codes(void **state)
{
	(void)state;
	assert_int_equal(vrb_status_of_reject(8), -ECONNREFUSED);
	assert_int_equal(vrb_status_of_reject(28), -ECONNREFUSED);
	assert_int_equal(vrb_status_of_reject(-ECONNREFUSED), -ECONNREFUSED);
	assert_int_equal(vrb_status_of_reject(4), -ETIMEDOUT);
	assert_int_equal(vrb_status_of_reject(12), -EPROTO);
	assert_int_equal(vrb_status_of_reject(0), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wc__every_status),
		cmocka_unit_test(cm__never_success),
		cmocka_unit_test(reject__known_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
