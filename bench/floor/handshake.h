/* SPDX-License-Identifier: MIT */
/* handshake.h - the newstyle handshake, as much of it as clients of a benchmark need. */
#ifndef BENCH_FLOOR_HANDSHAKE_H
#define BENCH_FLOOR_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

/* Blocks until it is done.  False: the client left, or asked for nothing that is here. */
bool handshake(int fd, uint64_t size_bytes);

#endif /* BENCH_FLOOR_HANDSHAKE_H */
