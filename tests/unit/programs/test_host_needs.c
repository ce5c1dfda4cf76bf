/* SPDX-License-Identifier: MIT */
/* Kernel settings: what is asked of machines of several sizes, and how a host is judged. */
#include "programs/host_needs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

struct fixture {
	char folder[32];
	char vm[48];
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/host-needs-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	(void)snprintf(f->vm, sizeof(f->vm), "%s/vm", f->folder);
	assert_int_equal(mkdir(f->vm, 0700), 0);
	*state = f;
	return 0;
}

static void
set(const struct fixture *f, const char *name, const char *value)
{
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", f->vm, name);
	if (!value) {
		(void)unlink(path);
		return;
	}
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(value, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	set(f, "watermark_boost_factor", NULL);
	set(f, "min_free_kbytes", NULL);
	(void)rmdir(f->vm);
	(void)rmdir(f->folder);
	free(f);
	return 0;
}

static void
min_free__grows_with_memory(void **state)
{
	(void)state;
	assert_int_equal(host_needs_min_free_kib(256 * MIB), 8192);
	assert_int_equal(host_needs_min_free_kib(228 * MIB), 7168);
	assert_int_equal(host_needs_min_free_kib(1024 * MIB), 32768);
	assert_int_equal(host_needs_min_free_kib(2048 * MIB), 65536);
	assert_int_equal(host_needs_min_free_kib(UINT64_C(1) << 40), 65536);
	assert_int_equal(host_needs_min_free_kib(8 * MIB), 1024);
	assert_int_equal(host_needs_min_free_kib(0), 65536);
}

static void
check__good(void **state)
{
	struct fixture *f = *state;
	struct host_need needs[HOST_NEEDS_COUNT];

	set(f, "watermark_boost_factor", "0\n");
	set(f, "min_free_kbytes", "8193\n");
	host_needs_check(f->folder, 256 * MIB, needs);
	for (size_t i = 0; i < HOST_NEEDS_COUNT; i++)
		assert_int_equal(needs[i].verdict, HOST_NEED_OK);
	assert_int_equal(needs[1].current, 8193);
}

static void
check__unmet_says_what_mends_it(void **state)
{
	struct fixture *f = *state;
	struct host_need needs[HOST_NEEDS_COUNT];

	set(f, "watermark_boost_factor", "15000\n");
	set(f, "min_free_kbytes", "8191\n");
	host_needs_check(f->folder, 256 * MIB, needs);
	assert_int_equal(needs[0].verdict, HOST_NEED_UNMET);
	assert_int_equal(needs[0].current, 15000);
	assert_string_equal(needs[0].mend, "sysctl -w vm.watermark_boost_factor=0");
	assert_int_equal(needs[1].verdict, HOST_NEED_UNMET);
	assert_string_equal(needs[1].mend, "sysctl -w vm.min_free_kbytes=8192");
}

static void
check__unknown(void **state)
{
	struct fixture *f = *state;
	struct host_need needs[HOST_NEEDS_COUNT];

	set(f, "min_free_kbytes", "many\n");
	host_needs_check(f->folder, 256 * MIB, needs);
	for (size_t i = 0; i < HOST_NEEDS_COUNT; i++)
		assert_int_equal(needs[i].verdict, HOST_NEED_UNKNOWN);
}

static void
swaps__nbd_is_found(void **state)
{
	static const char head[] = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
	struct fixture *f = *state;
	char path[64], text[512], device[32] = "";

	(void)snprintf(path, sizeof(path), "%s/swaps", f->vm);
	assert_false(host_needs_swaps_to_nbd(path, device, sizeof(device)));
	(void)snprintf(text, sizeof(text), "%s/dev/vda5   partition\t1000\t0\t-2\n", head);
	set(f, "swaps", text);
	assert_false(host_needs_swaps_to_nbd(path, device, sizeof(device)));
	(void)snprintf(text, sizeof(text),
		       "%s/dev/vda5   partition\t1000\t0\t-2\n/dev/nbd12 partition\t9\t0\t100\n",
		       head);
	set(f, "swaps", text);
	assert_true(host_needs_swaps_to_nbd(path, device, sizeof(device)));
	assert_string_equal(device, "/dev/nbd12");
	set(f, "swaps", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(min_free__grows_with_memory),
		cmocka_unit_test_setup_teardown(check__good, setup, teardown),
		cmocka_unit_test_setup_teardown(check__unmet_says_what_mends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(check__unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(swaps__nbd_is_found, setup, teardown),
	};

	return cmocka_run_group_tests_name("host_needs", tests, NULL, NULL);
}
