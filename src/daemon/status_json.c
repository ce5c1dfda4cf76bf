/* SPDX-License-Identifier: MIT */
/* One table of numbers, so that each has one name and none is forgotten. */
#include "daemon/status_json.h"

#include "common/json_out.h"
#include "common/page.h"
#include "common/spin_stats.h"
#include "daemon/daemon.h"

/* More than one client's entry and the end of the document take. */
#define CLIENT_ROOM_BYTES 512u

static void
add_slabs(struct json_out *j, const struct daemon_stats *stats)
{
	json_out_open(j, "slabs", '{');
	json_out_u64(j, "max", stats->slabs_max);
	json_out_u64(j, "free", stats->slabs_free);
	json_out_u64(j, "mapped", stats->slabs_mapped);
	json_out_u64(j, "pending", stats->slabs_pending);
	json_out_u64(j, "empty", stats->slabs_empty);
	json_out_u64(j, "lost", stats->slabs_lost);
	json_out_u64(j, "target", stats->slabs_target);
	json_out_close(j, '}');
}

static void
add_memory(struct json_out *j, const struct daemon_stats *stats)
{
	json_out_open(j, "memory", '{');
	json_out_bool(j, "known", stats->has_memory);
	json_out_bool(j, "short", stats->is_short);
	json_out_u64(j, "total_bytes", stats->memory_total_bytes);
	json_out_u64(j, "available_bytes", stats->memory_available_bytes);
	json_out_u64(j, "free_bytes", stats->memory_free_bytes);
	json_out_u64(j, "headroom_bytes", stats->headroom_bytes);
	json_out_u64(j, "usage_permille", stats->usage_permille);
	json_out_close(j, '}');
}

static void
add_evictions(struct json_out *j, const struct daemon_stats *stats)
{
	json_out_open(j, "evictions", '{');
	json_out_u64(j, "slabs_asked", stats->slabs_evicting);
	json_out_u64(j, "batches", stats->eviction_batches_total);
	json_out_u64(j, "slabs", stats->evictions_total);
	json_out_u64(j, "slabs_forced", stats->evictions_forced_total);
	json_out_close(j, '}');
}

static void
add_totals(struct json_out *j, const struct daemon_stats *stats)
{
	json_out_open(j, "totals", '{');
	json_out_u64(j, "joined", stats->joined_total);
	json_out_u64(j, "maps", stats->maps_total);
	json_out_u64(j, "unmaps", stats->unmaps_total);
	json_out_u64(j, "refused", stats->refused_total);
	json_out_u64(j, "protocol_errors", stats->protocol_errors_total);
	json_out_u64(j, "timeouts", stats->timeouts_total);
	json_out_close(j, '}');
}

static uint32_t
add_clients(struct json_out *j, const struct daemon *d, size_t size)
{
	struct daemon_client_info info;
	uint32_t count = 0;

	json_out_open(j, "clients", '[');
	while (j->used + CLIENT_ROOM_BYTES <= size && daemon_get_client(d, count, &info)) {
		json_out_open(j, NULL, '{');
		json_out_string(j, "connection", info.conn_name);
		json_out_string(j, "device", info.device);
		json_out_u64(j, "slabs", info.slabs);
		json_out_close(j, '}');
		count++;
	}
	json_out_close(j, ']');
	return count;
}

size_t
status_json(const struct daemon *d, uint64_t slab_bytes, uint64_t uptime_ns,
	    const struct spin_stats *spin, char *buf, size_t size)
{
	struct daemon_stats stats;
	struct json_out j;

	daemon_get_stats(d, &stats);
	json_out_begin(&j, buf, size);
	json_out_string(&j, "program", "slabswapd");
	json_out_string(&j, "version", SLABSWAP_VERSION);
	json_out_u64(&j, "uptime_ms", uptime_ns / NSEC_PER_MSEC);
	json_out_u64(&j, "slab_bytes", slab_bytes);
	json_out_u64(&j, "connections", stats.connections);
	json_out_u64(&j, "clients_joined", stats.clients);
	add_slabs(&j, &stats);
	add_memory(&j, &stats);
	add_evictions(&j, &stats);
	add_totals(&j, &stats);
	spin_stats_write(spin, uptime_ns, &j);
	json_out_u64(&j, "clients_listed", add_clients(&j, d, size));
	return json_out_end(&j);
}
