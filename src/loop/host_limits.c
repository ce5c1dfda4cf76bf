/* SPDX-License-Identifier: MIT */
/* Asked once, at start: what is short then is a line in the log, not an error later. */
#include "loop/host_limits.h"

#include <inttypes.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

uint64_t
host_limits_memory_bytes(void)
{
	struct sysinfo info;

	if (sysinfo(&info) < 0)
		return 0;
	return (uint64_t)info.totalram * info.mem_unit;
}

static bool
can_lock_anything(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	uint64_t effective = 0;
	char line[256];

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "CapEff: %" SCNx64, &effective) == 1)
			break;
	}
	(void)fclose(f);
	return effective & (UINT64_C(1) << CAP_IPC_LOCK);
}

uint64_t
host_limits_lock_bytes(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    can_lock_anything())
		return UINT64_MAX;
	return limit.rlim_cur;
}

void
host_limits_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}
