/* SPDX-License-Identifier: MIT */
/*
 * host_needs.h - kernel settings of a machine that swaps to a process of its own.
 *
 * Without them the kernel can wait for memory to be swapped out while the server
 * that does it waits for memory.  The thresholds stand here and nowhere else:
 * the warnings at start and what checks a host before it ask the same function.
 */
#ifndef PROGRAMS_HOST_NEEDS_H
#define PROGRAMS_HOST_NEEDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOST_NEEDS_COUNT 2u
#define HOST_NEED_MEND_BYTES 96u

enum host_verdict {
	HOST_NEED_OK = 0,
	HOST_NEED_UNMET,
	HOST_NEED_UNKNOWN, /* the kernel does not have it, or does not let us read it */
};

struct host_need {
	const char *name; /* of the sysctl: "vm.min_free_kbytes" */
	const char *why;  /* what happens when it is unmet; no full stop */
	bool is_minimum;  /* @current may be more than @wanted */
	enum host_verdict verdict;
	uint64_t current; /* 0 when unknown */
	uint64_t wanted;
	char mend[HOST_NEED_MEND_BYTES]; /* the command, as root */
};

/*
 * Looks at every setting.
 *
 * @sysctl_folder: "/proc/sys", or a test's.
 * @memory_bytes: RAM of the machine; a small one needs a smaller reserve.
 */
void host_needs_check(const char *sysctl_folder, uint64_t memory_bytes,
		      struct host_need ret_needs[HOST_NEEDS_COUNT]);

/*
 * Whether this machine swaps to a network block device, which may be lent by another
 * one that swaps to this.  @swaps: "/proc/swaps", or a test's.  @ret_device: the
 * first one, cut to @size bytes.
 */
bool host_needs_swaps_to_nbd(const char *swaps, char *ret_device, size_t size);

/* What vm.min_free_kbytes is; 0: not known. */
uint64_t host_needs_min_free_now_kib(const char *sysctl_folder);

/* What vm.min_free_kbytes has to be on a machine with so much RAM. */
uint64_t host_needs_min_free_kib(uint64_t memory_bytes);

#endif /* PROGRAMS_HOST_NEEDS_H */
