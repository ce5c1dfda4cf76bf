/* SPDX-License-Identifier: MIT */
/*
 * buffer_pool.h - contiguous request buffers of 1 to 32 pages out of one
 * registered area: a buddy allocator addressed by page index.
 */
#ifndef SLAB_BUFFER_POOL_H
#define SLAB_BUFFER_POOL_H

#include <stdint.h>

#define BUFFER_ORDERS 6u /* 1, 2, 4, 8, 16, 32 pages */
#define BUFFER_NONE UINT32_MAX

struct buffer_pool {
	uint32_t n_pages;
	uint32_t n_free;
	uint32_t head[BUFFER_ORDERS]; /* first free run of each order, or BUFFER_NONE */
	uint32_t *next;		      /* per page; meaningful for the first page of a free run */
	uint32_t *prev;
	uint8_t *free_order; /* per page: order + 1 for the first page of a free run, else 0 */
};

/* @n_pages: multiple of 32.  Returns 0, -EINVAL or -ENOMEM. */
int buffer_pool_init(struct buffer_pool *p, uint32_t n_pages);
void buffer_pool_fini(struct buffer_pool *p);

/* Smallest order whose run holds @n_pages (1..32). */
uint32_t buffer_order(uint32_t n_pages);

/* The first page of a free run of 2^@order pages, or BUFFER_NONE. */
uint32_t buffer_get(struct buffer_pool *p, uint32_t order);
void buffer_put(struct buffer_pool *p, uint32_t page, uint32_t order);

#endif /* SLAB_BUFFER_POOL_H */
