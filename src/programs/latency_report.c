/* SPDX-License-Identifier: MIT */
#include "programs/latency_report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "backup/uring_backup.h"
#include "common/histogram.h"
#include "common/json_out.h"
#include "nbd_server/server.h"
#include "programs/status_report.h"
#include "slab/device.h"

/* Of a daemon in JSON, and of what closes the document behind the last one. */
#define DAEMON_JSON_BYTES 1024u
#define PORTAL_BYTES (SLAB_ADDRESS_BYTES_MAX + 16)

static const char *const kind_names[NBDS_STAGE_KINDS] = {
	[NBDS_STAGE_READ] = "read",
	[NBDS_STAGE_WRITE] = "write",
	[NBDS_STAGE_FLUSH] = "flush",
	[NBDS_STAGE_TRIM] = "trim",
};
static const char *const stage_names[NBDS_STAGES] = {
	[NBDS_STAGE_QUEUED] = "queued",	      [NBDS_STAGE_POSTED] = "posted",
	[NBDS_STAGE_COMPLETED] = "completed", [NBDS_STAGE_ANSWERED] = "answered",
	[NBDS_STAGE_TOTAL] = "total",
};
static const char *const backup_names[BACKUP_OP_KINDS] = {
	[BACKUP_OP_READ] = "read",	 [BACKUP_OP_WRITE] = "write", [BACKUP_OP_SYNC] = "sync",
	[BACKUP_OP_DISCARD] = "discard", [BACKUP_OP_ZERO] = "zero",
};

static bool
is_used(const struct slab_daemon_info *info)
{
	return info->read_times->count > 0 || info->write_times->count > 0;
}

static void
portal_format(const struct slab_daemon_info *info, char portal[PORTAL_BYTES])
{
	(void)snprintf(portal, PORTAL_BYTES, "%s:%s", info->transport, info->address);
}

static void
json_times(struct json_out *j, const char *key, const struct histogram *h)
{
	const struct histogram_summary s = histogram_summarize(h);

	json_out_open(j, key, '{');
	json_out_u64(j, "count", s.count);
	json_out_u64(j, "mean_ns", s.mean_ns);
	json_out_u64(j, "p50_ns", s.p50_ns);
	json_out_u64(j, "p90_ns", s.p90_ns);
	json_out_u64(j, "p99_ns", s.p99_ns);
	json_out_u64(j, "p999_ns", s.p999_ns);
	json_out_u64(j, "max_ns", s.max_ns);
	json_out_close(j, '}');
}

static void
json_daemons(struct json_out *j, const struct slab_device *device)
{
	struct slab_daemon_info info;
	char portal[PORTAL_BYTES];

	json_out_open(j, "daemons", '[');
	for (uint32_t i = 0; slab_device_get_daemon(device, i, &info); i++) {
		if (!is_used(&info) || json_out_room(j) < DAEMON_JSON_BYTES)
			continue;
		portal_format(&info, portal);
		json_out_open(j, NULL, '{');
		json_out_string(j, "portal", portal);
		json_times(j, "read", info.read_times);
		json_times(j, "write", info.write_times);
		json_out_close(j, '}');
	}
	json_out_close(j, ']');
}

void
latency_report_json(struct json_out *j, const struct status_source *source)
{
	const struct nbds_stages *stages = nbds_server_stages(source->nbd);
	struct uring_backup_info backup;

	json_out_open(j, "latency", '{');
	for (size_t kind = 0; kind < NBDS_STAGE_KINDS; kind++) {
		json_out_open(j, kind_names[kind], '{');
		for (size_t i = 0; i < NBDS_STAGES; i++)
			json_times(j, stage_names[i], &stages->times[kind][i]);
		json_out_close(j, '}');
	}
	if (source->backup) {
		uring_backup_info(source->backup, &backup);
		json_out_open(j, "backup", '{');
		for (size_t kind = BACKUP_OP_READ; kind < BACKUP_OP_KINDS; kind++)
			json_times(j, backup_names[kind], &backup.times[kind]);
		json_out_close(j, '}');
	}
	json_daemons(j, source->device);
	json_out_close(j, '}');
}

struct text {
	char *buf;
	size_t size;
	size_t used;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whole pieces only. */
static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->used, t->size - t->used, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < t->size - t->used)
		t->used += (size_t)n;
}

static void
add_row(struct text *t, const char *name, const struct histogram *h)
{
	const struct histogram_summary s = histogram_summarize(h);
	const uint64_t columns[] = {s.mean_ns, s.p50_ns, s.p90_ns, s.p99_ns, s.p999_ns, s.max_ns};
	char cells[sizeof(columns) / sizeof(columns[0]) * 24 + 1];
	size_t used = 0;

	if (s.count == 0)
		return;
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
		used += (size_t)snprintf(cells + used, sizeof(cells) - used, " %10.1f",
					 (double)columns[i] / 1000);
	add(t, "  %-10s %12" PRIu64 "%s\n", name, s.count, cells);
}

static void
add_daemons(struct text *t, const struct slab_device *device)
{
	struct slab_daemon_info info;
	char portal[PORTAL_BYTES];

	for (uint32_t i = 0; slab_device_get_daemon(device, i, &info); i++) {
		if (!is_used(&info))
			continue;
		portal_format(&info, portal);
		add(t, "daemon %s\n", portal);
		add_row(t, "read", info.read_times);
		add_row(t, "write", info.write_times);
	}
}

size_t
latency_report_table(const struct status_source *source, char *buf, size_t size)
{
	const struct nbds_stages *stages = nbds_server_stages(source->nbd);
	struct text t = {.buf = buf, .size = size};
	struct uring_backup_info backup;

	add(&t, "%-12s %12s %10s %10s %10s %10s %10s %10s\n", "us", "count", "mean", "p50", "p90",
	    "p99", "p99.9", "max");
	for (size_t kind = 0; kind < NBDS_STAGE_KINDS; kind++) {
		if (stages->times[kind][NBDS_STAGE_TOTAL].count == 0)
			continue;
		add(&t, "%s\n", kind_names[kind]);
		for (size_t i = 0; i < NBDS_STAGES; i++)
			add_row(&t, stage_names[i], &stages->times[kind][i]);
	}
	if (source->backup) {
		uring_backup_info(source->backup, &backup);
		add(&t, "backup\n");
		for (size_t kind = BACKUP_OP_READ; kind < BACKUP_OP_KINDS; kind++)
			add_row(&t, backup_names[kind], &backup.times[kind]);
	}
	add_daemons(&t, source->device);
	return t.used;
}
