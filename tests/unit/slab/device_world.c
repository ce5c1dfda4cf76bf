/* SPDX-License-Identifier: MIT */
#include "device_world.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct world *
dw_new(uint32_t n_slabs, uint32_t n_daemons, enum slab_ack ack)
{
	const struct world_config c = {
		.n_slabs = n_slabs,
		.n_daemons = n_daemons,
		.slabs_per_daemon = 4,
		.ack = ack,
		.can_zero = true,
		.can_discard = true,
	};
	struct world *w = world_new(&c);

	world_settle(w);
	return w;
}

void
dw_map(struct world *w, uint32_t slab)
{
	assert(dw_write(w, slab * MIB + MIB - PAGE_BYTES) == 0);
	world_settle(w);
	assert(dw_slab_state(w, slab) == SLAB_STATE_MAPPED);
}

int
dw_write(struct world *w, uint64_t offset)
{
	return world_do(w, BACKEND_WRITE, offset, PAGE_BYTES);
}

int
dw_read(struct world *w, uint64_t offset)
{
	return world_do(w, BACKEND_READ, offset, PAGE_BYTES);
}

int
dw_flush(struct world *w)
{
	return world_do(w, BACKEND_FLUSH, 0, 0);
}

struct world_io *
dw_start(struct world *w, enum backend_kind kind, uint32_t flags, uint64_t offset)
{
	struct world_io *wio =
		world_submit(w, kind, flags, offset, kind == BACKEND_FLUSH ? 0 : PAGE_BYTES);

	assert(wio);
	return wio;
}

static bool
bit_of(uint32_t mask, uint64_t offset)
{
	return (mask >> (offset >> PAGE_SHIFT) % BLOCK_PAGES & 1) != 0;
}

bool
dw_is_remote(struct world *w, uint64_t offset)
{
	return bit_of(world_device(w)->arena.blocks[offset >> BLOCK_SHIFT].remote, offset);
}

bool
dw_is_backup(struct world *w, uint64_t offset)
{
	return bit_of(world_device(w)->arena.blocks[offset >> BLOCK_SHIFT].backup, offset);
}

enum slab_state
dw_slab_state(struct world *w, uint32_t slab)
{
	return (enum slab_state)world_device(w)->arena.slabs[slab].state;
}

void
dw_hold_ops(struct world *w, bool hold)
{
	fake_net_hold(world_net(w), FAKE_OP, hold);
}

void
dw_step_op(struct world *w)
{
	assert(fake_net_step_kind(world_net(w), FAKE_OP, NULL));
	dw_settle_but_backup(w);
}

void
dw_settle_but_backup(struct world *w)
{
	world_hold_backup(w, true);
	world_settle(w);
}

void
dw_lose(struct world *w, uint32_t daemon)
{
	fake_daemon_set_up(world_daemon(w, daemon), false);
	world_daemon_kill(w, daemon, -ECONNRESET);
	dw_settle_but_backup(w);
}

static uint64_t
version_at(const uint8_t *bytes)
{
	uint64_t version;

	memcpy(&version, bytes, sizeof(version));
	return version;
}

uint64_t
dw_backup_version(struct world *w, uint64_t offset)
{
	return version_at(fake_backup_bytes(world_backup(w)) + offset);
}

uint64_t
dw_remote_version(struct world *w, uint32_t daemon, uint64_t offset)
{
	const uint8_t *memory =
		fake_daemon_memory(world_daemon(w, daemon), (uint32_t)(offset / MIB));

	assert(memory);
	return version_at(memory + offset % MIB);
}
