/* SPDX-License-Identifier: MIT */
/*
 * probe.h - static probes (USDT) of provider "slabswap", for bpftrace, perf and the like.
 *
 * A probe is a no-op instruction and a note in the program that says where it is and where its
 * arguments are; nothing is done unless somebody traces.  docs/operations.md lists them all.
 */
#ifndef COMMON_PROBE_H
#define COMMON_PROBE_H

#ifdef HAVE_SDT

#include <sys/sdt.h>

/* Its macros pass no argument for "...", which pedantic clang tells where they are used. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif

#define PROBE2(name, a, b) DTRACE_PROBE2(slabswap, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(slabswap, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(slabswap, name, a, b, c, d)
#define PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(slabswap, name, a, b, c, d, e)

#else

#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) (PROBE2(name, a, b), (void)(c))
#define PROBE4(name, a, b, c, d) (PROBE3(name, a, b, c), (void)(d))
#define PROBE5(name, a, b, c, d, e) (PROBE4(name, a, b, c, d), (void)(e))

#endif

#endif /* COMMON_PROBE_H */
