/* SPDX-License-Identifier: MIT */
/* spin_stats.h - what polling instead of sleeping has cost and brought, for both programs' status. */
#ifndef COMMON_SPIN_STATS_H
#define COMMON_SPIN_STATS_H

#include <stdint.h>

struct json_out;

struct spin_stats {
	uint64_t limit_ns;     /* 0: it does not spin */
	uint64_t length_ns;    /* now */
	uint64_t spun_ns;      /* since the start */
	uint64_t paid_total;   /* waits that ended while polling */
	uint64_t unpaid_total; /* polled in vain, then slept */
};

/* The member "spin" of a status. */
void spin_stats_write(const struct spin_stats *stats, uint64_t uptime_ns, struct json_out *j);

#endif /* COMMON_SPIN_STATS_H */
