/* SPDX-License-Identifier: MIT */
/* device_world.h - what the hand-written cases of the device share: short ways to a known state. */
#ifndef TESTS_UNIT_SLAB_DEVICE_WORLD_H
#define TESTS_UNIT_SLAB_DEVICE_WORLD_H

#include "slab/core.h"
#include "world.h"

#define MIB (UINT64_C(1) << 20)

/* A kind network, a backup that can all, daemons of 4 slabs that are connected. */
struct world *dw_new(uint32_t n_slabs, uint32_t n_daemons, enum slab_ack ack);
/* Writes the slab's last page, so that it maps; fails unless it did. */
void dw_map(struct world *w, uint32_t slab);
/* WRITE of one page, to the end; its status. */
int dw_write(struct world *w, uint64_t offset_bytes);
int dw_read(struct world *w, uint64_t offset_bytes);
int dw_flush(struct world *w);
/* Submits one page. */
struct world_io *dw_start(struct world *w, enum backend_kind kind, uint32_t flags,
			  uint64_t offset_bytes);
bool dw_is_remote(struct world *w, uint64_t offset_bytes);
bool dw_is_backup(struct world *w, uint64_t offset_bytes);
enum slab_state dw_slab_state(struct world *w, uint32_t slab);
void dw_hold_ops(struct world *w, bool hold);
/* Completes the oldest held remote operation. */
void dw_step_op(struct world *w);
/* Network and device, not the backup, until nothing moves. */
void dw_settle_but_backup(struct world *w);
/* Cuts a daemon off and keeps it away. */
void dw_lose(struct world *w, uint32_t daemon);
/* The first 8 bytes of the page: the version that wrote it. */
uint64_t dw_backup_version(struct world *w, uint64_t offset_bytes);
uint64_t dw_remote_version(struct world *w, uint32_t daemon, uint64_t offset_bytes);

#endif /* TESTS_UNIT_SLAB_DEVICE_WORLD_H */
