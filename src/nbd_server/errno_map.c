/* SPDX-License-Identifier: MIT */
/* The numbers on the wire are fixed by the protocol, those of errno by the machine. */
#include "nbd_server/errno_map.h"

#include <errno.h>

#include "wire/nbd_proto.h"

uint32_t
nbds_error_of(int status)
{
	switch (-status) {
	case 0:
		return 0;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBDP_EPERM;
	case ENOMEM:
		return NBDP_ENOMEM;
	case EINVAL:
		return NBDP_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBDP_ENOSPC;
	case EOVERFLOW:
		return NBDP_EOVERFLOW;
	case EOPNOTSUPP:
		return NBDP_ENOTSUP;
	default:
		return NBDP_EIO;
	}
}
