/* SPDX-License-Identifier: MIT */
/* The epoch page is registered with each transport, to be read, and given back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "lib/fake_transport.h"
#include "loop/epoch_page.h"

#define EPOCH UINT64_C(0x0102030405060708)

static void
region__of_each_transport(void **state)
{
	struct fake_net *net = fake_net_new(0);
	struct tp *tps[2] = {fake_tp_new(net), fake_tp_new(net)};
	struct tp *other = fake_tp_new(net);
	struct epoch_page *page = NULL;

	(void)state;
	assert_int_equal(epoch_page_new(EPOCH, tps, 2, &page), 0);
	for (int i = 0; i < 2; i++) {
		assert_non_null(epoch_page_region(page, tps[i]));
		assert_ptr_equal(tp_of(epoch_page_region(page, tps[i])), tps[i]);
	}
	assert_null(epoch_page_region(page, other));
	assert_null(epoch_page_free(page));
	assert_null(epoch_page_free(NULL));
	fake_tp_end(other);
	fake_tp_end(tps[0]);
	fake_tp_end(tps[1]);
	fake_net_free(net);
}

static void
new__cannot_register(void **state)
{
	struct fake_net *net = fake_net_new(0);
	struct tp *tps[2] = {fake_tp_new(net), fake_tp_new(net)};
	struct epoch_page *page = NULL;

	(void)state;
	fake_tp_refuse_register(tps[1], -ENOMEM);
	assert_int_equal(epoch_page_new(EPOCH, tps, 2, &page), -ENOMEM);
	assert_null(page);
	fake_tp_end(tps[0]); /* asserts that no region is left */
	fake_tp_end(tps[1]);
	fake_net_free(net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(region__of_each_transport),
		cmocka_unit_test(new__cannot_register),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
