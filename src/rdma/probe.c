/* SPDX-License-Identifier: MIT */
#include "rdma/probe.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include <infiniband/verbs.h>

static void
probe_device(struct ibv_device *device, struct vrb_probe *ret_probe)
{
	struct ibv_context *verbs = ibv_open_device(device);
	struct ibv_device_attr attr;
	struct ibv_port_attr port;

	if (!verbs) {
		ret_probe->status = errno ? -errno : -ENODEV;
		return;
	}
	ret_probe->status = -ibv_query_device(verbs, &attr);
	if (ret_probe->status == 0) {
		ret_probe->has_windows =
			(attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) && attr.max_mw > 0;
		for (uint8_t i = 1; i <= attr.phys_port_cnt && !ret_probe->has_port; i++)
			ret_probe->has_port = ibv_query_port(verbs, i, &port) == 0 &&
					      port.state == IBV_PORT_ACTIVE;
	}
	(void)ibv_close_device(verbs);
}

int
vrb_probe_devices(void (*found)(void *arg, const struct vrb_probe *probe), void *arg)
{
	struct ibv_device **devices;
	int n;

	errno = 0;
	devices = ibv_get_device_list(&n);
	if (!devices)
		return errno ? -errno : -ENOSYS;
	for (int i = 0; i < n; i++) {
		struct vrb_probe probe = {0};

		(void)snprintf(probe.name, sizeof(probe.name), "%s",
			       ibv_get_device_name(devices[i]));
		probe_device(devices[i], &probe);
		found(arg, &probe);
	}
	ibv_free_device_list(devices);
	return n;
}
