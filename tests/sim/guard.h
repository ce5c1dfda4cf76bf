/* SPDX-License-Identifier: MIT */
/*
 * guard.h - device invariant 8, no allocation after start-up on the I/O path.
 *
 * The simulator is linked with malloc() and its kin wrapped: one that is called
 * while a core runs ends the run.  What the simulator itself needs meanwhile it
 * takes through guard_alloc().
 */
#ifndef TESTS_SIM_GUARD_H
#define TESTS_SIM_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* A core runs between these; they nest. */
void guard_enter(void);
void guard_leave(void);
/* The core called the simulator; returns what guard_resume() takes. */
unsigned guard_suspend(void);
void guard_resume(unsigned depth);
/* The run is over, whatever was under way. */
void guard_reset(void);

/* Zeroed; never fails. */
void *guard_alloc(size_t bytes);
void *guard_realloc(void *p, size_t bytes);

#endif /* TESTS_SIM_GUARD_H */
