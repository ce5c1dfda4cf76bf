/* SPDX-License-Identifier: MIT */
/*
 * Pools and lifetimes.  A piece is free again only when the server has put it
 * back, its remote and backup operations have completed, and its turn on the
 * page is over: whichever comes last (invariant 3).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "slab/core.h"

/*
 * Of the buffers' pages.  Writes of single pages have half of the buffers before their answers
 * are held (throttle.c), and what is under way then comes on top: more pieces than that are
 * memory that nobody uses.
 */
#define PIECES_NUMERATOR 5u
#define PIECES_DENOMINATOR 8u
/* Of the pieces, kept for reads, as READ_RESERVE_DIVISOR is of the buffers. */
#define READ_PIECES_DIVISOR 16u

int
pieces_init(struct slab_device *d)
{
	const uint32_t n = d->arena.n_buffer_pages;
	uint32_t n_read;
	int r;

	list_init(&d->free_pieces);
	list_init(&d->free_ranges);
	list_init(&d->free_flushes);
	d->n_pieces = n / PIECES_DENOMINATOR * PIECES_NUMERATOR;
	d->n_free_pieces = d->n_pieces;
	d->pieces = calloc(d->n_pieces, sizeof(*d->pieces));
	d->ranges = calloc(RANGES_MAX, sizeof(*d->ranges));
	d->flushes = calloc(FLUSHES_MAX, sizeof(*d->flushes));
	if (!d->pieces || !d->ranges || !d->flushes)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->n_pieces; i++) {
		d->pieces[i].dev = d;
		list_add_tail(&d->free_pieces, &d->pieces[i].free_node);
	}
	for (uint32_t i = 0; i < RANGES_MAX; i++) {
		d->ranges[i].dev = d;
		list_add_tail(&d->free_ranges, &d->ranges[i].free_node);
	}
	for (uint32_t i = 0; i < FLUSHES_MAX; i++) {
		d->flushes[i].dev = d;
		list_add_tail(&d->free_flushes, &d->flushes[i].free_node);
	}
	/* Apart, not just counted: long runs must be left when writes hold all the rest. */
	n_read = n / READ_RESERVE_DIVISOR / BLOCK_PAGES * BLOCK_PAGES;
	r = buffer_pool_init(&d->pool, n - n_read);
	if (r < 0)
		return r;
	r = buffer_pool_init(&d->read_pool, n_read);
	if (r < 0)
		return r;
	return page_order_init(&d->order, d->n_pieces + RANGES_MAX * RANGE_BLOCKS_MAX, &d->ready);
}

void
pieces_fini(struct slab_device *d)
{
	page_order_fini(&d->order);
	buffer_pool_fini(&d->read_pool);
	buffer_pool_fini(&d->pool);
	free(d->flushes);
	free(d->ranges);
	free(d->pieces);
}

uint32_t
block_mask(uint64_t offset_bytes, uint64_t length_bytes)
{
	const uint32_t first = (uint32_t)(offset_bytes >> PAGE_SHIFT) % BLOCK_PAGES;
	const uint32_t last =
		(uint32_t)((offset_bytes + length_bytes - 1) >> PAGE_SHIFT) % BLOCK_PAGES;

	assert(length_bytes > 0 &&
	       offset_bytes >> BLOCK_SHIFT == (offset_bytes + length_bytes - 1) >> BLOCK_SHIFT);
	return UINT32_MAX << first & UINT32_MAX >> (BLOCK_PAGES - 1 - last);
}

/* The first page of a run of 2^@order pages in the arena's buffers, or BUFFER_NONE. */
static uint32_t
run_get(struct slab_device *d, enum backend_kind kind, uint32_t order)
{
	if (kind == BACKEND_READ) {
		const uint32_t page = buffer_get(&d->read_pool, order);

		if (page != BUFFER_NONE)
			return d->pool.n_pages + page;
	}
	return buffer_get(&d->pool, order);
}

static void
run_put(struct slab_device *d, uint32_t page, uint32_t order)
{
	if (page < d->pool.n_pages)
		buffer_put(&d->pool, page, order);
	else
		buffer_put(&d->read_pool, page - d->pool.n_pages, order);
}

uint32_t
pieces_free_pages(const struct slab_device *d)
{
	return d->pool.n_free + d->read_pool.n_free;
}

/* @buffer_pages may exceed @n_pages: a partial write keeps its payload behind the page. */
static struct piece *
piece_take(struct slab_device *d, enum backend_kind kind, uint32_t block, uint32_t mask,
	   uint32_t buffer_pages)
{
	const uint32_t order = buffer_order(buffer_pages);
	struct list *node;
	struct piece *p;
	uint32_t page;

	if (d->n_free_pieces <= (kind == BACKEND_READ ? 0 : d->n_pieces / READ_PIECES_DIVISOR))
		return NULL;
	page = run_get(d, kind, order);
	if (page == BUFFER_NONE)
		return NULL;
	node = list_pop_head(&d->free_pieces);
	d->n_free_pieces--;
	p = container_of(node, struct piece, free_node);

	*p = (struct piece){
		.io = {.kind = kind},
		.dev = d,
		.pages = d->arena.buffers + (size_t)page * PAGE_BYTES,
		.buffer_page = page,
		.buffer_order = (uint8_t)order,
		.first_page = (uint8_t)__builtin_ctz(mask),
		.n_pages = (uint8_t)page_count(mask),
	};
	list_init(&p->free_node);
	list_init(&p->done_node);
	list_init(&p->wait_node);
	list_init(&p->remote_node);
	list_init(&p->hedge_node);
	list_init(&p->unsafe.node);
	p->order.block = block;
	p->order.mask = mask;
	list_init(&p->order.chain);
	list_init(&p->order.ready);
	d->n_in_use++;
	return p;
}

struct piece *
piece_get_internal(struct slab_device *d, uint32_t block, uint32_t mask)
{
	return piece_take(d, BACKEND_WRITE, block, mask, page_count(mask));
}

static struct backend_io *
piece_get(struct slab_device *d, enum backend_kind kind, uint64_t offset, uint32_t length)
{
	const uint32_t block = (uint32_t)(offset >> BLOCK_SHIFT);
	const uint32_t in_page = (uint32_t)(offset % PAGE_BYTES);
	const bool is_partial = in_page != 0 || length % PAGE_BYTES != 0;
	const bool is_merge = is_partial && kind == BACKEND_WRITE;
	const uint32_t mask = block_mask(offset, length);
	struct piece *p;

	assert(length > 0 && (!is_partial || in_page + length <= PAGE_BYTES));
	p = piece_take(d, kind, block, mask, is_merge ? 2 : page_count(mask));
	if (!p)
		return NULL;
	p->io.data = p->pages + (is_merge ? PAGE_BYTES : 0) + in_page;
	p->is_held = true;
	return &p->io;
}

static struct backend_io *
range_get(struct slab_device *d)
{
	struct list *node = list_pop_head(&d->free_ranges);
	struct range *r;

	if (!node)
		return NULL;
	r = container_of(node, struct range, free_node);
	r->zeroed_bytes = 0;
	r->status = 0;
	list_init(&r->done_node);
	list_init(&r->unsafe.node);
	d->n_in_use++;
	return &r->io;
}

static struct backend_io *
flush_get(struct slab_device *d)
{
	struct list *node = list_pop_head(&d->free_flushes);
	struct flush *f;

	if (!node)
		return NULL;
	f = container_of(node, struct flush, free_node);
	f->status = 0;
	list_init(&f->done_node);
	list_init(&f->unsafe.node);
	d->n_in_use++;
	return &f->io;
}

struct backend_io *
pieces_get(struct slab_device *d, enum backend_kind kind, uint64_t offset_bytes,
	   uint32_t length_bytes)
{
	struct backend_io *io;

	assert(kind == BACKEND_FLUSH || (length_bytes > 0 && offset_bytes < d->backend.size_bytes &&
					 length_bytes <= d->backend.size_bytes - offset_bytes));
	switch (kind) {
	case BACKEND_READ:
	case BACKEND_WRITE:
		io = piece_get(d, kind, offset_bytes, length_bytes);
		break;
	case BACKEND_TRIM:
	case BACKEND_ZERO:
		assert(offset_bytes % PAGE_BYTES == 0 && length_bytes % PAGE_BYTES == 0 &&
		       length_bytes <= BACKEND_RANGE_BYTES_MAX);
		io = range_get(d);
		break;
	case BACKEND_FLUSH:
		io = flush_get(d);
		break;
	default:
		assert(!"unknown kind");
		return NULL;
	}
	if (!io) {
		d->has_room = d->has_room && d->is_starved; /* freed since the first NULL */
		d->is_starved = true;
		return NULL;
	}
	io->kind = kind;
	io->flags = 0;
	io->offset_bytes = offset_bytes;
	io->length_bytes = length_bytes;
	io->posted_ns = 0;
	io->done = NULL;
	io->arg = NULL;
	return io;
}

void
piece_free_if_idle(struct piece *p)
{
	struct slab_device *d = p->dev;

	if (p->is_held || p->remote_busy || p->backup_busy || list_is_linked(&p->order.chain) ||
	    list_is_linked(&p->done_node) || list_is_linked(&p->unsafe.node) || p->hedge_of)
		return;
	hedge_release(p);
	assert(!list_is_linked(&p->wait_node) && !list_is_linked(&p->remote_node));
	assert(!list_is_linked(&p->order.ready));
	run_put(d, p->buffer_page, p->buffer_order);
	list_add_head(&d->free_pieces, &p->free_node);
	d->n_free_pieces++;
	d->n_in_use--;
	d->has_room = true;
}

void
range_free(struct range *r)
{
	list_add_head(&r->dev->free_ranges, &r->free_node);
	r->dev->n_in_use--;
	r->dev->has_room = true;
}

void
flush_free(struct flush *f)
{
	list_add_head(&f->dev->free_flushes, &f->free_node);
	f->dev->n_in_use--;
	f->dev->has_room = true;
}

void
pieces_put(struct slab_device *d, struct backend_io *io)
{
	struct piece *p;

	(void)d;
	switch (io->kind) {
	case BACKEND_READ:
	case BACKEND_WRITE:
		p = container_of(io, struct piece, io);
		assert(p->is_held);
		p->is_held = false;
		piece_free_if_idle(p);
		break;
	case BACKEND_TRIM:
	case BACKEND_ZERO:
		range_free(container_of(io, struct range, io));
		break;
	case BACKEND_FLUSH:
		flush_free(container_of(io, struct flush, io));
		break;
	}
}

void
piece_answer(struct piece *p, int status)
{
	struct slab_device *d = p->dev;

	assert(!p->is_answered);
	p->is_answered = true;
	p->status = status;
	if (status < 0)
		*(p->io.kind == BACKEND_READ ? &d->stats.read_errors : &d->stats.write_errors) += 1;
	list_add_tail(&d->done_pieces, &p->done_node);
}

void
range_answer(struct range *r, int status)
{
	r->status = status;
	list_add_tail(&r->dev->done_ranges, &r->done_node);
}

void
flush_answer(struct flush *f, int status)
{
	f->status = status;
	list_add_tail(&f->dev->done_flushes, &f->done_node);
}

struct arena_write *
piece_arena_write(const struct piece *p)
{
	return &p->dev->arena.writes[p->buffer_page];
}

void *
piece_run_buf(const struct piece *p, uint32_t mask)
{
	return p->pages + ((size_t)__builtin_ctz(mask) - p->first_page) * PAGE_BYTES;
}

uint32_t
piece_slab(const struct piece *p)
{
	return arena_slab_of_block(&p->dev->arena, p->order.block);
}

uint64_t
piece_page_offset(const struct piece *p)
{
	return ((uint64_t)p->order.block << BLOCK_SHIFT) + ((uint64_t)p->first_page << PAGE_SHIFT);
}

uint32_t
first_run(uint32_t mask)
{
	const uint32_t low = mask & -mask;

	return mask & ~(mask + low);
}
