/* SPDX-License-Identifier: MIT */
#include "loop/clock.h"

#include <time.h>

#include "common/page.h"

uint64_t
clock_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}
