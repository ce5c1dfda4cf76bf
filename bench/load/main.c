/* SPDX-License-Identifier: MIT */
/*
 * Load on an NBD server, from one thread, as cheap for each request as can be: all that the
 * depth allows is sent with one call, and all answers that are there are received with one.
 * Figures come as JSON; bench/run runs it.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/page.h"
#include "run.h"

static void
usage(void)
{
	fputs("usage: load --socket PATH [--export NAME] [--rw read|write|mix] [--block BYTES]\n"
	      "            [--depth N] [--connections N] [--seconds S] [--warmup S] [--burst N]\n"
	      "            [--sequential] [--verify] [--seed N]\n"
	      "Load on an NBD server at a Unix socket; mix: 70 % are read.\n"
	      "  --burst N     N operations, then a FLUSH that is not counted, and again\n"
	      "  --sequential  the whole device once, from its begin to its end\n"
	      "  --verify      what is read must have been written by this program\n"
	      "Exit status: 0, or 1 when a request failed or a page was wrong.\n",
	      stderr);
	exit(2);
}

static uint64_t
number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	const uint64_t n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < least || n > most)
		usage();
	return n;
}

static uint64_t
duration_ns(const char *text)
{
	char *end;
	const double seconds = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(seconds >= 0 && seconds <= 86400))
		usage();
	return (uint64_t)(seconds * 1e9);
}

static uint32_t
read_percent(const char *text)
{
	if (strcmp(text, "read") == 0)
		return 100;
	if (strcmp(text, "mix") == 0)
		return 70;
	if (strcmp(text, "write") != 0)
		usage();
	return 0;
}

static void
parse_option(struct run_options *o, int option)
{
	switch (option) {
	case 's':
		o->path = optarg;
		break;
	case 'e':
		o->export_name = optarg;
		break;
	case 'r':
		o->read_percent = read_percent(optarg);
		break;
	case 'b':
		o->block_bytes = (uint32_t)number(optarg, PAGE_BYTES, NBDP_PAYLOAD_BYTES_MAX);
		break;
	case 'd':
		o->depth = (uint32_t)number(optarg, 1, CONN_DEPTH_MAX);
		break;
	case 'c':
		o->n_conns = (uint32_t)number(optarg, 1, RUN_CONNS_MAX);
		break;
	case 't':
		o->run_ns = duration_ns(optarg);
		break;
	case 'w':
		o->warmup_ns = duration_ns(optarg);
		break;
	case 'B':
		o->burst = number(optarg, 1, UINT32_MAX);
		break;
	case 'q':
		o->is_sequential = true;
		break;
	case 'v':
		o->verify = true;
		break;
	case 'S':
		o->seed = number(optarg, 0, UINT32_MAX);
		break;
	default:
		usage();
	}
}

static void
parse_options(struct run_options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"socket", required_argument, NULL, 's'},
		{"export", required_argument, NULL, 'e'},
		{"rw", required_argument, NULL, 'r'},
		{"block", required_argument, NULL, 'b'},
		{"depth", required_argument, NULL, 'd'},
		{"connections", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 't'},
		{"warmup", required_argument, NULL, 'w'},
		{"burst", required_argument, NULL, 'B'},
		{"sequential", no_argument, NULL, 'q'},
		{"verify", no_argument, NULL, 'v'},
		{"seed", required_argument, NULL, 'S'},
		{NULL, 0, NULL, 0},
	};
	int option;

	*o = (struct run_options){
		.export_name = "",
		.read_percent = 100,
		.block_bytes = PAGE_BYTES,
		.depth = 1,
		.n_conns = 1,
		.run_ns = UINT64_C(1000000000),
		.seed = 1,
	};
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		parse_option(o, option);
	if (optind != argc || o->path == NULL || o->block_bytes % PAGE_BYTES != 0 || o->run_ns == 0)
		usage();
}

static uint64_t
own_cpu_us(void)
{
	struct rusage usage_now;

	(void)getrusage(RUSAGE_SELF, &usage_now);
	return (uint64_t)(usage_now.ru_utime.tv_sec + usage_now.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(usage_now.ru_utime.tv_usec + usage_now.ru_stime.tv_usec);
}

static void
print_figures(const struct run *r)
{
	const struct latency *l = &r->latency;
	const double seconds = (double)r->busy_ns / 1e9;

	printf("{\"operations\": %" PRIu64 ", \"all_operations\": %" PRIu64 ", \"seconds\": %.6f, "
	       "\"iops\": %.1f, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
	       "\"p999_us\": %.2f, \"max_us\": %.2f, \"load_cpu_us\": %" PRIu64
	       ", \"size_bytes\": %" PRIu64 ", \"mismatches\": %" PRIu64 "}\n",
	       l->count, r->n_all, seconds, seconds > 0 ? (double)l->count / seconds : 0,
	       (double)latency_mean_ns(l) / 1e3, (double)latency_quantile_ns(l, 0.5) / 1e3,
	       (double)latency_quantile_ns(l, 0.99) / 1e3,
	       (double)latency_quantile_ns(l, 0.999) / 1e3, (double)l->max_ns / 1e3, own_cpu_us(),
	       r->size_bytes, r->common.n_mismatches);
}

int
main(int argc, char **argv)
{
	struct run *r = calloc(1, sizeof(*r));
	bool is_good;

	if (r == NULL) {
		fprintf(stderr, "load: no memory\n");
		return 1;
	}
	parse_options(&r->opt, argc, argv);
	is_good = run(r);
	if (is_good)
		print_figures(r);
	is_good = is_good && r->common.n_mismatches == 0;
	run_end(r);
	free(r);
	return is_good ? 0 : 1;
}
