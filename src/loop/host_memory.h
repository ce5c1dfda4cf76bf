/* SPDX-License-Identifier: MIT */
/*
 * host_memory.h - how much memory this process's machine has to spare, from /proc and
 * the control groups.
 *
 * A limit of the process's control group, or of one above it, counts like a
 * machine of that size when it leaves less than the machine itself does.
 */
#ifndef LOOP_HOST_MEMORY_H
#define LOOP_HOST_MEMORY_H

#include <stdint.h>

#define HOST_MEMORY_TEXT_BYTES 8192u
#define HOST_MEMORY_PATH_BYTES 4096u

/* Memory to work in, so that reading allocates nothing. */
struct host_memory {
	const char *root; /* "" for this machine; tests: a folder with proc/ and sys/ */
	char own_group[HOST_MEMORY_PATH_BYTES];
	char path[HOST_MEMORY_PATH_BYTES];
	char text[HOST_MEMORY_TEXT_BYTES];
};

struct host_memory_sample {
	uint64_t total_bytes;	  /* of the machine, or the limit that leaves the least */
	uint64_t available_bytes; /* without swapping; file cache counts as available */
	uint32_t psi_centi;	  /* memory pressure "some avg10", in 1/100 %; 0 when not known */
};

/* @root: borrowed as long as @hm is used. */
void host_memory_init(struct host_memory *hm, const char *root);

/*
 * host_memory_read - reads anew; takes well under a millisecond.
 * Returns 0, or -errno when /proc/meminfo cannot be read or lacks a line (Linux 3.14
 * brought MemAvailable); *@ret_sample is written on success only.
 */
int host_memory_read(struct host_memory *hm, struct host_memory_sample *ret_sample);

#endif /* LOOP_HOST_MEMORY_H */
