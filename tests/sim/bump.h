/* SPDX-License-Identifier: MIT */
/* bump.h - memory of one run, given back all at once. */
#ifndef TESTS_SIM_BUMP_H
#define TESTS_SIM_BUMP_H

#include <stddef.h>

/* Zeroed, aligned to 8; valid up to bump_reset(). */
void *bump_alloc(size_t bytes);
void bump_reset(void);

#endif /* TESTS_SIM_BUMP_H */
