/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client.h"

/* xorshift64* */
static uint64_t
draw(struct run *r)
{
	r->rng ^= r->rng >> 12;
	r->rng ^= r->rng << 25;
	r->rng ^= r->rng >> 27;
	return r->rng * UINT64_C(0x2545f4914f6cdd1d);
}

static void
operation_done(void *arg, const struct slot *slot)
{
	struct run *r = arg;

	if (slot->command == NBDP_CMD_FLUSH)
		return;
	r->n_all++;
	if (r->now_ns >= r->count_from_ns && r->now_ns <= r->submit_until_ns)
		latency_add(&r->latency, r->now_ns - slot->start_ns);
}

static void
submit_next(struct run *r, struct conn *c)
{
	const uint32_t bytes = r->opt.block_bytes;
	const uint64_t blocks = r->size_bytes / bytes;
	const bool reads = draw(r) % 100 < r->opt.read_percent;
	uint64_t offset_bytes;

	if (r->opt.is_sequential) {
		offset_bytes = r->next_bytes;
		r->next_bytes += bytes;
	} else {
		offset_bytes = (draw(r) >> 16) % blocks * bytes;
	}
	r->n_left--;
	conn_submit(c, reads ? NBDP_CMD_READ : NBDP_CMD_WRITE, offset_bytes, bytes, r->now_ns);
}

static bool
submit_all(struct run *r, struct conn *c)
{
	/* The time it took to look at the answers is not the server's. */
	r->now_ns = conn_clock_ns();
	while (c->n_free > 0 && r->n_left > 0 && r->now_ns < r->submit_until_ns)
		submit_next(r, c);
	return conn_flush(c);
}

static bool
receive_and_submit(struct run *r, struct conn *c, int flags)
{
	return conn_receive(c, flags, &r->now_ns) && submit_all(r, c);
}

/* Waits until one of the connections has something, and serves all that do. */
static bool
turn(struct run *r)
{
	struct pollfd fds[RUN_CONNS_MAX];

	if (r->opt.n_conns == 1 && !conn_has_output(&r->conns[0]))
		return receive_and_submit(r, &r->conns[0], 0);
	for (uint32_t i = 0; i < r->opt.n_conns; i++)
		fds[i] = (struct pollfd){
			.fd = r->conns[i].fd,
			.events = POLLIN | (conn_has_output(&r->conns[i]) ? POLLOUT : 0),
		};
	if (poll(fds, r->opt.n_conns, -1) < 0 && errno != EINTR) {
		fprintf(stderr, "load: poll: %s\n", strerror(errno));
		return false;
	}
	for (uint32_t i = 0; i < r->opt.n_conns; i++) {
		if ((fds[i].revents & POLLOUT) && !conn_flush(&r->conns[i]))
			return false;
		if ((fds[i].revents & ~POLLOUT) &&
		    !receive_and_submit(r, &r->conns[i], MSG_DONTWAIT))
			return false;
	}
	return true;
}

static bool
is_idle(const struct run *r)
{
	for (uint32_t i = 0; i < r->opt.n_conns; i++)
		if (conn_in_flight(&r->conns[i]) > 0)
			return false;
	return true;
}

/* Submits what is left to be, and waits for all of it. */
static bool
run_phase(struct run *r)
{
	for (uint32_t i = 0; i < r->opt.n_conns; i++)
		if (!submit_all(r, &r->conns[i]))
			return false;
	while (!is_idle(r))
		if (!turn(r))
			return false;
	return true;
}

static bool
flush_device(struct run *r)
{
	r->n_left = 0;
	conn_submit(&r->conns[0], NBDP_CMD_FLUSH, 0, 0, r->now_ns);
	return run_phase(r);
}

static bool
run_for_time(struct run *r)
{
	r->n_left = UINT64_MAX;
	r->count_from_ns = conn_clock_ns() + r->opt.warmup_ns;
	r->submit_until_ns = r->count_from_ns + r->opt.run_ns;
	r->busy_ns = r->opt.run_ns;
	/* What the server still has to do for the WRITEs is not left to who is measured next. */
	return run_phase(r) && (r->opt.read_percent == 100 || flush_device(r));
}

static bool
run_sequential(struct run *r)
{
	const uint64_t start_ns = conn_clock_ns();

	r->n_left = r->size_bytes / r->opt.block_bytes;
	r->submit_until_ns = UINT64_MAX;
	if (!run_phase(r) || (r->opt.read_percent < 100 && !flush_device(r)))
		return false;
	r->busy_ns = r->now_ns - start_ns;
	return true;
}

static bool
run_bursts(struct run *r)
{
	const uint64_t first_ns = conn_clock_ns() + r->opt.warmup_ns;
	const uint64_t end_ns = first_ns + r->opt.run_ns;

	r->submit_until_ns = UINT64_MAX;
	do {
		const uint64_t start_ns = conn_clock_ns();
		const bool counts = start_ns >= first_ns;

		r->count_from_ns = counts ? 0 : UINT64_MAX;
		r->n_left = r->opt.burst;
		if (!run_phase(r))
			return false;
		if (counts)
			r->busy_ns += r->now_ns - start_ns;
		if (!flush_device(r))
			return false;
	} while (r->now_ns < end_ns || r->busy_ns == 0);
	return true;
}

static bool
connect_all(struct run *r)
{
	for (uint32_t i = 0; i < r->opt.n_conns; i++) {
		const int fd = client_connect(r->opt.path, r->opt.export_name, &r->size_bytes);

		if (fd < 0)
			return false;
		r->n_inited++;
		if (!conn_init(&r->conns[i], &r->common, fd, r->opt.depth, r->opt.block_bytes)) {
			fprintf(stderr, "load: no memory\n");
			return false;
		}
	}
	if (r->size_bytes < r->opt.block_bytes) {
		fprintf(stderr, "load: the device is smaller than a block\n");
		return false;
	}
	return true;
}

bool
run(struct run *r)
{
	r->common = (struct conn_common){
		.verify = r->opt.verify,
		.input = malloc(CONN_INPUT_BYTES),
		.done = operation_done,
		.arg = r,
	};
	r->rng = r->opt.seed * 2 + 1;
	if (r->common.input == NULL) {
		fprintf(stderr, "load: no memory\n");
		return false;
	}
	if (!connect_all(r))
		return false;
	if (r->opt.is_sequential)
		return run_sequential(r);
	return r->opt.burst > 0 ? run_bursts(r) : run_for_time(r);
}

void
run_end(struct run *r)
{
	for (uint32_t i = 0; i < r->n_inited; i++)
		conn_fini(&r->conns[i]);
	free(r->common.input);
}
