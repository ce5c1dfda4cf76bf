/* SPDX-License-Identifier: MIT */
/* A broken contract on the server's side is an abort here: this is a test. */
#include "mem_backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/list.h"
#include "loop/defer.h"
#include "loop/turn_clock.h"

struct mem_io {
	struct backend_io io;
	struct list node;
	double due;
	int status;
	bool is_lent;
	bool is_submitted;
	bool is_done;
	uint8_t *buffer;
};

struct mem_backend {
	struct backend be;
	struct mem_backend_config config;
	struct mem_backend_stats stats;
	struct ev_loop *loop;
	struct turn_clock clock;
	uint8_t *data;
	bool *is_written; /* by page */
	struct mem_io *ios;
	uint8_t *buffers;
	struct list free_ios;
	struct list in_flight;
	uint32_t in_flight_count;
	uint32_t ranges_in_flight;
	uint32_t gets;
	uint32_t random;
	bool owes_resume;
	ev_prepare run;
	ev_timer timer;
	struct defer again;
	struct defer resume_later;
	void (*resume)(void *arg);
	void *resume_arg;
};

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "mem_backend: contract broken: %s\n", #condition);   \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct mem_backend *
mem_of(struct backend *be)
{
	return container_of(be, struct mem_backend, be);
}

static void
check_shape(const struct mem_backend *mem, enum backend_kind kind, uint64_t offset, uint64_t length)
{
	bool is_data = kind == BACKEND_READ || kind == BACKEND_WRITE;

	if (kind == BACKEND_FLUSH) {
		CHECK(!offset && !length);
		return;
	}
	CHECK(length && offset < mem->be.size_bytes && length <= mem->be.size_bytes - offset);
	if (is_data && offset / PAGE_BYTES == (offset + length - 1) / PAGE_BYTES)
		return;
	CHECK(offset % PAGE_BYTES == 0 && length % PAGE_BYTES == 0);
	if (is_data)
		CHECK(offset / BLOCK_BYTES == (offset + length - 1) / BLOCK_BYTES);
	else
		CHECK(length <= BACKEND_RANGE_BYTES_MAX);
}

static void
resume_cb(void *arg)
{
	struct mem_backend *mem = arg;

	if (mem->resume)
		mem->resume(mem->resume_arg);
}

static struct backend_io *
mem_get(struct backend *be, enum backend_kind kind, uint64_t offset_bytes, uint32_t length_bytes)
{
	struct mem_backend *mem = mem_of(be);
	struct mem_io *m;
	struct list *node = NULL;

	check_shape(mem, kind, offset_bytes, length_bytes);
	if (mem->config.null_every && ++mem->gets % mem->config.null_every == 0) {
		mem->stats.nulls++;
		defer_start(&mem->resume_later);
		return NULL;
	}
	node = list_pop_head(&mem->free_ios);
	if (!node) {
		mem->stats.nulls++;
		mem->owes_resume = true;
		return NULL;
	}
	m = container_of(node, struct mem_io, node);
	m->is_lent = true;
	m->is_submitted = false;
	m->is_done = false;
	m->io = (struct backend_io){
		.kind = kind, .offset_bytes = offset_bytes, .length_bytes = length_bytes};
	if (kind == BACKEND_READ || kind == BACKEND_WRITE) {
		m->io.data = m->buffer;
		/* What the server does not fill must not look right by chance. */
		memset(m->buffer, 0xee, length_bytes < 64 ? length_bytes : 64);
	}
	if (++mem->stats.lent > mem->stats.lent_max)
		mem->stats.lent_max = mem->stats.lent;
	return &m->io;
}

static void
mark(struct mem_backend *mem, const struct backend_io *io, bool is_written)
{
	uint64_t page = io->offset_bytes / PAGE_BYTES;
	uint64_t end = (io->offset_bytes + io->length_bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	for (; page < end; page++)
		mem->is_written[page] = is_written;
}

static void
take_range(struct mem_backend *mem, const struct backend_io *io)
{
	memset(mem->data + io->offset_bytes, 0, io->length_bytes);
	mark(mem, io, io->flags & BACKEND_NO_HOLE);
	if (io->flags & BACKEND_FUA)
		mem->stats.fua_ranges++;
	if (++mem->ranges_in_flight > mem->stats.range_in_flight_max)
		mem->stats.range_in_flight_max = mem->ranges_in_flight;
	if (io->kind == BACKEND_TRIM) {
		mem->stats.trims++;
		mem->stats.trimmed_bytes += io->length_bytes;
	} else {
		mem->stats.zeroes++;
	}
}

static int
take_effect(struct mem_backend *mem, struct backend_io *io)
{
	const struct mem_backend_config *config = &mem->config;
	bool is_range = io->kind == BACKEND_TRIM || io->kind == BACKEND_ZERO;
	int status = 0;

	if (config->fail_status && config->fail_kind == io->kind &&
	    (io->kind == BACKEND_FLUSH ||
	     (config->fail_offset_bytes >= io->offset_bytes &&
	      config->fail_offset_bytes - io->offset_bytes < io->length_bytes)))
		status = config->fail_status;
	if (io->kind == BACKEND_ZERO && (io->flags & BACKEND_FAST_ZERO) && config->no_fast_zero)
		status = -EOPNOTSUPP;
	if (status) {
		mem->ranges_in_flight += is_range;
		return status;
	}
	if (io->kind == BACKEND_READ) {
		memcpy(io->data, mem->data + io->offset_bytes, io->length_bytes);
	} else if (io->kind == BACKEND_WRITE) {
		memcpy(mem->data + io->offset_bytes, io->data, io->length_bytes);
		mark(mem, io, true);
		mem->stats.fua_writes += io->flags & BACKEND_FUA ? 1 : 0;
	} else if (io->kind == BACKEND_FLUSH) {
		mem->stats.flushes++;
	} else {
		take_range(mem, io);
	}
	return 0;
}

static void
mem_submit(struct backend *be, struct backend_io *io)
{
	struct mem_backend *mem = mem_of(be);
	struct mem_io *m = container_of(io, struct mem_io, io);

	CHECK(m->is_lent && !m->is_submitted && io->done);
	m->is_submitted = true;
	io->posted_ns = turn_clock_now(&mem->clock);
	m->status = take_effect(mem, io);
	m->due = mem->config.delay_ms ? ev_now(mem->loop) + mem->config.delay_ms / 1000.0 : 0;
	list_add_tail(&mem->in_flight, &m->node);
	mem->in_flight_count++;
	if (!mem->config.delay_ms)
		defer_start(&mem->again);
	else if (!ev_is_active(&mem->timer)) {
		ev_timer_set(&mem->timer, mem->config.delay_ms / 1000.0, 0.);
		ev_timer_start(mem->loop, &mem->timer);
	}
}

static void
mem_put(struct backend *be, struct backend_io *io)
{
	struct mem_backend *mem = mem_of(be);
	struct mem_io *m = container_of(io, struct mem_io, io);

	CHECK(m->is_lent && (m->is_done || !m->is_submitted));
	m->is_lent = false;
	mem->stats.lent--;
	list_add_head(&mem->free_ios, &m->node);
	if (mem->owes_resume) {
		mem->owes_resume = false;
		defer_start(&mem->resume_later);
	}
}

static void
mem_set_resume(struct backend *be, void (*resume)(void *arg), void *arg)
{
	mem_of(be)->resume = resume;
	mem_of(be)->resume_arg = arg;
}

static struct backend_extent
mem_extent(struct backend *be, uint64_t offset_bytes, uint64_t length_bytes)
{
	struct mem_backend *mem = mem_of(be);
	bool is_written = mem->is_written[offset_bytes / PAGE_BYTES];
	uint64_t end = offset_bytes;
	uint32_t pages;

	for (pages = 0; pages < 64 * 1024 && end < offset_bytes + length_bytes &&
			mem->is_written[end / PAGE_BYTES] == is_written;
	     pages++)
		end = (end / PAGE_BYTES + 1) * PAGE_BYTES;
	if (end > offset_bytes + length_bytes)
		end = offset_bytes + length_bytes;
	return (struct backend_extent){.length_bytes = end - offset_bytes,
				       .is_hole_zero = !is_written};
}

static uint32_t
next_random(struct mem_backend *mem)
{
	mem->random = mem->random * 1664525u + 1013904223u;
	return mem->random >> 8;
}

static struct mem_io *
pick(struct mem_backend *mem, uint32_t due)
{
	struct list *node = mem->in_flight.next;
	uint32_t skip = mem->config.reorder_seed ? next_random(mem) % due : 0;

	while (skip--)
		node = node->next;
	return container_of(node, struct mem_io, node);
}

/* Completes what is due now; what callbacks submit waits for the next turn. */
static void
complete(struct mem_backend *mem)
{
	uint32_t due = 0;
	struct mem_io *m;
	struct list *node;

	list_foreach (node, &mem->in_flight) {
		m = container_of(node, struct mem_io, node);
		if (m->due > ev_now(mem->loop) + 0.0005)
			break;
		due++;
	}
	for (; due; due--) {
		m = pick(mem, due);
		list_del(&m->node);
		mem->in_flight_count--;
		if (m->io.kind == BACKEND_TRIM || m->io.kind == BACKEND_ZERO)
			mem->ranges_in_flight--;
		m->is_done = true;
		m->io.done(&m->io, m->status);
	}
}

static void
run_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop;
	(void)revents;
	complete(container_of(w, struct mem_backend, run));
}

static void
again_cb(void *arg)
{
	(void)arg; /* the prepare watcher of this turn does the work */
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct mem_backend *mem = container_of(w, struct mem_backend, timer);
	double first;

	(void)revents;
	complete(mem);
	if (list_is_empty(&mem->in_flight) || ev_is_active(w))
		return;
	first = container_of(mem->in_flight.next, struct mem_io, node)->due;
	ev_timer_set(w, first > ev_now(loop) ? first - ev_now(loop) : 0., 0.);
	ev_timer_start(loop, w);
}

static const struct backend_ops mem_ops = {
	.get = mem_get,
	.submit = mem_submit,
	.put = mem_put,
	.set_resume = mem_set_resume,
	.extent = mem_extent,
};

struct mem_backend *
mem_backend_new(struct ev_loop *loop, const struct mem_backend_config *config)
{
	struct mem_backend *mem = calloc(1, sizeof(*mem));
	uint32_t i;

	CHECK(mem);
	mem->be.ops = &mem_ops;
	mem->be.size_bytes = config->size_bytes;
	mem->config = *config;
	mem->loop = loop;
	mem->random = config->reorder_seed;
	list_init(&mem->free_ios);
	list_init(&mem->in_flight);
	mem->data = mmap(NULL, config->size_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mem->is_written = calloc(config->size_bytes / PAGE_BYTES, sizeof(bool));
	mem->ios = calloc(config->slots, sizeof(*mem->ios));
	mem->buffers = calloc(config->slots, BLOCK_BYTES);
	CHECK(mem->data != MAP_FAILED && mem->is_written && mem->ios && mem->buffers);
	for (i = 0; i < config->slots; i++) {
		mem->ios[i].buffer = mem->buffers + (size_t)i * BLOCK_BYTES;
		list_add_tail(&mem->free_ios, &mem->ios[i].node);
	}
	turn_clock_start(&mem->clock, loop);
	defer_init(&mem->again, loop, again_cb, mem);
	defer_init(&mem->resume_later, loop, resume_cb, mem);
	ev_timer_init(&mem->timer, timer_cb, 0., 0.);
	ev_prepare_init(&mem->run, run_cb);
	ev_set_priority(&mem->run, LOOP_PRI_RUN);
	ev_prepare_start(loop, &mem->run);
	ev_unref(loop);
	return mem;
}

void
mem_backend_free(struct mem_backend *mem)
{
	if (!mem)
		return;
	CHECK(!mem->stats.lent && !mem->in_flight_count);
	turn_clock_stop(&mem->clock);
	ev_ref(mem->loop);
	ev_prepare_stop(mem->loop, &mem->run);
	ev_timer_stop(mem->loop, &mem->timer);
	defer_stop(&mem->again);
	defer_stop(&mem->resume_later);
	(void)munmap(mem->data, mem->config.size_bytes);
	free(mem->is_written);
	free(mem->ios);
	free(mem->buffers);
	free(mem);
}

struct turn_clock *
mem_backend_clock(struct mem_backend *mem)
{
	return &mem->clock;
}

void
mem_backend_reset(struct mem_backend *mem)
{
	uint64_t page;

	CHECK(!mem->stats.lent && !mem->in_flight_count);
	for (page = 0; page < mem->config.size_bytes / PAGE_BYTES; page++) {
		if (mem->is_written[page])
			memset(mem->data + page * PAGE_BYTES, 0, PAGE_BYTES);
		mem->is_written[page] = false;
	}
	mem->gets = 0;
	mem->random = mem->config.reorder_seed;
	mem->stats = (struct mem_backend_stats){0};
}

struct backend *
mem_backend_of(struct mem_backend *mem)
{
	return &mem->be;
}

const struct mem_backend_stats *
mem_backend_stats(const struct mem_backend *mem)
{
	return &mem->stats;
}
