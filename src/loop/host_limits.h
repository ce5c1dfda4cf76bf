/* SPDX-License-Identifier: MIT */
/* host_limits.h - how much memory this machine has, and how much of it this process may lock. */
#ifndef LOOP_HOST_LIMITS_H
#define LOOP_HOST_LIMITS_H

#include <stdint.h>

/* Bytes of RAM; 0 when the kernel does not say. */
uint64_t host_limits_memory_bytes(void);
/* RLIMIT_MEMLOCK in bytes; UINT64_MAX: no limit, or CAP_IPC_LOCK, for which there is none. */
uint64_t host_limits_lock_bytes(void);

/* As many open files as this process may have: slabs that go over shm: take one each.
 * Nothing here uses select(2). */
void host_limits_raise_files(void);

#endif /* LOOP_HOST_LIMITS_H */
