/* SPDX-License-Identifier: MIT */
/*
 * epoch_page.h - one page with the daemon's epoch, which its clients may read.
 *
 * A client that can read it knows that the daemon's memory is there and still the
 * memory that it was given, whatever the daemon's program is doing.
 */
#ifndef LOOP_EPOCH_PAGE_H
#define LOOP_EPOCH_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct epoch_page;
struct tp;
struct tp_region;

/* Registers the page with each of @tps, which outlive it.  Returns 0, -ENOMEM, or what
 * tp_region_register() did. */
int epoch_page_new(uint64_t epoch, struct tp *const *tps, size_t tp_count,
		   struct epoch_page **ret_page);
/* No grant of it is alive.  NULL is a no-op.  Returns NULL. */
struct epoch_page *epoch_page_free(struct epoch_page *page);

/* A daemon_config.epoch_region; @page is the struct epoch_page. */
struct tp_region *epoch_page_region(void *page, const struct tp *tp);

#endif /* LOOP_EPOCH_PAGE_H */
