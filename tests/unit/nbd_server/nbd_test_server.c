/* SPDX-License-Identifier: MIT */
/*
 * nbd-test-server - the NBD server over plain memory, for foreign clients and for
 * faults that a real device makes only by chance.  Listens until SIGTERM.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "common/log.h"
#include "mem_backend.h"
#include "nbd_server/server.h"

struct program {
	struct ev_loop *loop;
	struct nbds_server *server;
	struct mem_backend *mem;
};

static void
stopped_cb(void *arg)
{
	struct program *program = arg;

	ev_break(program->loop, EVBREAK_ALL);
}

static void
term_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct program *program = w->data;

	(void)revents;
	ev_signal_stop(loop, w);
	nbds_server_stop(program->server, stopped_cb, program);
}

static const struct option options[] = {
	{"listen", required_argument, NULL, 'l'},
	{"listen-fd", required_argument, NULL, 'L'},
	{"size", required_argument, NULL, 's'},
	{"slots", required_argument, NULL, 'n'},
	{"delay-ms", required_argument, NULL, 'd'},
	{"reorder", required_argument, NULL, 'r'},
	{"null-every", required_argument, NULL, 'N'},
	{"fail-kind", required_argument, NULL, 'k'},
	{"fail-offset", required_argument, NULL, 'o'},
	{"fail-errno", required_argument, NULL, 'e'},
	{"no-fast-zero", no_argument, NULL, 'z'},
	{"export", required_argument, NULL, 'x'},
	{"description", required_argument, NULL, 'D'},
	{"max-connections", required_argument, NULL, 'c'},
	{"hold", required_argument, NULL, 'h'},
	{"handshake-ms", required_argument, NULL, 'H'},
	{"stop-ms", required_argument, NULL, 'S'},
	{0},
};

struct arguments {
	struct mem_backend_config mem;
	struct nbds_config server;
	const char *listen[4];
	int listens;
	int listen_fd;
};

static void
parse(int argc, char **argv, struct arguments *args)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t number = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (c) {
		case 'l':
			if (args->listens < 4)
				args->listen[args->listens++] = optarg;
			break;
		case 'L':
			args->listen_fd = (int)number;
			break;
		case 's':
			args->mem.size_bytes = number;
			break;
		case 'n':
			args->mem.slots = (uint32_t)number;
			break;
		case 'd':
			args->mem.delay_ms = (uint32_t)number;
			break;
		case 'r':
			args->mem.reorder_seed = (uint32_t)number;
			break;
		case 'N':
			args->mem.null_every = (uint32_t)number;
			break;
		case 'k':
			args->mem.fail_kind = (enum backend_kind)number;
			break;
		case 'o':
			args->mem.fail_offset_bytes = number;
			break;
		case 'e':
			args->mem.fail_status = -(int)number;
			break;
		case 'z':
			args->mem.no_fast_zero = true;
			break;
		case 'x':
			args->server.export_name = optarg;
			break;
		case 'D':
			args->server.description = optarg;
			break;
		case 'c':
			args->server.max_connections = (uint32_t)number;
			break;
		case 'h':
			args->server.hold_bytes_max = number;
			break;
		case 'H':
			args->server.handshake_timeout_ms = (uint32_t)number;
			break;
		case 'S':
			args->server.stop_timeout_ms = (uint32_t)number;
			break;
		default:
			exit(2);
		}
	}
}

static void
report_stages(const struct nbds_stages *stages)
{
	static const char *const kinds[] = {"read", "write", "flush", "trim"};
	static const char *const names[] = {"queued", "posted", "completed", "answered", "total"};

	for (size_t kind = 0; kind < NBDS_STAGE_KINDS; kind++) {
		(void)fprintf(stderr, " %s_count=%" PRIu64, kinds[kind],
			      stages->times[kind][NBDS_STAGE_TOTAL].count);
		for (size_t i = 0; i < NBDS_STAGES; i++)
			(void)fprintf(stderr, " %s_%s_us=%" PRIu64, kinds[kind], names[i],
				      stages->times[kind][i].max_ns / 1000);
	}
}

static void
report(const struct program *program)
{
	const struct mem_backend_stats *mem = mem_backend_stats(program->mem);
	struct nbds_stats stats;
	size_t i;

	nbds_server_get_stats(program->server, &stats);
	(void)fprintf(stderr,
		      "accepted=%" PRIu64 " refused=%" PRIu64 " errors=%" PRIu64
		      " read_bytes=%" PRIu64 " written_bytes=%" PRIu64 " unknown=%" PRIu64,
		      stats.accepted, stats.refused, stats.errors, stats.read_bytes,
		      stats.written_bytes, stats.unknown_requests);
	for (i = 0; i < NBDP_CMD_COUNT; i++)
		(void)fprintf(stderr, " cmd%zu=%" PRIu64, i, stats.requests[i]);
	report_stages(nbds_server_stages(program->server));
	(void)fprintf(stderr,
		      " lent=%u lent_max=%u nulls=%u flushes=%u fua_writes=%u fua_ranges=%u"
		      " trims=%u zeroes=%u trimmed_bytes=%" PRIu64 " range_in_flight_max=%u\n",
		      mem->lent, mem->lent_max, mem->nulls, mem->flushes, mem->fua_writes,
		      mem->fua_ranges, mem->trims, mem->zeroes, mem->trimmed_bytes,
		      mem->range_in_flight_max);
}

int
main(int argc, char **argv)
{
	struct program program = {.loop = ev_default_loop(0)};
	struct arguments args = {
		.mem = {.size_bytes = 64u << 20, .slots = 512},
		.server = {.export_name = "", .max_connections = 8, .hold_bytes_max = 4u << 20},
		.listen_fd = -1,
	};
	ev_signal term;
	size_t n;
	int i;

	parse(argc, argv, &args);
	log_set_level(LOG_LEVEL_INFO);
	program.mem = mem_backend_new(program.loop, &args.mem);
	args.server.clock = mem_backend_clock(program.mem);
	if (nbds_server_new(program.loop, mem_backend_of(program.mem), &args.server,
			    &program.server) < 0)
		return 2;
	for (i = 0; i < args.listens; i++)
		if (nbds_server_listen(program.server, args.listen[i]) < 0)
			return 1;
	if (args.listen_fd >= 0 && nbds_server_add_listen_fd(program.server, args.listen_fd) < 0)
		return 1;
	ev_signal_init(&term, term_cb, SIGTERM);
	term.data = &program;
	ev_signal_start(program.loop, &term);
	for (n = 0; nbds_server_address(program.server, n); n++)
		(void)fprintf(stderr, "ready %s\n", nbds_server_address(program.server, n));
	ev_run(program.loop, 0);
	report(&program);
	nbds_server_free(program.server);
	mem_backend_free(program.mem);
	ev_loop_destroy(program.loop);
	return 0;
}
