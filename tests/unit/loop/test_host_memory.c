/* SPDX-License-Identifier: MIT */
/* What is read of a machine: its own memory, and the limits of control groups of both versions. */
#include "loop/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
#define MEMINFO                                                                                    \
	"MemTotal:        1048576 kB\nMemFree:           10240 kB\nMemAvailable:     524288 kB\n"

struct fixture {
	char root[64];
	struct host_memory hm;
	struct host_memory_sample sample;
};

/* The folders of @path are made too. */
static void
put(const struct fixture *f, const char *path, const char *text)
{
	char name[256];
	int fd;

	(void)snprintf(name, sizeof(name), "%s/%s", f->root, path);
	for (char *s = strchr(name + strlen(f->root) + 1, '/'); s; s = strchr(s + 1, '/')) {
		*s = '\0';
		assert_true(mkdir(name, 0700) == 0 || errno == EEXIST);
		*s = '/';
	}
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->root, sizeof(f->root), "/tmp/slabswap-host-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	host_memory_init(&f->hm, f->root);
	put(f, "proc/meminfo", MEMINFO);
	*state = f;
	return 0;
}

static int
remove_cb(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(nftw(f->root, remove_cb, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(f);
	return 0;
}

static void
check(struct fixture *f, uint64_t total_mib, uint64_t available_mib)
{
	assert_int_equal(host_memory_read(&f->hm, &f->sample), 0);
	assert_int_equal(f->sample.total_bytes, total_mib * MIB);
	assert_int_equal(f->sample.available_bytes, available_mib * MIB);
}

/* The file cache can be had back at once: it is no reason to take slabs from anybody. */
static void
s13_file_cache_counts_as_available(void **state)
{
	struct fixture *f = *state;

	check(f, 1024, 512);
	assert_int_equal(f->sample.psi_centi, 0);
	/* In bytes, not in whole GiB. */
	put(f, "proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 4 kB\n");
	assert_int_equal(host_memory_read(&f->hm, &f->sample), 0);
	assert_int_equal(f->sample.available_bytes, 4096);
}

static void
meminfo__missing(void **state)
{
	struct fixture *f = *state;
	char path[128];

	f->sample.total_bytes = 42;
	put(f, "proc/meminfo", "MemTotal: 1048576 kB\nMemFree: 10240 kB\n");
	assert_int_equal(host_memory_read(&f->hm, &f->sample), -ENODATA);
	put(f, "proc/meminfo", "MemTotal: x\nMemAvailable: 3 kB\n");
	assert_int_equal(host_memory_read(&f->hm, &f->sample), -ENODATA);
	put(f, "proc/meminfo", "");
	assert_int_equal(host_memory_read(&f->hm, &f->sample), -ENODATA);
	(void)snprintf(path, sizeof(path), "%s/proc/meminfo", f->root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(host_memory_read(&f->hm, &f->sample), -ENOENT);
	assert_int_equal(f->sample.total_bytes, 42);
}

static void
psi(void **state)
{
	struct fixture *f = *state;

	put(f, "proc/pressure/memory",
	    "some avg10=12.34 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0 total=0\n");
	check(f, 1024, 512);
	assert_int_equal(f->sample.psi_centi, 1234);
	put(f, "proc/pressure/memory", "some avg10=100.00 avg60=1.00 avg300=0.00 total=5\n");
	check(f, 1024, 512);
	assert_int_equal(f->sample.psi_centi, 10000);
	put(f, "proc/pressure/memory", "what is this\n");
	check(f, 1024, 512);
	assert_int_equal(f->sample.psi_centi, 0);
}

static void
group_v2__limit(void **state)
{
	struct fixture *f = *state;

	put(f, "proc/self/cgroup", "0::/system.slice/slabswapd.service\n");
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.max", "max\n");
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.current", "104857600\n");
	check(f, 1024, 512);
	/* 256 MiB of which 100 are used, of these 40 by the file cache. */
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.max", "268435456\n");
	check(f, 256, 156);
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.stat",
	    "anon 62914560\nfile 1\nactive_file 20971520\ninactive_file 20971520\n"
	    "slab_reclaimable 0\n");
	check(f, 256, 196);
	/* What throttles is a limit too. */
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.high", "134217728\n");
	check(f, 128, 68);
	/* Used beyond the limit, as after lowering it. */
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.high", "1048576\n");
	check(f, 1, 0);
	/* A limit that leaves more than the machine has is none. */
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.high", "max\n");
	put(f, "sys/fs/cgroup/system.slice/slabswapd.service/memory.max", "4294967296\n");
	check(f, 1024, 512);
}

static void
group_v2__of_an_ancestor(void **state)
{
	struct fixture *f = *state;

	put(f, "proc/self/cgroup", "0::/a/b/c\n");
	put(f, "sys/fs/cgroup/a/b/c/memory.max", "max\n");
	put(f, "sys/fs/cgroup/a/b/c/memory.current", "1048576\n");
	put(f, "sys/fs/cgroup/a/memory.max", "209715200\n");
	put(f, "sys/fs/cgroup/a/memory.current", "104857600\n");
	check(f, 200, 100);
	/* The one that leaves the least wins, not the smallest. */
	put(f, "sys/fs/cgroup/memory.max", "838860800\n");
	put(f, "sys/fs/cgroup/memory.current", "786432000\n");
	check(f, 800, 50);
}

/* The path is the machine's, the mount shows the container only. */
static void
group_v2__container_without_namespace(void **state)
{
	struct fixture *f = *state;

	put(f, "proc/self/cgroup", "0::/docker/0123\n");
	put(f, "sys/fs/cgroup/memory.max", "104857600\n");
	put(f, "sys/fs/cgroup/memory.current", "4194304\n");
	check(f, 100, 96);
}

static void
group_v1__limit(void **state)
{
	struct fixture *f = *state;

	put(f, "proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/jobs/1\n0::/\n");
	put(f, "sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes", "9223372036854771712\n");
	put(f, "sys/fs/cgroup/memory/jobs/1/memory.usage_in_bytes", "104857600\n");
	check(f, 1024, 512);
	put(f, "sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes", "209715200\n");
	put(f, "sys/fs/cgroup/memory/jobs/1/memory.stat",
	    "active_file 1\ntotal_active_file 10485760\ntotal_inactive_file 10485760\n");
	check(f, 200, 120);
}

/* Whatever the files hold, there is an answer and nothing is written beyond a buffer. */
static void
group__nonsense(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(20000);

	assert_non_null(text);
	memset(text, 'a', 19999);
	text[19999] = '\0';
	memcpy(text, "0::/", strlen("0::/"));
	put(f, "proc/self/cgroup", text);
	check(f, 1024, 512);
	put(f, "proc/self/cgroup", "0::\n");
	check(f, 1024, 512);
	put(f, "proc/self/cgroup", "\n\n::\n0::/a");
	put(f, "sys/fs/cgroup/a/memory.max", "-5\n");
	put(f, "sys/fs/cgroup/a/memory.current", "");
	check(f, 1024, 512);
	put(f, "sys/fs/cgroup/a/memory.max", "104857600");
	check(f, 1024, 512);
	memset(text, '\n', 19999);
	put(f, "sys/fs/cgroup/a/memory.current", "1");
	put(f, "sys/fs/cgroup/a/memory.stat", text);
	assert_int_equal(host_memory_read(&f->hm, &f->sample), 0);
	assert_int_equal(f->sample.available_bytes, 100 * MIB - 1);
	free(text);
}

/* The machine that the test runs on. */
static void
real__sane(void **state)
{
	struct fixture *f = *state;

	host_memory_init(&f->hm, "");
	assert_int_equal(host_memory_read(&f->hm, &f->sample), 0);
	assert_true(f->sample.total_bytes > MIB);
	assert_true(f->sample.available_bytes <= f->sample.total_bytes);
	assert_in_range(f->sample.psi_centi, 0, 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(s13_file_cache_counts_as_available),
		TEST(meminfo__missing),
		TEST(psi),
		TEST(group_v2__limit),
		TEST(group_v2__of_an_ancestor),
		TEST(group_v2__container_without_namespace),
		TEST(group_v1__limit),
		TEST(group__nonsense),
		TEST(real__sane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
