/* SPDX-License-Identifier: MIT */
/* page.h - the unit of everything: pages, and the blocks of pages that one buffer holds. */
#ifndef COMMON_PAGE_H
#define COMMON_PAGE_H

#include <stdint.h>

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12

/*
 * A block is 32 pages, naturally aligned.  No request piece crosses a block
 * border, so the pages of a piece are one 32-bit mask and never span two slabs.
 */
#define BLOCK_PAGES 32u
#define BLOCK_BYTES (BLOCK_PAGES * PAGE_BYTES)
#define BLOCK_SHIFT 17

/* Pages in @mask.  The compiler's own way is a call and a table where POPCNT is not assumed. */
static inline uint32_t
page_count(uint32_t mask)
{
	mask -= mask >> 1 & UINT32_C(0x55555555);
	mask = (mask & UINT32_C(0x33333333)) + (mask >> 2 & UINT32_C(0x33333333));
	mask = (mask + (mask >> 4)) & UINT32_C(0x0f0f0f0f);
	return mask * UINT32_C(0x01010101) >> 24;
}

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)

#endif /* COMMON_PAGE_H */
