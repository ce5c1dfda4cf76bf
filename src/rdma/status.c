/* SPDX-License-Identifier: MIT */
/* One table per source of errors, so that no caller decides on its own. */
#include "rdma/status.h"

#include <errno.h>

/* Reason codes of a CM REJ, InfiniBand specification 12.6.7.2 (the kernel's ib_cm.h). */
enum {
	CM_REJ_TIMEOUT = 4,
	CM_REJ_INVALID_SERVICE_ID = 8,
	CM_REJ_CONSUMER_DEFINED = 28,
};

int
vrb_status_of_wc(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_SUCCESS:
		return 0;
	case IBV_WC_WR_FLUSH_ERR:
		return -ECANCELED;
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
		return -ETIMEDOUT;
	case IBV_WC_REM_ACCESS_ERR:
		return -EACCES;
	default:
		return -EIO;
	}
}

int
vrb_status_of_cm(enum rdma_cm_event_type event, int status)
{
	if (status < 0)
		return status;
	switch (event) {
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
		return -EHOSTUNREACH;
	case RDMA_CM_EVENT_UNREACHABLE:
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

int
vrb_status_of_reject(int status)
{
	switch (status) {
	case CM_REJ_INVALID_SERVICE_ID:
	case CM_REJ_CONSUMER_DEFINED:
	case -ECONNREFUSED: /* what iWARP devices say */
		return -ECONNREFUSED;
	case CM_REJ_TIMEOUT:
		return -ETIMEDOUT;
	default:
		return -EPROTO;
	}
}
