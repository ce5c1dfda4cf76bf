/* SPDX-License-Identifier: MIT */
/*
 * A slot belongs to the helper thread from start() to done(), to the loop thread
 * otherwise; the worker's lock carries it over, there is no other.
 */
#include "loop/slab_memory_host.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/list.h"
#include "common/log.h"
#include "daemon/slab_memory.h"
#include "loop/worker.h"
#include "transport/transport.h"

/* Transparent huge pages need an aligned mapping. */
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

struct slot {
	struct worker_job job;
	struct slab_memory_host *host;
	enum slab_memory_request request;
	int status;
	bool is_busy;  /* the loop thread's */
	uint8_t *base; /* NULL: empty */
	struct tp_region *regions[SLAB_MEMORY_HOST_TPS_MAX];
};

struct slab_memory_host {
	struct slab_memory memory;
	struct worker *worker;
	uint64_t slab_bytes;
	uint32_t slot_count;
	struct tp *tps[SLAB_MEMORY_HOST_TPS_MAX];
	size_t tp_count;
	bool huge_pages;
	struct tp *allocator; /* the transport that lends only memory of its own, or NULL */
	/* the helper thread's */
	bool lock_warned;
	uint32_t filled;
	slab_memory_done_fn *done;
	void *arg;
	struct slot slots[];
};

static struct slab_memory_host *
host_of(struct slab_memory *m)
{
	return container_of(m, struct slab_memory_host, memory);
}

/* Maps more than is needed and gives the ends back. */
static int
map_aligned(uint64_t bytes, uint8_t **ret_base)
{
	const uint64_t align = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0;
	uint8_t *p = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	uint64_t head;

	if (p == MAP_FAILED)
		return -errno;
	if (align) {
		head = (align - (uintptr_t)p % align) % align;
		if (head > 0)
			(void)munmap(p, head);
		if (align - head > 0)
			(void)munmap(p + head + bytes, align - head);
		p += head;
	}
	*ret_base = p;
	return 0;
}

/* Everything that was registered; stops at the first region that does not go. */
static int
release_regions(struct slot *s)
{
	for (size_t i = 0; i < s->host->tp_count; i++) {
		int r = s->regions[i] ? tp_region_release(s->regions[i]) : 0;

		if (r < 0)
			return r;
		s->regions[i] = NULL;
	}
	return 0;
}

static int
drop(struct slot *s)
{
	struct slab_memory_host *h = s->host;
	int r = release_regions(s);

	if (r < 0)
		return r;
	if (h->allocator)
		tp_memory_free(h->allocator, s->base);
	else
		(void)munmap(s->base, h->slab_bytes);
	s->base = NULL;
	h->filled--;
	return 0;
}

static int
register_regions(struct slot *s)
{
	struct slab_memory_host *h = s->host;

	for (size_t i = 0; i < h->tp_count; i++) {
		int r = tp_region_register(h->tps[i], s->base, h->slab_bytes, TP_LEND,
					   &s->regions[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int
allocate(struct slot *s)
{
	struct slab_memory_host *h = s->host;
	const uint64_t most = h->slot_count * h->slab_bytes;
	void *base;
	int r;

	if (!h->allocator)
		return map_aligned(h->slab_bytes, &s->base);
	/* What clients that are gone for us still keep is of the same memory. */
	if (tp_memory_held(h->allocator) + (h->filled + 1) * h->slab_bytes > most)
		return -EBUSY;
	r = tp_memory_new(h->allocator, h->slab_bytes, h->huge_pages, &base);
	if (r == 0)
		s->base = base;
	return r;
}

static int
fill(struct slot *s)
{
	struct slab_memory_host *h = s->host;
	int r;

	r = allocate(s);
	if (r < 0)
		return r;
	h->filled++;
	(void)madvise(s->base, h->slab_bytes, MADV_HUGEPAGE);
	(void)madvise(s->base, h->slab_bytes, MADV_DONTFORK);
	(void)madvise(s->base, h->slab_bytes, MADV_DONTDUMP);
	if (mlock(s->base, h->slab_bytes) < 0 && !h->lock_warned) {
		h->lock_warned = true;
		log_warn("memory: cannot lock slabs, the kernel may swap them out: %s",
			 strerror(errno));
	}
	/* Also without the lock every page is there before a client needs it. */
	if (!h->allocator)
		memset(s->base, 0, h->slab_bytes);
	r = register_regions(s);
	if (r < 0 && drop(s) < 0) {
		/* A device may still reach it: never to be unmapped. */
		memset(s->regions, 0, sizeof(s->regions));
		s->base = NULL;
	}
	return r;
}

static bool
is_spent(const struct slot *s)
{
	for (size_t i = 0; i < s->host->tp_count; i++)
		if (tp_region_is_spent(s->regions[i]))
			return true;
	return false;
}

/* Who had a spent slab may keep it: the next one gets other memory. */
static int
zero(struct slot *s)
{
	int r;

	if (!is_spent(s)) {
		memset(s->base, 0, s->host->slab_bytes);
		return 0;
	}
	r = drop(s);
	if (r < 0)
		return r;
	return fill(s) < 0 ? -ENOMEM : 0;
}

static void
run(struct worker_job *job)
{
	struct slot *s = container_of(job, struct slot, job);

	s->status = 0;
	if (s->request == SLAB_MEMORY_FILL)
		s->status = fill(s);
	else if (s->request == SLAB_MEMORY_ZERO)
		s->status = zero(s);
	else
		s->status = drop(s);
}

static void
done(struct worker_job *job)
{
	struct slot *s = container_of(job, struct slot, job);
	struct slab_memory_host *h = s->host;

	s->is_busy = false;
	h->done(h->arg, s->request, (uint32_t)(s - h->slots), s->status);
}

static void
host_start(struct slab_memory *m, enum slab_memory_request request, uint32_t slot)
{
	struct slab_memory_host *h = host_of(m);
	struct slot *s = &h->slots[slot];

	assert(slot < h->slot_count && !s->is_busy && h->done);
	assert((request == SLAB_MEMORY_FILL) == (s->base == NULL));
	s->is_busy = true;
	s->request = request;
	worker_submit(h->worker, &s->job);
}

static struct tp_region *
host_region(struct slab_memory *m, uint32_t slot, struct tp *tp)
{
	struct slab_memory_host *h = host_of(m);

	assert(slot < h->slot_count && !h->slots[slot].is_busy);
	for (size_t i = 0; i < h->tp_count; i++) {
		if (h->tps[i] == tp)
			return h->slots[slot].regions[i];
	}
	return NULL;
}

static void
host_set_done(struct slab_memory *m, slab_memory_done_fn *fn, void *arg)
{
	host_of(m)->done = fn;
	host_of(m)->arg = arg;
}

static const struct slab_memory_ops HOST_OPS = {
	.start = host_start,
	.region = host_region,
	.set_done = host_set_done,
};

int
slab_memory_host_new(struct worker *worker, uint64_t slab_bytes, uint32_t slots,
		     struct tp *const *tps, size_t tp_count, struct slab_memory **ret_memory)
{
	struct slab_memory_host *h;

	assert(worker && slab_bytes > 0 && slots > 0 && tp_count <= SLAB_MEMORY_HOST_TPS_MAX);
	h = calloc(1, sizeof(*h) + (size_t)slots * sizeof(h->slots[0]));
	if (!h)
		return -ENOMEM;
	h->memory.ops = &HOST_OPS;
	h->worker = worker;
	h->slab_bytes = slab_bytes;
	h->slot_count = slots;
	for (size_t i = 0; i < tp_count; i++) {
		h->tps[i] = tps[i];
		if (tp_has_memory(tps[i]))
			h->allocator = tps[i];
	}
	h->tp_count = tp_count;
	for (uint32_t i = 0; i < slots; i++) {
		h->slots[i].host = h;
		h->slots[i].job.run = run;
		h->slots[i].job.done = done;
	}
	*ret_memory = &h->memory;
	return 0;
}

void
slab_memory_host_use_huge_pages(struct slab_memory *m)
{
	host_of(m)->huge_pages = true;
}

struct slab_memory *
slab_memory_host_free(struct slab_memory *m)
{
	struct slab_memory_host *h;

	if (!m)
		return NULL;
	h = host_of(m);
	for (uint32_t i = 0; i < h->slot_count; i++)
		assert(!h->slots[i].is_busy);
	free(h);
	return NULL;
}
