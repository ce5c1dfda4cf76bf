/* SPDX-License-Identifier: MIT */
/* status_report.h - the JSON document behind `slabswapctl status`. */
#ifndef PROGRAMS_STATUS_REPORT_H
#define PROGRAMS_STATUS_REPORT_H

#include <stddef.h>
#include <stdint.h>

struct dns_names;
struct nbds_server;
struct realtime;
struct server_file_config;
struct slab_device;
struct spin;
struct uring_backup;

struct status_source {
	const struct server_file_config *config;
	const struct slab_device *device;
	const struct nbds_server *nbd;
	const struct uring_backup *backup; /* NULL: none */
	const struct realtime *realtime;
	const struct spin *spin;
	const struct dns_names *dns; /* NULL: stopping */
	uint64_t uptime_ns;
};

/* Writes the document, NUL-terminated, cut when @size is too small.  Returns its length. */
size_t status_report_write(const struct status_source *source, char *buf, size_t size);

#endif /* PROGRAMS_STATUS_REPORT_H */
