/* SPDX-License-Identifier: MIT */
/* What --doctor reads of /proc, /sys and disks, as kernels write it and as they do not. */
#include "programs/doctor_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
swap__lines_of_the_kernel(void **state)
{
	struct doctor_swap swap = {.priority = 77};

	(void)state;
	assert_false(
		doctor_parse_swap("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n", &swap));
	assert_int_equal(swap.priority, 77);
	assert_true(doctor_parse_swap(
		"/dev/nbd0                               partition\t262140\t\t1024\t\t100\n",
		&swap));
	assert_string_equal(swap.path, "/dev/nbd0");
	assert_int_equal(swap.priority, 100);
	assert_true(doctor_parse_swap("/dev/vda2  partition\t262140\t0\t-2\n", &swap));
	assert_int_equal(swap.priority, -2);
	assert_true(doctor_parse_swap("/a\\040b\\134c\\012 file 4 0 -3\n", &swap));
	assert_string_equal(swap.path, "/a b\\c\n");
	assert_true(doctor_parse_swap("/swap\\0 file 4 0 5\n", &swap));
	assert_string_equal(swap.path, "/swap\\0");
}

static void
swap__lines_cut_short(void **state)
{
	struct doctor_swap swap;

	(void)state;
	assert_false(doctor_parse_swap("", &swap));
	assert_false(doctor_parse_swap("/dev/vda2\n", &swap));
	assert_false(doctor_parse_swap("/dev/vda2 partition 262140 0\n", &swap));
}

static void
key__meminfo(void **state)
{
	uint64_t value = 7;

	(void)state;
	assert_true(doctor_parse_key("MemTotal:       16303428 kB\n", "MemTotal", 10, &value));
	assert_int_equal(value, 16303428);
	assert_false(doctor_parse_key("MemTotalX:      1 kB\n", "MemTotal", 10, &value));
	assert_false(doctor_parse_key("MemFree:        1 kB\n", "MemTotal", 10, &value));
	assert_false(doctor_parse_key("MemTotal:        kB\n", "MemTotal", 10, &value));
	assert_false(doctor_parse_key("MemTotal: -1 kB\n", "MemTotal", 10, &value));
	assert_false(
		doctor_parse_key("MemTotal: 99999999999999999999 kB\n", "MemTotal", 10, &value));
	assert_false(doctor_parse_key("MemTotal", "MemTotal", 10, &value));
	assert_int_equal(value, 16303428);
}

static void
key__capabilities(void **state)
{
	uint64_t value = 0;

	(void)state;
	assert_true(doctor_parse_key("CapEff:\t000001ffffffffff\n", "CapEff", 16, &value));
	assert_true(value == UINT64_C(0x1ffffffffff));
	assert_true(doctor_parse_key("CapEff:\t0000000000004000\n", "CapEff", 16, &value));
	assert_true(value == UINT64_C(1) << 14);
	assert_false(doctor_parse_key("CapEff:\n", "CapEff", 16, &value));
}

static void
release__of_kernels(void **state)
{
	unsigned int major = 0, minor = 0;

	(void)state;
	assert_true(doctor_parse_release("6.1.0-28-amd64", &major, &minor));
	assert_int_equal(major, 6);
	assert_int_equal(minor, 1);
	assert_true(doctor_parse_release("5.10-rc1", &major, &minor));
	assert_int_equal(minor, 10);
	assert_false(doctor_parse_release("linux", &major, &minor));
	assert_int_equal(major, 5);
}

static void
choice__in_brackets(void **state)
{
	char word[8] = "";

	(void)state;
	assert_true(doctor_parse_choice("always [madvise] never", word, sizeof(word)));
	assert_string_equal(word, "madvise");
	assert_false(doctor_parse_choice("always madvise never", word, sizeof(word)));
	assert_false(doctor_parse_choice("always [madvise", word, sizeof(word)));
	assert_false(doctor_parse_choice("[eightmax]", word, sizeof(word)));
	assert_string_equal(word, "madvise");
}

static void
cgroup__version_2_only(void **state)
{
	char path[32] = "";

	(void)state;
	assert_false(doctor_parse_cgroup("4:memory:/docker/1\n", path, sizeof(path)));
	assert_true(doctor_parse_cgroup("0::/\n", path, sizeof(path)));
	assert_string_equal(path, "/");
	assert_true(doctor_parse_cgroup("0::/system.slice/x.service\n", path, sizeof(path)));
	assert_string_equal(path, "/system.slice/x.service");
	assert_false(
		doctor_parse_cgroup("0::/0123456789012345678901234567890\n", path, sizeof(path)));
}

static void
limit__bytes_or_max(void **state)
{
	uint64_t value = 7;

	(void)state;
	assert_true(doctor_parse_limit("max\n", &value));
	assert_true(value == UINT64_MAX);
	assert_true(doctor_parse_limit("104857600", &value));
	assert_int_equal(value, 104857600);
	assert_false(doctor_parse_limit("maximum", &value));
	assert_false(doctor_parse_limit("", &value));
	assert_false(doctor_parse_limit("-1", &value));
	assert_false(doctor_parse_limit("12k", &value));
	assert_int_equal(value, 104857600);
}

static void
attach__device(void **state)
{
	char device[16] = "";

	(void)state;
	assert_true(doctor_parse_attach("NBD_DEVICE=/dev/nbd3\n", device, sizeof(device)));
	assert_string_equal(device, "/dev/nbd3");
	assert_false(doctor_parse_attach("#NBD_DEVICE=/dev/nbd4\n", device, sizeof(device)));
	assert_false(doctor_parse_attach("NBD_DEVICE=\n", device, sizeof(device)));
	assert_false(doctor_parse_attach("MKSWAP=yes\n", device, sizeof(device)));
	assert_string_equal(device, "/dev/nbd3");
}

static void
signature__of_what_disks_hold(void **state)
{
	static const struct {
		size_t offset;
		const char *bytes;
		const char *word;
	} disks[] = {
		{4086, "SWAPSPACE2", "swap signature"},
		{1080, "\x53\xef", "ext4"},
		{0, "XFSB", "xfs"},
		{65600, "_BHRfS_M", "btrfs"},
		{0, "LUKS\xba\xbe", "LUKS"},
		{536, "LVM2 001", "LVM"},
		{512, "EFI PART", "GPT"},
		{510, "\x55\xaa", "partition table"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
		uint8_t *head = calloc(1, DOCTOR_SIGNATURE_BYTES);
		const size_t end = disks[i].offset + strlen(disks[i].bytes);
		const char *name;

		assert_non_null(head);
		assert_null(doctor_signature(head, DOCTOR_SIGNATURE_BYTES));
		memcpy(head + disks[i].offset, disks[i].bytes, strlen(disks[i].bytes));
		name = doctor_signature(head, DOCTOR_SIGNATURE_BYTES);
		assert_non_null(name);
		assert_non_null(strstr(name, disks[i].word));
		assert_non_null(doctor_signature(head, end));
		assert_null(doctor_signature(head, end - 1));
		free(head);
	}
}

static void
signature__nothing_to_read(void **state)
{
	(void)state;
	assert_null(doctor_signature((const uint8_t *)"", 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(swap__lines_of_the_kernel),
		cmocka_unit_test(swap__lines_cut_short),
		cmocka_unit_test(key__meminfo),
		cmocka_unit_test(key__capabilities),
		cmocka_unit_test(release__of_kernels),
		cmocka_unit_test(choice__in_brackets),
		cmocka_unit_test(cgroup__version_2_only),
		cmocka_unit_test(limit__bytes_or_max),
		cmocka_unit_test(attach__device),
		cmocka_unit_test(signature__of_what_disks_hold),
		cmocka_unit_test(signature__nothing_to_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
