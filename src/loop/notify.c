/* SPDX-License-Identifier: MIT */
#include "loop/notify.h"

#include <systemd/sd-daemon.h>

void
notify_ready(const char *status)
{
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void
notify_status(const char *status)
{
	(void)sd_notifyf(0, "STATUS=%s", status);
}

void
notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}

int
notify_listen_fds(int *ret_first_fd)
{
	const int n = sd_listen_fds(1);

	*ret_first_fd = SD_LISTEN_FDS_START;
	return n > 0 ? n : 0;
}
