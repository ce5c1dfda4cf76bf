/* SPDX-License-Identifier: MIT */
/*
 * LD_PRELOAD=liballoc_guard.so ends a program that allocates while it serves.
 *
 * While the program says that it serves, on the thread that says it, outside of the
 * scopes of common/alloc_scope.h: malloc() and its family, free(),
 * mmap(), munmap() and mprotect() print what was called from where, and
 * abort().  In a scope only the heap may be used, and it must not grow: that is
 * checked at the end.  ALLOC_GUARD=no-scopes: scopes do not count either.
 */
/* With it the header calls mmap() mmap64(); both names are needed here. */
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <execinfo.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define FRAMES_MAX 32

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void slabswap_alloc_scope(int change);
void slabswap_alloc_serving(bool is_serving);

/* 0: not armed.  Only the thread itself compares it with its own id. */
static volatile pid_t guarded_thread;
static int depth;
static void *heap_end;
static bool ignores_scopes;

static pid_t
this_thread(void)
{
	return (pid_t)syscall(SYS_gettid);
}

static void
trap(const char *what, size_t bytes)
{
	void *frames[FRAMES_MAX];
	char line[128];
	int n;

	guarded_thread = 0;
	n = snprintf(line, sizeof(line), "alloc_guard: %s of %zu bytes while serving\n", what,
		     bytes);
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		abort();
	n = backtrace(frames, FRAMES_MAX);
	backtrace_symbols_fd(frames, n, STDERR_FILENO);
	abort();
}

static void
check(const char *what, size_t bytes)
{
	if (guarded_thread && (depth == 0 || ignores_scopes) && guarded_thread == this_thread())
		trap(what, bytes);
}

EXPORT void
slabswap_alloc_scope(int change)
{
	depth += change;
}

static void
arm(void)
{
	const char *how = getenv("ALLOC_GUARD");
	void *frames[2];

	/* The first use loads a library. */
	(void)backtrace(frames, 2);
	ignores_scopes = how && strcmp(how, "no-scopes") == 0;
	heap_end = sbrk(0);
	guarded_thread = this_thread();
}

static void
disarm(void)
{
	if (!guarded_thread)
		return;
	if (sbrk(0) != heap_end)
		trap("growth of the heap", (size_t)((char *)sbrk(0) - (char *)heap_end));
	guarded_thread = 0;
	(void)!write(STDERR_FILENO, "alloc_guard: good\n", 18);
}

EXPORT void
slabswap_alloc_serving(bool is_serving)
{
	if (is_serving)
		arm();
	else
		disarm();
}

EXPORT void *
malloc(size_t bytes)
{
	check("malloc", bytes);
	return __libc_malloc(bytes);
}

EXPORT void *
calloc(size_t n, size_t bytes)
{
	check("calloc", n * bytes);
	return __libc_calloc(n, bytes);
}

EXPORT void *
realloc(void *p, size_t bytes)
{
	check("realloc", bytes);
	return __libc_realloc(p, bytes);
}

EXPORT void
free(void *p)
{
	if (p)
		check("free", 0);
	__libc_free(p);
}

EXPORT void *
memalign(size_t align, size_t bytes)
{
	check("memalign", bytes);
	return __libc_memalign(align, bytes);
}

EXPORT void *
aligned_alloc(size_t align, size_t bytes)
{
	check("aligned_alloc", bytes);
	return __libc_memalign(align, bytes);
}

EXPORT int
posix_memalign(void **ret, size_t align, size_t bytes)
{
	check("posix_memalign", bytes);
	*ret = __libc_memalign(align, bytes);
	return *ret ? 0 : ENOMEM;
}

EXPORT void *
mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	check("mmap", bytes);
	return (void *)syscall(SYS_mmap, addr, bytes, prot, flags, fd, offset);
}

/* What mmap() is called with 64-bit offsets. */
EXPORT void *
mmap64(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return mmap(addr, bytes, prot, flags, fd, offset);
}

EXPORT int
munmap(void *addr, size_t bytes)
{
	check("munmap", bytes);
	return (int)syscall(SYS_munmap, addr, bytes);
}

EXPORT int
mprotect(void *addr, size_t bytes, int prot)
{
	check("mprotect", bytes);
	return (int)syscall(SYS_mprotect, addr, bytes, prot);
}
