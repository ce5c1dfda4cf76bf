/* SPDX-License-Identifier: MIT */
/* Numbers in, one number out: the averages and the lines that are drawn. */
#include "daemon/monitor.h"

#include <assert.h>

#include "daemon/daemon.h"

/* Slabs come when this part of the headroom, or a slab, stays beyond the new slab. */
#define HYSTERESIS_DIVISOR 16u
/* Pressure on a host that has more than so many times the headroom is not about memory
 * that the daemon could give: a control group at its own limit counts in it too. */
#define PRESSED_BELOW_HEADROOMS 2u

void
monitor_init(struct monitor *m, const struct monitor_config *config)
{
	assert(config->slab_bytes > 0 && config->beta_milli > 0 && config->beta_milli <= 1000);
	*m = (struct monitor){.config = *config};
}

static uint64_t
minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void
measure(struct monitor *m, const struct daemon_memory *memory, uint64_t own_bytes)
{
	const uint64_t available = memory->available_bytes < memory->total_bytes
					   ? memory->available_bytes
					   : memory->total_bytes;
	const uint64_t used = minus(memory->total_bytes - available, own_bytes);
	const double beta = m->config.beta_milli / 1000.0;
	uint64_t smooth_free;

	/* Another limit holds than before: what was averaged says nothing about it. */
	if (!m->has_sample || m->total_bytes != memory->total_bytes)
		m->used_bytes = (double)used;
	else
		m->used_bytes = beta * (double)used + (1.0 - beta) * m->used_bytes;
	m->has_sample = true;
	m->others_bytes = used;
	m->total_bytes = memory->total_bytes;
	m->available_bytes = available;
	smooth_free = minus(memory->total_bytes, own_bytes + (uint64_t)m->used_bytes);
	m->free_bytes = available < smooth_free ? available : smooth_free;
}

static uint32_t
slabs_to_give(const struct monitor *m)
{
	const uint64_t lacking = m->headroom_bytes - m->free_bytes;
	const uint64_t n = (lacking + m->config.slab_bytes - 1) / m->config.slab_bytes;

	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* Slabs that fit above the headroom and the hysteresis. */
static uint32_t
slabs_to_take(const struct monitor *m)
{
	uint64_t hysteresis = m->headroom_bytes / HYSTERESIS_DIVISOR;
	uint64_t n;

	if (hysteresis < m->config.slab_bytes)
		hysteresis = m->config.slab_bytes;
	n = minus(m->free_bytes, m->headroom_bytes + hysteresis) / m->config.slab_bytes;
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

uint32_t
monitor_target(struct monitor *m, const struct daemon_memory *memory,
	       const struct monitor_slabs *slabs)
{
	uint64_t target = slabs->held;
	uint32_t n;

	assert(slabs->filling <= slabs->held && slabs->held <= slabs->max);
	m->headroom_bytes = m->config.headroom_bytes;
	if (m->headroom_bytes == DAEMON_HEADROOM_AUTO)
		m->headroom_bytes = memory->total_bytes / MONITOR_HEADROOM_AUTO_DIVISOR;
	measure(m, memory, slabs->held * m->config.slab_bytes);
	m->is_short = m->free_bytes < m->headroom_bytes;
	m->is_pressed = memory->psi_centi > m->config.psi_limit_centi &&
			m->free_bytes / PRESSED_BELOW_HEADROOMS < m->headroom_bytes;
	if (m->is_short) {
		target = minus(target, slabs_to_give(m));
	} else if (m->is_pressed) {
		/* An early sign is worth what costs nobody anything. */
		target -= (slabs->free + 1) / 2;
	} else {
		n = slabs_to_take(m);
		if (n > slabs->filling)
			target += n - slabs->filling;
	}
	return target < slabs->max ? (uint32_t)target : slabs->max;
}
