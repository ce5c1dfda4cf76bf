/* SPDX-License-Identifier: MIT */
/* clock.h - the time that the cores are given. */
#ifndef LOOP_CLOCK_H
#define LOOP_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t clock_now_ns(void);

#endif /* LOOP_CLOCK_H */
