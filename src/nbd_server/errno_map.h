/* SPDX-License-Identifier: MIT */
/* errno_map.h - the one place where an errno becomes an error of the NBD protocol. */
#ifndef NBD_SERVER_ERRNO_MAP_H
#define NBD_SERVER_ERRNO_MAP_H

#include <stdint.h>

/* @status: 0 or -errno.  Returns 0 or NBDP_E...; never NBDP_ESHUTDOWN: the kernel
 * would fail the I/O for good, where a closed connection lets it wait and retry. */
uint32_t nbds_error_of(int status);

#endif /* NBD_SERVER_ERRNO_MAP_H */
