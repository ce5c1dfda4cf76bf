/* SPDX-License-Identifier: MIT */
#include "slab/buffer_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static void
run_push(struct buffer_pool *p, uint32_t page, uint32_t order)
{
	p->next[page] = p->head[order];
	p->prev[page] = BUFFER_NONE;
	if (p->head[order] != BUFFER_NONE)
		p->prev[p->head[order]] = page;
	p->head[order] = page;
	p->free_order[page] = (uint8_t)(order + 1);
}

static void
run_remove(struct buffer_pool *p, uint32_t page, uint32_t order)
{
	assert(p->free_order[page] == order + 1);
	if (p->prev[page] != BUFFER_NONE)
		p->next[p->prev[page]] = p->next[page];
	else
		p->head[order] = p->next[page];
	if (p->next[page] != BUFFER_NONE)
		p->prev[p->next[page]] = p->prev[page];
	p->free_order[page] = 0;
}

int
buffer_pool_init(struct buffer_pool *p, uint32_t n_pages)
{
	const uint32_t largest = 1u << (BUFFER_ORDERS - 1);

	if (n_pages == 0 || n_pages % largest != 0)
		return -EINVAL;
	*p = (struct buffer_pool){.n_pages = n_pages, .n_free = n_pages};
	p->next = calloc(n_pages, sizeof(*p->next));
	p->prev = calloc(n_pages, sizeof(*p->prev));
	p->free_order = calloc(n_pages, sizeof(*p->free_order));
	if (!p->next || !p->prev || !p->free_order) {
		buffer_pool_fini(p);
		return -ENOMEM;
	}
	for (uint32_t o = 0; o < BUFFER_ORDERS; o++)
		p->head[o] = BUFFER_NONE;
	for (uint32_t page = n_pages; page > 0; page -= largest)
		run_push(p, page - largest, BUFFER_ORDERS - 1);
	return 0;
}

void
buffer_pool_fini(struct buffer_pool *p)
{
	free(p->next);
	free(p->prev);
	free(p->free_order);
	*p = (struct buffer_pool){0};
}

uint32_t
buffer_order(uint32_t n_pages)
{
	uint32_t order = 0;

	assert(n_pages > 0 && n_pages <= 1u << (BUFFER_ORDERS - 1));
	while (1u << order < n_pages)
		order++;
	return order;
}

uint32_t
buffer_get(struct buffer_pool *p, uint32_t order)
{
	uint32_t from = order, page;

	while (from < BUFFER_ORDERS && p->head[from] == BUFFER_NONE)
		from++;
	if (from == BUFFER_ORDERS)
		return BUFFER_NONE;
	page = p->head[from];
	run_remove(p, page, from);
	while (from > order) {
		from--;
		run_push(p, page + (1u << from), from);
	}
	p->n_free -= 1u << order;
	return page;
}

void
buffer_put(struct buffer_pool *p, uint32_t page, uint32_t order)
{
	assert(page < p->n_pages && order < BUFFER_ORDERS && p->free_order[page] == 0);
	p->n_free += 1u << order;
	while (order < BUFFER_ORDERS - 1) {
		const uint32_t buddy = page ^ (1u << order);

		if (p->free_order[buddy] != order + 1)
			break;
		run_remove(p, buddy, order);
		page &= ~(1u << order);
		order++;
	}
	run_push(p, page, order);
}
