/* SPDX-License-Identifier: MIT */
#include "slab/arena.h"

#include <errno.h>

#include "slab/device.h"

static size_t
part_end(size_t start, size_t count, size_t each)
{
	const size_t end = start + count * each;

	return (end + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

int
arena_layout(struct arena *a, void *base, uint64_t size_bytes, uint64_t slab_bytes,
	     uint64_t buffer_bytes)
{
	uint8_t *p = base;
	size_t slabs_at, blocks_at, writes_at, buffers_at;

	if (slab_bytes < SLAB_BYTES_MIN || slab_bytes > SLAB_BYTES_MAX ||
	    (slab_bytes & (slab_bytes - 1)) != 0)
		return -EINVAL;
	if (size_bytes == 0 || size_bytes % slab_bytes != 0 ||
	    size_bytes >> BLOCK_SHIFT > UINT32_MAX)
		return -EINVAL;
	if (buffer_bytes < SLAB_BUFFER_BYTES_MIN || buffer_bytes % BLOCK_BYTES != 0 ||
	    buffer_bytes >> PAGE_SHIFT > UINT32_MAX / 2)
		return -EINVAL;

	a->n_slabs = (uint32_t)(size_bytes / slab_bytes);
	a->n_blocks = (uint32_t)(size_bytes >> BLOCK_SHIFT);
	a->n_buffer_pages = (uint32_t)(buffer_bytes >> PAGE_SHIFT);
	a->slab_blocks = (uint32_t)(slab_bytes >> BLOCK_SHIFT);

	slabs_at = part_end(0, 1, sizeof(*a->header));
	blocks_at = part_end(slabs_at, a->n_slabs, sizeof(*a->slabs));
	writes_at = part_end(blocks_at, a->n_blocks, sizeof(*a->blocks));
	buffers_at = part_end(writes_at, a->n_buffer_pages, sizeof(*a->writes));
	a->total_bytes = part_end(buffers_at, a->n_buffer_pages, PAGE_BYTES);
	if (!base) /* asked for the size only */
		return 0;
	a->header = (struct arena_header *)(void *)p;
	a->slabs = (struct arena_slab *)(void *)(p + slabs_at);
	a->blocks = (struct arena_block *)(void *)(p + blocks_at);
	a->writes = (struct arena_write *)(void *)(p + writes_at);
	a->buffers = p + buffers_at;
	return 0;
}
