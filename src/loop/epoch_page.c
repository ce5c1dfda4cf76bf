/* SPDX-License-Identifier: MIT */
#include "loop/epoch_page.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/page.h"
#include "loop/slab_memory_host.h"
#include "transport/transport.h"

struct epoch_page {
	uint8_t *bytes; /* a page of its own: nothing else may become readable */
	struct tp *tps[SLAB_MEMORY_HOST_TPS_MAX];
	struct tp_region *regions[SLAB_MEMORY_HOST_TPS_MAX];
	size_t tp_count;
};

int
epoch_page_new(uint64_t epoch, struct tp *const *tps, size_t tp_count, struct epoch_page **ret_page)
{
	struct epoch_page *p = calloc(1, sizeof(*p));
	uint64_t epoch_le;
	int r = 0;

	assert(tp_count <= SLAB_MEMORY_HOST_TPS_MAX);
	if (!p)
		return -ENOMEM;
	p->bytes =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->bytes == MAP_FAILED) {
		free(p);
		return -ENOMEM;
	}
	(void)madvise(p->bytes, PAGE_BYTES, MADV_DONTFORK);
	epoch_le = htole64(epoch);
	memcpy(p->bytes, &epoch_le, sizeof(epoch_le));
	for (; p->tp_count < tp_count && r == 0; p->tp_count++) {
		p->tps[p->tp_count] = tps[p->tp_count];
		r = tp_region_register(tps[p->tp_count], p->bytes, PAGE_BYTES, TP_LEND_READ,
				       &p->regions[p->tp_count]);
	}
	if (r < 0) {
		(void)epoch_page_free(p);
		return r;
	}
	*ret_page = p;
	return 0;
}

struct epoch_page *
epoch_page_free(struct epoch_page *p)
{
	bool is_reachable = false;

	if (!p)
		return NULL;
	for (size_t i = 0; i < p->tp_count; i++) {
		const int r = p->regions[i] ? tp_region_release(p->regions[i]) : 0;

		if (r < 0)
			(void)log_err_errno(-r, "the epoch page stays registered");
		is_reachable |= r < 0;
	}
	if (!is_reachable)
		(void)munmap(p->bytes, PAGE_BYTES);
	free(p);
	return NULL;
}

struct tp_region *
epoch_page_region(void *page, const struct tp *tp)
{
	const struct epoch_page *p = page;

	for (size_t i = 0; i < p->tp_count; i++)
		if (p->tps[i] == tp)
			return p->regions[i];
	return NULL;
}
