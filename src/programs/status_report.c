/* SPDX-License-Identifier: MIT */
#include "programs/status_report.h"

#include <stdio.h>
#include <string.h>

#include "backup/uring_backup.h"
#include "common/json_out.h"
#include "common/page.h"
#include "loop/spin.h"
#include "nbd_server/server.h"
#include "nbd_server/server_config_file.h"
#include "programs/dns_names.h"
#include "programs/latency_report.h"
#include "programs/realtime.h"
#include "slab/device.h"

static void
pages_write(struct json_out *j, const struct slab_device_stats *s)
{
	json_out_open(j, "pages", '{');
	json_out_u64(j, "read_remote", s->pages_read_remote);
	json_out_u64(j, "read_backup", s->pages_read_backup);
	json_out_u64(j, "read_buffer", s->pages_read_buffer);
	json_out_u64(j, "read_zero", s->pages_read_zero);
	json_out_u64(j, "written", s->pages_written);
	json_out_u64(j, "written_remote", s->pages_written_remote);
	json_out_u64(j, "written_backup", s->pages_written_backup);
	json_out_u64(j, "promoted", s->pages_promoted);
	json_out_u64(j, "refilled", s->pages_refilled);
	json_out_u64(j, "migrated", s->pages_migrated);
	json_out_u64(j, "trimmed", s->pages_trimmed);
	json_out_u64(j, "zeroed", s->pages_zeroed);
	json_out_u64(j, "degraded", s->pages_degraded);
	json_out_u64(j, "lost", s->pages_lost);
	json_out_close(j, '}');
}

static void
errors_write(struct json_out *j, const struct slab_device_stats *s)
{
	json_out_open(j, "errors", '{');
	json_out_u64(j, "reads", s->read_errors);
	json_out_u64(j, "writes", s->write_errors);
	json_out_u64(j, "backup", s->backup_errors);
	json_out_u64(j, "daemons_lost", s->remote_failures);
	json_out_close(j, '}');
}

static void
slabs_write(struct json_out *j, const struct slab_device_stats *s)
{
	json_out_open(j, "slabs", '{');
	json_out_u64(j, "total", s->slabs);
	json_out_u64(j, "mapped", s->slabs_mapped);
	json_out_u64(j, "hot", s->slabs_hot);
	json_out_u64(j, "maps", s->maps_total);
	json_out_u64(j, "maps_refused", s->maps_refused);
	json_out_close(j, '}');
	json_out_open(j, "placement", '{');
	json_out_u64(j, "started", s->placements_total);
	json_out_u64(j, "failed", s->placements_failed);
	json_out_u64(j, "queries", s->queries_total);
	json_out_u64(j, "queries_unanswered", s->queries_unanswered);
	json_out_close(j, '}');
	json_out_open(j, "activity", '{');
	json_out_u64(j, "pages_per_second", (uint64_t)s->activity_pages_per_second);
	json_out_u64(j, "hottest_pages_per_second", (uint64_t)s->activity_most);
	json_out_close(j, '}');
	json_out_open(j, "evictions", '{');
	json_out_u64(j, "done", s->evictions);
	json_out_u64(j, "late", s->evictions_late);
	json_out_u64(j, "given_back", s->slabs_given_back);
	json_out_u64(j, "migrations_begun", s->migrations_begun);
	json_out_u64(j, "migrations", s->migrations);
	json_out_u64(j, "migrations_failed", s->migrations_failed);
	json_out_u64(j, "us_total", s->evict_ns_total / 1000);
	json_out_u64(j, "us_most", s->evict_ns_max / 1000);
	json_out_close(j, '}');
	json_out_open(j, "memory", '{');
	json_out_u64(j, "buffer_bytes", s->buffer_bytes);
	json_out_u64(j, "buffer_bytes_free", s->buffer_bytes_free);
	json_out_u64(j, "page_map_bytes", s->page_map_bytes);
	json_out_u64(j, "slab_table_bytes", s->slab_table_bytes);
	json_out_u64(j, "writes_unsafe", s->writes_unsafe);
	json_out_u64(j, "writes_kept", s->writes_kept_total);
	json_out_u64(j, "backup_writes_superseded", s->backup_writes_superseded);
	json_out_u64(j, "backup_writes_waiting", s->backup_writes_waiting);
	json_out_u64(j, "backup_writes_merged", s->backup_writes_merged);
	json_out_u64(j, "answers_held", s->answers_held);
	json_out_u64(j, "backup_wait_us", s->backup_wait_ns / 1000);
	json_out_close(j, '}');
}

static const char *
state_name(enum slab_daemon_state state)
{
	switch (state) {
	case SLAB_DAEMON_DOWN:
		return "down";
	case SLAB_DAEMON_UP:
		return "up";
	case SLAB_DAEMON_SUSPECT:
		return "suspect";
	case SLAB_DAEMON_CONTROL_DEAD:
		return "control-dead";
	}
	return "?";
}

static void
health_write(struct json_out *j, const struct slab_device_stats *s)
{
	json_out_open(j, "health", '{');
	json_out_u64(j, "probes", s->probes);
	json_out_u64(j, "suspicions", s->suspicions);
	json_out_u64(j, "reads_hedged", s->reads_hedged);
	json_out_u64(j, "hedges_won", s->hedges_won);
	json_out_close(j, '}');
}

static void
daemons_write(struct json_out *j, const struct status_source *source)
{
	char portal[SLAB_ADDRESS_BYTES_MAX + 16];
	struct slab_daemon_info info;

	json_out_open(j, "daemons", '[');
	for (uint32_t i = 0; slab_device_get_daemon(source->device, i, &info); i++) {
		json_out_open(j, NULL, '{');
		(void)snprintf(portal, sizeof(portal), "%s:%s", info.transport, info.address);
		json_out_string(j, "portal", portal);
		json_out_bool(j, "up", info.is_up);
		json_out_string(j, "state", state_name(info.state));
		json_out_bool(j, "leaving", info.is_leaving);
		json_out_u64(j, "slabs_mapped", info.slabs_mapped);
		json_out_u64(j, "slabs_free", info.slabs_free);
		json_out_string(j, "last_error", info.last_error ? strerror(-info.last_error) : "");
		json_out_close(j, '}');
	}
	json_out_close(j, ']');
}

static void
dns_write(struct json_out *j, const struct dns_names *dns)
{
	struct dns_name_info info;

	json_out_open(j, "dns", '[');
	for (uint32_t i = 0; dns && dns_names_info(dns, i, &info); i++) {
		json_out_open(j, NULL, '{');
		json_out_string(j, "name", info.item);
		json_out_u64(j, "daemons", info.n_addresses);
		json_out_string(j, "last_error", info.error);
		json_out_close(j, '}');
	}
	json_out_close(j, ']');
}

static void
backup_write(struct json_out *j, const struct uring_backup *backup)
{
	struct uring_backup_info info = {.path = "none"};

	if (backup)
		uring_backup_info(backup, &info);
	json_out_open(j, "backup", '{');
	json_out_string(j, "path", info.path);
	json_out_bool(j, "block_device", info.is_block_device);
	json_out_bool(j, "direct", info.is_direct);
	json_out_u64(j, "in_flight", info.in_flight);
	json_out_u64(j, "waiting", info.waiting);
	json_out_close(j, '}');
}

static void
realtime_write(struct json_out *j, const struct realtime *realtime)
{
	json_out_open(j, "realtime", '{');
	json_out_bool(j, "now", realtime_is_entered());
	json_out_u64(j, "switches", realtime->switches_total);
	json_out_u64(j, "below_bytes", realtime->low_bytes);
	json_out_close(j, '}');
}

static void
nbd_write(struct json_out *j, const struct nbds_server *nbd)
{
	struct nbds_stats s;
	const char *address;

	nbds_server_get_stats(nbd, &s);
	json_out_open(j, "nbd", '{');
	json_out_open(j, "listen", '[');
	for (size_t i = 0; (address = nbds_server_address(nbd, i)) != NULL; i++)
		json_out_string(j, NULL, address);
	json_out_close(j, ']');
	json_out_u64(j, "connections", s.connections);
	json_out_u64(j, "accepted", s.accepted);
	json_out_u64(j, "refused", s.refused);
	json_out_u64(j, "reads", s.requests[NBDP_CMD_READ]);
	json_out_u64(j, "writes", s.requests[NBDP_CMD_WRITE]);
	json_out_u64(j, "flushes", s.requests[NBDP_CMD_FLUSH]);
	json_out_u64(j, "trims", s.requests[NBDP_CMD_TRIM]);
	json_out_u64(j, "write_zeroes", s.requests[NBDP_CMD_WRITE_ZEROES]);
	json_out_u64(j, "error_replies", s.errors);
	json_out_u64(j, "read_bytes", s.read_bytes);
	json_out_u64(j, "written_bytes", s.written_bytes);
	json_out_close(j, '}');
}

static void
spin_write(struct json_out *j, const struct status_source *source)
{
	struct spin_stats s;

	spin_get_stats(source->spin, &s);
	spin_stats_write(&s, source->uptime_ns, j);
}

size_t
status_report_write(const struct status_source *source, char *buf, size_t size)
{
	struct slab_device_stats stats;
	struct json_out j;

	slab_device_get_stats(source->device, &stats);
	json_out_begin(&j, buf, size);
	json_out_string(&j, "program", "slabswap-nbd");
	json_out_string(&j, "version", SLABSWAP_VERSION);
	json_out_string(&j, "device", source->config->name);
	json_out_u64(&j, "size_bytes", source->config->size_bytes);
	json_out_u64(&j, "slab_bytes", source->config->slab_bytes);
	json_out_u64(&j, "uptime_ms", source->uptime_ns / NSEC_PER_MSEC);
	pages_write(&j, &stats);
	slabs_write(&j, &stats);
	errors_write(&j, &stats);
	daemons_write(&j, source);
	dns_write(&j, source->dns);
	health_write(&j, &stats);
	backup_write(&j, source->backup);
	nbd_write(&j, source->nbd);
	realtime_write(&j, source->realtime);
	spin_write(&j, source);
	latency_report_json(&j, source);
	return json_out_end(&j);
}
