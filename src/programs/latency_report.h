/* SPDX-License-Identifier: MIT */
/* latency_report.h - how long requests, daemons and the backup take: for programs and for people. */
#ifndef PROGRAMS_LATENCY_REPORT_H
#define PROGRAMS_LATENCY_REPORT_H

#include <stddef.h>

struct json_out;
struct status_source;

/* The member "latency"; of its daemons as many as fit. */
void latency_report_json(struct json_out *j, const struct status_source *source);
/* The table behind `slabswapctl latency`, cut when @size is too small.  Returns its length. */
size_t latency_report_table(const struct status_source *source, char *buf, size_t size);

#endif /* PROGRAMS_LATENCY_REPORT_H */
