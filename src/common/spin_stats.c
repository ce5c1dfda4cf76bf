/* SPDX-License-Identifier: MIT */
#include "common/spin_stats.h"

#include "common/json_out.h"
#include "common/page.h"

void
spin_stats_write(const struct spin_stats *stats, uint64_t uptime_ns, struct json_out *j)
{
	const uint64_t uptime_us = uptime_ns / NSEC_PER_USEC;
	const uint64_t spun_us = stats->spun_ns / NSEC_PER_USEC;

	json_out_open(j, "spin", '{');
	json_out_u64(j, "limit_us", stats->limit_ns / NSEC_PER_USEC);
	json_out_u64(j, "length_us", stats->length_ns / NSEC_PER_USEC);
	json_out_u64(j, "spun_us", spun_us);
	json_out_u64(j, "spun_permille", uptime_us > 0 ? spun_us * 1000 / uptime_us : 0);
	json_out_u64(j, "paid", stats->paid_total);
	json_out_u64(j, "unpaid", stats->unpaid_total);
	json_out_close(j, '}');
}
