/* SPDX-License-Identifier: MIT */
/*
 * Locking comes twice: from the start what is touched stays (MCL_ONFAULT, so that
 * stacks and the like cost only what they use), and at the end all that is mapped
 * by then is touched, program text included.
 */
#include "programs/swap_safety.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/log.h"
#include "loop/host_limits.h"
#include "programs/host_needs.h"
#include "programs/realtime.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
/* include/linux/sched.h of the kernel: what PR_SET_IO_FLUSHER sets. */
#define TASK_MEMALLOC_NOIO UINT64_C(0x00080000)
#define TASK_LOCAL_THROTTLE UINT64_C(0x00100000)
#define TASK_FLUSHER (TASK_MEMALLOC_NOIO | TASK_LOCAL_THROTTLE)

#define OOM_SCORE_ADJ_NEVER "-1000"
#define STACK_BYTES (256u * 1024u)

/* A sanitizer maps terabytes that nobody may touch. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_SHADOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_SHADOW 1
#endif
#endif
#ifndef HAS_SHADOW
#define HAS_SHADOW 0
#endif

static void
failed(struct swap_safety *s, const char *step, int err, const char *consequence)
{
	log_warn("swap safety: %s: %s; %s", step, strerror(err), consequence);
	s->failed_steps++;
}

static void
set_oom_score(struct swap_safety *s)
{
	const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, OOM_SCORE_ADJ_NEVER, strlen(OOM_SCORE_ADJ_NEVER)) < 0)
		failed(s, "oom_score_adj", errno,
		       "the OOM killer can choose this program; set OOMScoreAdjust=-1000 or give "
		       "it CAP_SYS_RESOURCE");
	if (fd >= 0)
		(void)close(fd);
}

void
swap_safety_enter(struct swap_safety *s)
{
	s->is_flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
	if (!s->is_flusher)
		failed(s, "PR_SET_IO_FLUSHER", errno,
		       "swapping to this device can deadlock; give the program CAP_SYS_RESOURCE");
	set_oom_score(s);
	/* One heap that only grows: what is freed is there for the next session, touched and locked. */
	(void)mallopt(M_MMAP_MAX, 0);
	(void)mallopt(M_TRIM_THRESHOLD, INT32_MAX);
	/* Under a limit MCL_FUTURE would make later mappings fail. */
	if (host_limits_lock_bytes() == UINT64_MAX)
		s->locks_future = mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
}

static uint64_t
mapped_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%llu", &pages) != 1)
		pages = 0;
	(void)fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The stack grows by being touched, and nobody may have to wait for that later. */
static void __attribute__((noinline)) touch_stack(void)
{
	volatile char frame[STACK_BYTES];

	for (size_t i = 0; i < sizeof(frame); i += 1024)
		frame[i] = 0;
}

static void
fill_heap(size_t reserve_bytes)
{
	volatile char *reserve = malloc(reserve_bytes);

	if (!reserve)
		return;
	for (size_t i = 0; i < reserve_bytes; i += 1024)
		reserve[i] = 0;
	free((void *)(uintptr_t)reserve);
}

/* Touches and locks all that is mapped; the second call has only what comes later in mind. */
static void
lock_everything(struct swap_safety *s)
{
	const uint64_t limit_bytes = host_limits_lock_bytes();
	const uint64_t needed_bytes = mapped_bytes();
	char consequence[192];
	int r = 0;

	if (HAS_SHADOW)
		return;
	if (needed_bytes > limit_bytes || mlockall(MCL_CURRENT) < 0)
		r = needed_bytes > limit_bytes ? ENOMEM : errno;
	if (r == 0 && s->locks_future && mlockall(MCL_FUTURE | MCL_ONFAULT) < 0)
		r = errno;
	if (r == 0)
		return;
	(void)snprintf(consequence, sizeof(consequence),
		       "this program itself can be swapped out; it needs %" PRIu64
		       " bytes, RLIMIT_MEMLOCK is %" PRIu64
		       ": set LimitMEMLOCK=infinity or give it CAP_IPC_LOCK",
		       needed_bytes, limit_bytes);
	failed(s, "mlockall", r, consequence);
}

static void
take_priority(struct swap_safety *s)
{
	int r = 0;

	if (s->realtime == SERVER_REALTIME_YES)
		r = realtime_enter();
	else if (s->realtime == SERVER_REALTIME_AUTO)
		r = realtime_try();
	if (r < 0)
		failed(s, "SCHED_FIFO", -r,
		       "replies can wait for memory that only real-time tasks get; set "
		       "LimitRTPRIO=10 or give it CAP_SYS_NICE");
}

/* Field 9 of stat; the name in field 2 may hold anything, but the last ")" ends it. */
static bool
task_is_flusher(int tasks_fd, const char *tid)
{
	char path[64], text[512];
	unsigned long long flags = 0;
	const char *rest;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%.32s/stat", tid);
	fd = openat(tasks_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* it has ended */
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return true;
	text[n] = '\0';
	rest = strrchr(text, ')');
	return rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %llu", &flags) == 1 &&
	       (flags & TASK_FLUSHER) == TASK_FLUSHER;
}

/* All threads: those of io_uring are listed too. */
static void
check_tasks(struct swap_safety *s)
{
	const struct dirent *entry;
	DIR *tasks;

	if (!s->is_flusher)
		return; /* said already */
	tasks = opendir("/proc/self/task");
	if (!tasks) {
		failed(s, "/proc/self/task", errno, "threads cannot be checked; mount /proc");
		return;
	}
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.' || task_is_flusher(dirfd(tasks), entry->d_name))
			continue;
		log_warn("swap safety: thread %s has not inherited PR_SET_IO_FLUSHER; swapping to "
			 "this device can deadlock",
			 entry->d_name);
		s->failed_steps++;
	}
	(void)closedir(tasks);
}

/* Of the host, not of this program: a warning, also where the configuration is strict. */
static void
check_host(void)
{
	struct host_need needs[HOST_NEEDS_COUNT];

	host_needs_check("/proc/sys", host_limits_memory_bytes(), needs);
	for (size_t i = 0; i < HOST_NEEDS_COUNT; i++) {
		if (needs[i].verdict != HOST_NEED_UNMET)
			continue;
		log_warn("swap safety: %s is %" PRIu64 ", should be %s%" PRIu64 ": %s; %s",
			 needs[i].name, needs[i].current, needs[i].is_minimum ? "at least " : "",
			 needs[i].wanted, needs[i].why, needs[i].mend);
	}
}

int
swap_safety_settle(struct swap_safety *s)
{
	touch_stack();
	fill_heap(s->reserve_bytes);
	lock_everything(s);
	take_priority(s);
	check_tasks(s);
	check_host();
	if (s->failed_steps == 0 || !s->is_strict)
		return 0;
	log_error("swap safety: %u steps failed and [limits] strict = yes: not starting",
		  s->failed_steps);
	return -EPERM;
}
