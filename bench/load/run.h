/* SPDX-License-Identifier: MIT */
/* run.h - what is asked of the server, and what is counted. */
#ifndef BENCH_LOAD_RUN_H
#define BENCH_LOAD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "latency.h"

#define RUN_CONNS_MAX 16u

struct run_options {
	const char *path;
	const char *export_name;
	uint32_t read_percent;
	uint32_t block_bytes; /* whole pages */
	uint32_t depth;	      /* of each connection */
	uint32_t n_conns;
	uint64_t run_ns;
	uint64_t warmup_ns;
	uint64_t burst;	    /* operations; then a FLUSH, which is not counted.  0: none */
	bool is_sequential; /* the whole device once */
	bool verify;
	uint64_t seed;
};

struct run {
	struct run_options opt;
	struct conn_common common;
	struct conn conns[RUN_CONNS_MAX];
	uint32_t n_inited; /* of conns */
	uint64_t size_bytes;
	uint64_t rng;
	uint64_t now_ns;
	uint64_t submit_until_ns;
	uint64_t n_left;     /* to be submitted, of those that are counted */
	uint64_t next_bytes; /* sequential */
	uint64_t count_from_ns;
	uint64_t n_all;
	uint64_t busy_ns;
	struct latency latency; /* of those that count */
};

/* Connects, runs, and leaves the figures in @r.  False: with a line on stderr. */
bool run(struct run *r);
/* Closes the connections; the figures stay. */
void run_end(struct run *r);

#endif /* BENCH_LOAD_RUN_H */
