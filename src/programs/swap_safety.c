/* SPDX-License-Identifier: MIT */
#include "programs/swap_safety.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define OOM_SCORE_ADJ_NEVER "-1000"

static void
warn_errno(const char *step, const char *consequence)
{
	log_warn("swap safety: %s: %s; %s", step, strerror(errno), consequence);
}

void
swap_safety_enter(void)
{
	int fd;

	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		warn_errno("PR_SET_IO_FLUSHER", "swapping to this device can deadlock; "
						"give the program CAP_SYS_RESOURCE");
	/* ONFAULT: thread stacks and the like cost only what they use. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		warn_errno("mlockall", "this program itself can be swapped out; "
				       "raise LimitMEMLOCK= or give it CAP_IPC_LOCK");
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, OOM_SCORE_ADJ_NEVER, strlen(OOM_SCORE_ADJ_NEVER)) < 0)
		warn_errno("oom_score_adj", "the OOM killer can choose this program; "
					    "give it CAP_SYS_RESOURCE");
	if (fd >= 0)
		(void)close(fd);
}

void
swap_safety_unlock(void)
{
	log_warn("swap safety: memory for page map and buffers cannot be locked (RLIMIT_MEMLOCK?); "
		 "this program itself can be swapped out; raise LimitMEMLOCK= or give it "
		 "CAP_IPC_LOCK");
	(void)munlockall();
}
