/* SPDX-License-Identifier: MIT */
/*
 * What the kernel lets the server do.  Of a server that runs, its own state is
 * looked at; else this process stands for it, started in the same way.
 */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nbd_server/server_config_file.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Descriptors besides those of NBD clients: loop, ring, backup, sockets, log. */
#define BASE_FDS 64u
/* A daemon's, while an old session ends and a new one begins. */
#define FDS_PER_PORTAL 8u

struct capability {
	unsigned int number;
	const char *name;
	bool is_vital;
	const char *what_for;
};

static void
fix_capability(struct doctor *d, const struct capability *c, bool is_bounded)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (is_bounded) {
		doctor_fix(d,
			   "outside this container or unit: its bounding set lacks %s (docker run "
			   "--cap-add=%s; CapabilityBoundingSet=)",
			   c->name, c->name + strlen("CAP_"));
		return;
	}
	self[n > 0 ? n : 0] = '\0';
	doctor_fix(d,
		   "run it as root, or: "
		   "setcap cap_sys_resource,cap_ipc_lock,cap_sys_nice+ep %s",
		   n > 0 ? self : "slabswap-nbd");
}

static void
check_capabilities(struct doctor *d)
{
	static const struct capability capabilities[] = {
		{CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", true,
		 "for PR_SET_IO_FLUSHER and to be spared by the OOM killer"},
		{CAP_IPC_LOCK, "CAP_IPC_LOCK", false, "to lock memory beyond RLIMIT_MEMLOCK"},
		{CAP_SYS_NICE, "CAP_SYS_NICE", false,
		 "for real-time priority, which [limits] realtime takes"},
	};
	uint64_t effective = 0, bounding = 0;
	char status[64] = "/proc/self/status";

	if (d->server_pid > 0)
		(void)snprintf(status, sizeof(status), "/proc/%d/status", (int)d->server_pid);
	(void)doctor_read_key(status, "CapEff", 16, &effective);
	(void)doctor_read_key(status, "CapBnd", 16, &bounding);
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		const struct capability *c = &capabilities[i];
		const uint64_t bit = UINT64_C(1) << c->number;

		if (c->number == CAP_SYS_NICE && d->config->realtime == SERVER_REALTIME_NO)
			continue;
		if (effective & bit) {
			doctor_ok(d, c->name, "there, %s", c->what_for);
			continue;
		}
		if (c->is_vital)
			doctor_failure(d, c->name, "missing, needed %s", c->what_for);
		else
			doctor_warning(d, c->name, "missing, used %s", c->what_for);
		fix_capability(d, c, !(bounding & bit));
	}
}

static void
check_io_flusher(struct doctor *d)
{
	const char *what = "PR_SET_IO_FLUSHER";

	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0) {
		(void)prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
		doctor_ok(d, what, "works: the server's allocations need not wait for swap-out");
		return;
	}
	doctor_failure(d, what,
		       "%s: the server's own allocations can wait for the swap-out that it has "
		       "to do, and the machine hangs",
		       strerror(errno));
	doctor_fix(d, "%s",
		   errno == EINVAL ? "apt-get install linux-image-amd64 (needs Linux 5.6)"
				   : "give it CAP_SYS_RESOURCE, see above");
}

static void
check_user(struct doctor *d)
{
	if (geteuid() == 0) {
		doctor_ok(d, "user", "root");
		return;
	}
	doctor_warning(d, "user",
		       "uid %u is not root: attaching the device needs root, opening a "
		       "partition mostly does",
		       (unsigned int)geteuid());
	doctor_fix(d, "sudo slabswap-nbd -c %s --doctor", d->config_path);
}

static void
check_descriptors(struct doctor *d)
{
	const uint64_t need = BASE_FDS + d->config->max_connections +
			      (uint64_t)FDS_PER_PORTAL * d->config->portals_max;
	struct rlimit limit;

	if (prlimit(d->server_pid, RLIMIT_NOFILE, NULL, &limit) < 0) {
		doctor_warning(d, "RLIMIT_NOFILE", "cannot be asked: %s", strerror(errno));
		doctor_fix(d, "run it as root");
	} else if (limit.rlim_cur >= need) {
		doctor_ok(d, "RLIMIT_NOFILE", "%" PRIu64 ", up to %" PRIu64 " are needed",
			  (uint64_t)limit.rlim_cur, need);
	} else {
		doctor_failure(d, "RLIMIT_NOFILE",
			       "%" PRIu64
			       ", but max_connections = %u and max_portals = %u need %" PRIu64,
			       (uint64_t)limit.rlim_cur, d->config->max_connections,
			       d->config->portals_max, need);
		doctor_fix(d, "ulimit -n %" PRIu64 " (LimitNOFILE=%" PRIu64 " in a unit)", need,
			   need);
	}
}

static void
check_io_uring(struct doctor *d)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(__NR_io_uring_setup, 1, &params);

	if (fd >= 0) {
		(void)close(fd);
		doctor_ok(d, "io_uring", "allowed, for the backup");
		return;
	}
	doctor_failure(d, "io_uring", "%s: the backup cannot be written", strerror(errno));
	doctor_fix(d, "sysctl -w kernel.io_uring_disabled=0 (or the container's seccomp profile)");
}

void
doctor_check_process(struct doctor *d)
{
	check_user(d);
	check_capabilities(d);
	check_io_flusher(d);
	if (server_file_has_backup(d->config))
		check_io_uring(d);
	check_descriptors(d);
}
