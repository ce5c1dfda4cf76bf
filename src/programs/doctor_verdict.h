/* SPDX-License-Identifier: MIT */
/* doctor_verdict.h - what numbers found on a host mean.  Pure. */
#ifndef PROGRAMS_DOCTOR_VERDICT_H
#define PROGRAMS_DOCTOR_VERDICT_H

#include <stdint.h>

enum doctor_verdict {
	DOCTOR_OK = 1,
	DOCTOR_WARNING,
	DOCTOR_FAILURE,
};

/* A limit of memory for a server that holds @need_bytes, and @margin_bytes more that the kernel
 * counts for it.  UINT64_MAX: none. */
enum doctor_verdict doctor_judge_limit(uint64_t limit_bytes, uint64_t need_bytes,
				       uint64_t margin_bytes);

/* Why swap of priority @other beside a device of priority @ours is worth a warning. */
const char *doctor_judge_priority(int other, int ours);

#endif /* PROGRAMS_DOCTOR_VERDICT_H */
