/* SPDX-License-Identifier: MIT */
/* probe.h - which RDMA devices there are and what they can, without using any. */
#ifndef RDMA_PROBE_H
#define RDMA_PROBE_H

#include <stdbool.h>

#define VRB_PROBE_NAME_BYTES 64

struct vrb_probe {
	char name[VRB_PROBE_NAME_BYTES];
	int status;	  /* 0, or -errno: it is there and cannot be opened */
	bool has_windows; /* memory windows of type 2B */
	bool has_port;	  /* one that is active */
};

/*
 * Calls @found for each device, inside the call.  Returns how many there are, or
 * -errno (-ENOSYS: the kernel has no verbs).  Blocks.
 */
int vrb_probe_devices(void (*found)(void *arg, const struct vrb_probe *probe), void *arg);

#endif /* RDMA_PROBE_H */
