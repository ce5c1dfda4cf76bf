/* SPDX-License-Identifier: MIT */
/* status_json.h - the daemon's answer to "status". */
#ifndef DAEMON_STATUS_JSON_H
#define DAEMON_STATUS_JSON_H

#include <stddef.h>
#include <stdint.h>

struct daemon;
struct spin_stats;

/*
 * status_json - one JSON document in @buf.
 *
 * "clients" lists as many as fit; "clients_listed" says how many that are.
 * Returns the length, 0 when @size is below what the fixed part needs (2 KiB do).
 */
size_t status_json(const struct daemon *d, uint64_t slab_bytes, uint64_t uptime_ns,
		   const struct spin_stats *spin, char *buf, size_t size);

#endif /* DAEMON_STATUS_JSON_H */
