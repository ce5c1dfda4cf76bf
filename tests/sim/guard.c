/* SPDX-License-Identifier: MIT */
#include "sim/guard.h"

#include <assert.h>
#include <stdlib.h>

#include "sim/fail.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static unsigned depth; /* of guard_enter(); malloc() has no argument to say it */

static void
check(void)
{
	if (depth == 0)
		return;
	depth = 0;
	sim_fail(DEVICE_8, "memory was allocated while a core ran");
}

void *
__wrap_malloc(size_t bytes)
{
	check();
	return __real_malloc(bytes);
}

void *
__wrap_calloc(size_t n, size_t bytes)
{
	check();
	return __real_calloc(n, bytes);
}

void *
__wrap_realloc(void *p, size_t bytes)
{
	check();
	return __real_realloc(p, bytes);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	check();
	return __real_aligned_alloc(alignment, bytes);
}

void
guard_enter(void)
{
	depth++;
}

void
guard_leave(void)
{
	assert(depth > 0);
	depth--;
}

unsigned
guard_suspend(void)
{
	const unsigned was = depth;

	depth = 0;
	return was;
}

void
guard_resume(unsigned was)
{
	depth = was;
}

void
guard_reset(void)
{
	depth = 0;
}

void *
guard_alloc(size_t bytes)
{
	void *p = __real_calloc(1, bytes);

	assert(p);
	return p;
}

void *
guard_realloc(void *p, size_t bytes)
{
	void *q = __real_realloc(p, bytes);

	assert(q);
	return q;
}
