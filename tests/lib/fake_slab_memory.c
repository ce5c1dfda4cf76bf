/* SPDX-License-Identifier: MIT */
/* Plain memory, and a queue of requests in the order in which they came. */
#undef NDEBUG /* these checks are the point */
#include "lib/fake_slab_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/fake_transport.h"

#define SCRIBBLE 0xee

struct slot {
	struct list node; /* on the queue while a request waits */
	enum slab_memory_request request;
	uint8_t *bytes;
	struct tp_region *regions[FAKE_SLAB_MEMORY_TPS_MAX];
};

struct fake_slab_memory {
	struct slab_memory memory;
	struct list queue;
	uint64_t slab_bytes;
	uint32_t slot_count;
	struct tp *tps[FAKE_SLAB_MEMORY_TPS_MAX];
	size_t tp_count;
	slab_memory_done_fn *done;
	void *arg;
	struct slot slots[];
};

static struct fake_slab_memory *
fake_of(const struct slab_memory *m)
{
	return container_of((struct slab_memory *)(uintptr_t)m, struct fake_slab_memory, memory);
}

static void
fake_start(struct slab_memory *m, enum slab_memory_request request, uint32_t slot)
{
	struct fake_slab_memory *f = fake_of(m);
	struct slot *s = &f->slots[slot];

	assert(slot < f->slot_count && !list_is_linked(&s->node) && f->done);
	assert((request == SLAB_MEMORY_FILL) == (s->bytes == NULL));
	s->request = request;
	list_add_tail(&f->queue, &s->node);
}

static struct tp_region *
fake_region(struct slab_memory *m, uint32_t slot, struct tp *tp)
{
	struct fake_slab_memory *f = fake_of(m);

	assert(slot < f->slot_count && f->slots[slot].bytes);
	for (size_t i = 0; i < f->tp_count; i++) {
		if (f->tps[i] == tp)
			return f->slots[slot].regions[i];
	}
	assert(!"a transport that the memory was not told of");
	return NULL;
}

static void
fake_set_done(struct slab_memory *m, slab_memory_done_fn *done, void *arg)
{
	fake_of(m)->done = done;
	fake_of(m)->arg = arg;
}

static const struct slab_memory_ops FAKE_OPS = {
	.start = fake_start,
	.region = fake_region,
	.set_done = fake_set_done,
};

struct slab_memory *
fake_slab_memory_new(uint64_t slab_bytes, uint32_t slots, struct tp **tps, size_t tp_count)
{
	struct fake_slab_memory *f = calloc(1, sizeof(*f) + slots * sizeof(f->slots[0]));

	assert(f && tp_count <= FAKE_SLAB_MEMORY_TPS_MAX);
	f->memory.ops = &FAKE_OPS;
	f->slab_bytes = slab_bytes;
	f->slot_count = slots;
	memcpy(f->tps, tps, tp_count * sizeof(struct tp *));
	f->tp_count = tp_count;
	list_init(&f->queue);
	for (uint32_t i = 0; i < slots; i++)
		list_init(&f->slots[i].node);
	return &f->memory;
}

static int
drop(struct fake_slab_memory *f, struct slot *s)
{
	for (size_t i = 0; i < f->tp_count; i++) {
		int r = s->regions[i] ? tp_region_release(s->regions[i]) : 0;

		if (r < 0)
			return r;
		s->regions[i] = NULL;
	}
	free(s->bytes);
	s->bytes = NULL;
	return 0;
}

static int
fill(struct fake_slab_memory *f, struct slot *s)
{
	s->bytes = malloc(f->slab_bytes);
	assert(s->bytes);
	memset(s->bytes, SCRIBBLE, f->slab_bytes);
	for (size_t i = 0; i < f->tp_count; i++) {
		int r = tp_region_register(f->tps[i], s->bytes, f->slab_bytes, TP_LEND,
					   &s->regions[i]);

		if (r < 0) {
			(void)drop(f, s);
			return r;
		}
	}
	memset(s->bytes, 0, f->slab_bytes);
	return 0;
}

static int
zero(struct fake_slab_memory *f, struct slot *s)
{
	for (size_t i = 0; i < f->tp_count; i++)
		assert(!fake_region_is_exposed(s->regions[i]));
	memset(s->bytes, 0, f->slab_bytes);
	return 0;
}

static void
complete(struct fake_slab_memory *f, struct slot *s, int status)
{
	list_del(&s->node);
	if (status == -ENOMEM && s->request == SLAB_MEMORY_ZERO)
		(void)drop(f, s); /* the slot is empty then */
	else if (status == 0 && s->request == SLAB_MEMORY_FILL)
		status = fill(f, s);
	else if (status == 0 && s->request == SLAB_MEMORY_ZERO)
		status = zero(f, s);
	else if (status == 0)
		status = drop(f, s);
	else if (status == -ENOMEM && s->request == SLAB_MEMORY_ZERO)
		(void)drop(f, s); /* its memory was to be replaced */
	f->done(f->arg, s->request, (uint32_t)(s - f->slots), status);
}

bool
fake_slab_memory_step_at(struct slab_memory *m, unsigned index, int status)
{
	struct fake_slab_memory *f = fake_of(m);
	struct list *n;

	list_foreach (n, &f->queue) {
		if (index-- == 0) {
			complete(f, container_of(n, struct slot, node), status);
			return true;
		}
	}
	return false;
}

bool
fake_slab_memory_step(struct slab_memory *m, int status)
{
	return fake_slab_memory_step_at(m, 0, status);
}

void
fake_slab_memory_run(struct slab_memory *m)
{
	while (fake_slab_memory_step(m, 0))
		continue;
}

unsigned
fake_slab_memory_pending(const struct slab_memory *m)
{
	return fake_slab_memory_pending_of(m, 0);
}

unsigned
fake_slab_memory_pending_of(const struct slab_memory *m, enum slab_memory_request request)
{
	struct fake_slab_memory *f = fake_of(m);
	struct list *n;
	unsigned count = 0;

	list_foreach (n, &f->queue) {
		count += !request || container_of(n, struct slot, node)->request == request;
	}
	return count;
}

uint8_t *
fake_slab_memory_bytes(struct slab_memory *m, uint32_t slot)
{
	assert(slot < fake_of(m)->slot_count);
	return fake_of(m)->slots[slot].bytes;
}

bool
fake_slab_memory_is_zero(struct slab_memory *m, uint32_t slot)
{
	const uint8_t *bytes = fake_slab_memory_bytes(m, slot);

	return bytes[0] == 0 && memcmp(bytes, bytes + 1, fake_of(m)->slab_bytes - 1) == 0;
}

struct slab_memory *
fake_slab_memory_free(struct slab_memory *m)
{
	struct fake_slab_memory *f = fake_of(m);

	assert(list_is_empty(&f->queue));
	for (uint32_t i = 0; i < f->slot_count; i++) {
		if (f->slots[i].bytes)
			(void)drop(f, &f->slots[i]);
	}
	free(f);
	return NULL;
}
