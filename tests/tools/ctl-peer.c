/* SPDX-License-Identifier: MIT */
/*
 * ctl-peer - one end of the control protocol, to time what the other end does.
 *
 *   ctl-peer client ADDRESS SLAB_BYTES SLABS ROUNDS
 *   ctl-peer daemon ADDRESS SLAB_BYTES SLABS ROUNDS
 *
 * ADDRESS has its transport: tcp:127.0.0.1:9400, shm:/path, rdma:... .  The client maps
 * SLABS slabs of a slabswapd and gives them back, ROUNDS times.  The daemon prints
 * "listening ADDRESS", lends SLABS slabs to a slabswap-nbd and, each time all of them are
 * lent and idle, takes them back, ROUNDS times.  Either times each request together with
 * one that does nothing, right before it, and prints a line for each: "map 123456" (ns).
 */
#include "ctl-peer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop/clock.h"
#include "programs/transports.h"

#define SLABS_MAX 4096u

void
peer_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fprintf(stderr, "ctl-peer: ");
	(void)vfprintf(stderr, fmt, ap);
	(void)fprintf(stderr, "\n");
	va_end(ap);
	_exit(1);
}

void
peer_send(struct peer *p, const struct ctl_msg *msg)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	const int r = tp_send(p->conn, buf, ctl_encode(msg, buf));

	if (r < 0)
		peer_fail("cannot send %s: %s", ctl_type_name(msg->type), strerror(-r));
}

void
peer_send_timed(struct peer *p, const struct ctl_msg *msg)
{
	p->sent_ns = clock_now_ns();
	peer_send(p, msg);
}

void
peer_print_time(const struct peer *p, const char *name)
{
	(void)printf("%s %llu\n", name, (unsigned long long)(clock_now_ns() - p->sent_ns));
}

void
peer_decode(const void *bytes, size_t length_bytes, struct ctl_msg *ret_msg)
{
	const int r = ctl_decode(bytes, length_bytes, ret_msg);

	if (r < 0)
		peer_fail("a message that cannot be decoded: %s", strerror(-r));
}

static uint64_t
parse_number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || *text == '\0' || *end != '\0' || n == 0 || n > max)
		peer_fail("%s is no number from 1 to %llu", text, (unsigned long long)max);
	return n;
}

static void
stopped_cb(void *arg)
{
	ev_break(arg, EVBREAK_ALL);
}

int
main(int argc, char **argv)
{
	struct transports transports = {0};
	struct peer peer = {0};
	int r;

	if (argc != 6 || (strcmp(argv[1], "client") != 0 && strcmp(argv[1], "daemon") != 0))
		peer_fail("usage: ctl-peer client|daemon ADDRESS SLAB_BYTES SLABS ROUNDS");
	peer.config.slab_bytes = parse_number(argv[3], UINT64_C(1) << 30);
	peer.config.n_slabs = (uint32_t)parse_number(argv[4], SLABS_MAX);
	peer.config.n_rounds = (uint32_t)parse_number(argv[5], UINT32_MAX);
	peer.loop = ev_default_loop(0);
	r = transports_get(&transports, peer.loop, argv[2], &peer.tp, &peer.config.address);
	if (r < 0)
		peer_fail("no transport for %s: %s", argv[2], strerror(-r));
	if (strcmp(argv[1], "client") == 0)
		run_client(&peer);
	else
		run_daemon(&peer);
	transports_stop(&transports, stopped_cb, peer.loop);
	(void)ev_run(peer.loop, 0);
	return fflush(stdout) == 0 ? 0 : 1;
}
