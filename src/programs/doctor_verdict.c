/* SPDX-License-Identifier: MIT */
#include "programs/doctor_verdict.h"

enum doctor_verdict
doctor_judge_limit(uint64_t limit_bytes, uint64_t need_bytes, uint64_t margin_bytes)
{
	if (limit_bytes < need_bytes)
		return DOCTOR_FAILURE;
	return limit_bytes - need_bytes < margin_bytes ? DOCTOR_WARNING : DOCTOR_OK;
}

const char *
doctor_judge_priority(int other, int ours)
{
	if (other > ours)
		return "the kernel fills it before this device";
	if (other == ours)
		return "the kernel spreads pages over both, so half of them are as slow as it";
	return "it takes what does not fit this device: slow, and nobody is told";
}
