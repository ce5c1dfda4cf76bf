/* SPDX-License-Identifier: MIT */
/*
 * tp-peer - both ends of transport.h, to see that an implementation keeps its word.
 *
 *   tp-peer --transport rdma|tcp|shm [options] server ADDRESS
 *   tp-peer --transport rdma|tcp|shm [options] client ADDRESS --test NAME[,NAME...]
 *
 * The server prints "listening ADDRESS", lends memory and does what the first byte
 * of a message says (enum command) until SIGTERM.  The client runs the named tests
 * ("all": those that need nothing special), prints "ok NAME SECONDS" for each, and
 * ends with 1 at the first that fails.
 */
#include "tp-peer.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#ifdef HAVE_RDMA
#include "rdma/rdma.h"
#endif
#include "transport/shm.h"
#include "transport/tcp.h"

void
peer_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fprintf(stderr, "FAILED: ");
	(void)vfprintf(stderr, fmt, ap);
	(void)fprintf(stderr, "\n");
	va_end(ap);
	_exit(1);
}

uint64_t
sum_of(const void *memory, size_t length_bytes)
{
	const uint8_t *bytes = memory;
	uint64_t sum = UINT64_C(14695981039346656037);
	uint64_t word;
	size_t i;

	for (i = 0; i + sizeof(word) <= length_bytes; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		sum = (sum ^ word) * UINT64_C(1099511628211);
	}
	return sum;
}

void *
map_memory(size_t length_bytes)
{
	void *memory = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static void
open_transport(struct env *env)
{
	int r = -EINVAL;

	env->loop = ev_default_loop(0);
	if (strcmp(env->transport, "tcp") == 0)
		r = tcp_tp_new(env->loop, &env->tp);
	if (strcmp(env->transport, "shm") == 0)
		r = shm_tp_new(env->loop, &env->tp);
#ifdef HAVE_RDMA
	if (strcmp(env->transport, "rdma") == 0) {
		struct vrb_tp_config config;

		vrb_tp_config_default(&config);
		config.register_grants = env->register_grants;
		r = vrb_tp_new(env->loop, &config, &env->tp);
	}
#endif
	if (r < 0)
		peer_fail("no transport %s: %s", env->transport, strerror(-r));
}

void
shutdown_done(void *arg)
{
	struct env *env = arg;

	env->is_down = true;
	ev_break(env->loop, EVBREAK_ALL);
}

static int
usage(void)
{
	(void)fprintf(
		stderr,
		"usage: tp-peer --transport rdma|tcp|shm [-v] [--register-grants] [--refuse]\n"
		"               server ADDRESS\n"
		"       tp-peer --transport rdma|tcp|shm [-v] [--unreachable ADDRESS]\n"
		"               client ADDRESS --test NAME[,NAME...]|all\n");
	return 2;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"transport", required_argument, NULL, 't'},
		{"test", required_argument, NULL, 'n'},
		{"unreachable", required_argument, NULL, 'u'},
		{"register-grants", no_argument, NULL, 'g'},
		{"refuse", no_argument, NULL, 'r'},
		{"verbose", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct env env = {0};
	const char *names = NULL;
	bool is_server;
	int o, r;

	while ((o = getopt_long(argc, argv, "v", options, NULL)) != -1) {
		switch (o) {
		case 't':
			env.transport = optarg;
			break;
		case 'n':
			names = optarg;
			break;
		case 'u':
			env.unreachable = optarg;
			break;
		case 'g':
			env.register_grants = true;
			break;
		case 'r':
			env.refuse = true;
			break;
		case 'v':
			log_set_level(log_get_level() < LOG_LEVEL_INFO ? LOG_LEVEL_INFO
								       : LOG_LEVEL_DEBUG);
			break;
		default:
			return usage();
		}
	}
	if (!env.transport || argc - optind != 2)
		return usage();
	is_server = strcmp(argv[optind], "server") == 0;
	if (is_server != !names || (!is_server && strcmp(argv[optind], "client") != 0))
		return usage();
	env.address = argv[optind + 1];
	open_transport(&env);
	r = is_server ? run_server(&env) : run_client(&env, names);
	env.tp = tp_free(env.tp);
	ev_loop_destroy(env.loop);
	return r;
}
