/* SPDX-License-Identifier: MIT */
/*
 * alloc_scope.h - where the loop thread may allocate after the start.
 *
 * Nowhere on the I/O path.  A session with a daemon begins and ends here: objects
 * of the libraries and the kernel that cannot be made ahead.  A test preloads a
 * library that knows from slabswap_alloc_serving() when the start is over, counts these
 * scopes in slabswap_alloc_scope(), and ends the program at an allocation outside of
 * them; else the calls do nothing.
 */
#ifndef COMMON_ALLOC_SCOPE_H
#define COMMON_ALLOC_SCOPE_H

#include <stdbool.h>

extern void slabswap_alloc_serving(bool is_serving) __attribute__((weak, visibility("default")));
extern void slabswap_alloc_scope(int change) __attribute__((weak, visibility("default")));

/* The calling thread is the one that serves, from now on or no longer. */
static inline void
alloc_serving(bool is_serving)
{
	if (slabswap_alloc_serving)
		slabswap_alloc_serving(is_serving);
}

/* Scopes nest.  Loop thread, or before it is told to be ready. */
static inline void
alloc_scope_enter(void)
{
	if (slabswap_alloc_scope)
		slabswap_alloc_scope(1);
}

static inline void
alloc_scope_leave(void)
{
	if (slabswap_alloc_scope)
		slabswap_alloc_scope(-1);
}

#endif /* COMMON_ALLOC_SCOPE_H */
