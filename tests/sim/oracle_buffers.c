/* SPDX-License-Identifier: MIT */
/* Who uses which page of a device's buffers. */
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

/* The device whose buffers @buf is in, or NULL; and the pages. */
static struct sim_device_host *
find(struct sim *sim, const struct sim_host *h, const void *buf, uint64_t length_bytes,
     uint32_t *ret_first, uint32_t *ret_stop)
{
	struct sim_device_host *dh;
	const uint8_t *base;

	if (h->index >= SIM_DEVICES_MAX)
		return NULL;
	dh = &sim->devices[h->index];
	base = dh->dev ? dh->dev->arena.buffers : dh->arena;
	*ret_first = (uint32_t)(((const uint8_t *)buf - base) / PAGE_BYTES);
	*ret_stop = *ret_first + (uint32_t)((length_bytes + PAGE_BYTES - 1) / PAGE_BYTES);
	if (*ret_stop > SIM_BUFFER_PAGES)
		sim_fail(CONTRACT, "an operation uses memory outside the buffers");
	return dh;
}

/* Probes share a page, each has a word of its own there. */
static bool
is_word(const struct sim_device_host *dh, const void *buf, uint64_t length_bytes)
{
	const uint8_t *words = dh->dev ? dh->dev->health_words : NULL;
	const uint8_t *p = buf;

	return length_bytes == HEALTH_WORD_BYTES && words && p >= words &&
	       p + length_bytes <= words + (size_t)dh->dev->n_health_pages * PAGE_BYTES;
}

void
oracle_buffer_use(struct sim *sim, const struct sim_host *h, const void *buf, uint64_t length_bytes,
		  bool is_written)
{
	uint32_t page = 0, stop = 0;
	struct sim_device_host *dh = find(sim, h, buf, length_bytes, &page, &stop);

	if (dh && is_word(dh, buf, length_bytes))
		return;
	for (; dh && page < stop; page++) {
		if (dh->is_buffer_written[page] || (is_written && dh->n_buffer_users[page] > 0))
			sim_fail(DEVICE_3,
				 "buffer page %u is used while another operation on it is under "
				 "way",
				 page);
		dh->n_buffer_users[page]++;
		dh->is_buffer_written[page] = is_written;
	}
}

void
oracle_buffer_free(struct sim *sim, const struct sim_host *h, const void *buf,
		   uint64_t length_bytes, bool is_written)
{
	uint32_t page = 0, stop = 0;
	struct sim_device_host *dh = find(sim, h, buf, length_bytes, &page, &stop);

	if (dh && is_word(dh, buf, length_bytes))
		return;
	for (; dh && page < stop; page++) {
		dh->n_buffer_users[page]--;
		if (is_written)
			dh->is_buffer_written[page] = false;
	}
}

void
oracle_buffer_got(struct sim_device_host *dh, const void *buf, uint64_t length_bytes)
{
	uint32_t page = 0, stop = 0;

	(void)find(dh->host.sim, &dh->host, buf, length_bytes, &page, &stop);
	for (; page < stop; page++)
		if (dh->n_buffer_users[page] > 0)
			sim_fail(DEVICE_3,
				 "buffer page %u is given to a request while an operation on it "
				 "is under way",
				 page);
}

void
oracle_all_buffers_back(struct sim_device_host *dh)
{
	/* The block of zeros, and the words of the probes. */
	const uint64_t kept_bytes = BLOCK_BYTES + (uint64_t)dh->dev->n_health_pages * PAGE_BYTES;
	struct slab_device_stats s;

	slab_device_get_stats(dh->dev, &s);
	if (s.buffer_bytes_free + kept_bytes != s.buffer_bytes)
		sim_fail(DEVICE_3, "device %u: %llu bytes of buffers are not back", dh->index,
			 (unsigned long long)(s.buffer_bytes - kept_bytes - s.buffer_bytes_free));
	if (dh->dev->n_in_use > 0)
		sim_fail(DEVICE_8, "device %u: %u pieces are not back", dh->index,
			 dh->dev->n_in_use);
	for (uint32_t i = 0; i < SIM_BUFFER_PAGES; i++) {
		if (dh->dev->arena.writes[i].seq != 0)
			sim_fail(DEVICE_3, "device %u: a write is still recorded in the arena",
				 dh->index);
		if (dh->n_buffer_users[i] > 0)
			sim_fail(DEVICE_3, "device %u: an operation is still under way", dh->index);
	}
}
