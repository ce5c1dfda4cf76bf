/* SPDX-License-Identifier: MIT */
/* The server's own memory: locked, or it is swapped out to itself. */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "nbd_server/server_config_file.h"
#include "programs/doctor_parse.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"
#include "programs/doctor_verdict.h"
#include "programs/server_memory.h"

#define MIB_SHIFT 20
/* Above what the server holds: socket buffers, page tables, kernel memory for it. */
#define CGROUP_MARGIN_BYTES (UINT64_C(64) << MIB_SHIFT)

static uint64_t
mib(uint64_t bytes)
{
	return (bytes + (1u << MIB_SHIFT) - 1) >> MIB_SHIFT;
}

static void
check_lock(struct doctor *d, uint64_t need)
{
	char status[64] = "/proc/self/status";
	uint64_t effective = 0;
	struct rlimit limit;

	if (d->server_pid > 0)
		(void)snprintf(status, sizeof(status), "/proc/%d/status", (int)d->server_pid);
	(void)doctor_read_key(status, "CapEff", 16, &effective);
	if (prlimit(d->server_pid, RLIMIT_MEMLOCK, NULL, &limit) < 0) {
		doctor_warning(d, "RLIMIT_MEMLOCK", "cannot be asked: %s", strerror(errno));
		doctor_fix(d, "run it as root");
	} else if (limit.rlim_cur == RLIM_INFINITY) {
		doctor_ok(d, "RLIMIT_MEMLOCK", "no limit, %" PRIu64 " MiB are needed", mib(need));
	} else if (effective & (UINT64_C(1) << CAP_IPC_LOCK)) {
		doctor_ok(d, "RLIMIT_MEMLOCK",
			  "%" PRIu64 " KiB, which CAP_IPC_LOCK lifts; %" PRIu64 " MiB are needed",
			  (uint64_t)limit.rlim_cur >> 10, mib(need));
	} else if (limit.rlim_cur >= need) {
		doctor_ok(d, "RLIMIT_MEMLOCK", "%" PRIu64 " MiB, %" PRIu64 " MiB are needed",
			  (uint64_t)limit.rlim_cur >> MIB_SHIFT, mib(need));
	} else {
		doctor_failure(d, "RLIMIT_MEMLOCK",
			       "%" PRIu64 " KiB, but %" PRIu64
			       " MiB are needed: page map, buffers and the program, which would "
			       "else be swapped out to itself",
			       (uint64_t)limit.rlim_cur >> 10, mib(need));
		doctor_fix(d, "ulimit -l %" PRIu64 " (LimitMEMLOCK=infinity in a unit)",
			   mib(need) << 10);
	}
}

static void
check_available(struct doctor *d, uint64_t need)
{
	const uint64_t available = doctor_read_available_bytes();

	if (available == 0 || d->server_pid > 0)
		return; /* a running server has what it needs */
	if (available >= need) {
		doctor_ok(d, "memory",
			  "%" PRIu64 " MiB available, the server takes %" PRIu64 " MiB of them",
			  available >> MIB_SHIFT, mib(need));
		return;
	}
	doctor_failure(d, "memory",
		       "%" PRIu64 " MiB available, but the server locks %" PRIu64
		       " MiB: buffers and 64 KiB of page map for each GiB of the device",
		       available >> MIB_SHIFT, mib(need));
	doctor_fix(d, "smaller [limits] buffers or [device] size in %s", d->config_path);
}

/* The lowest of @file's values in the folder @path of cgroups and those above it. */
static uint64_t
lowest_limit(const char *path, const char *file, char *ret_where, size_t size)
{
	char folder[DOCTOR_PATH_BYTES], name[DOCTOR_PATH_BYTES + 64], text[64];
	uint64_t lowest = UINT64_MAX, value;
	char *slash;

	(void)snprintf(folder, sizeof(folder), "%s", path);
	while ((slash = strrchr(folder, '/')) != NULL) {
		(void)snprintf(name, sizeof(name), "/sys/fs/cgroup%s/%s", folder, file);
		if (doctor_read_line(name, text, sizeof(text)) &&
		    doctor_parse_limit(text, &value) && value < lowest) {
			lowest = value;
			(void)snprintf(ret_where, size, "%s", name);
		}
		*slash = '\0';
	}
	return lowest;
}

static bool
own_cgroup(const struct doctor *d, char *ret_path, size_t size)
{
	char name[64] = "/proc/self/cgroup", line[DOCTOR_PATH_BYTES];
	bool is_found = false;
	FILE *f;

	if (d->server_pid > 0)
		(void)snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)d->server_pid);
	f = fopen(name, "re");
	if (!f)
		return false;
	while (!is_found && fgets(line, sizeof(line), f))
		is_found = doctor_parse_cgroup(line, ret_path, size);
	(void)fclose(f);
	return is_found;
}

static void
check_cgroup(struct doctor *d, uint64_t need)
{
	static const char *const files[] = {"memory.max", "memory.high"};
	char path[DOCTOR_PATH_BYTES], where[DOCTOR_PATH_BYTES + 64] = "";
	uint64_t lowest = UINT64_MAX;

	/* Where memory is a controller of version 1, "0::/" is there too and says nothing. */
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0 ||
	    !own_cgroup(d, path, sizeof(path))) {
		doctor_ok(d, "cgroup", "not in a hierarchy of version 2: no limit looked at");
		return;
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char found[DOCTOR_PATH_BYTES + 64];
		const uint64_t limit = lowest_limit(path, files[i], found, sizeof(found));

		if (limit < lowest) {
			lowest = limit;
			(void)snprintf(where, sizeof(where), "%s", found);
		}
	}
	if (lowest == UINT64_MAX) {
		doctor_ok(d, "cgroup", "%s has no memory limit", path);
		return;
	}
	switch (doctor_judge_limit(lowest, need, CGROUP_MARGIN_BYTES)) {
	case DOCTOR_OK:
		doctor_ok(d, "cgroup", "%s is %" PRIu64 " MiB, the server takes %" PRIu64 " MiB",
			  where, lowest >> MIB_SHIFT, mib(need));
		return;
	case DOCTOR_WARNING:
		doctor_warning(d, "cgroup",
			       "%s is %" PRIu64 " MiB, near the %" PRIu64
			       " MiB of the server: its sockets' memory counts too",
			       where, lowest >> MIB_SHIFT, mib(need));
		break;
	case DOCTOR_FAILURE:
		doctor_failure(d, "cgroup",
			       "%s is %" PRIu64 " MiB, the server takes %" PRIu64
			       " MiB: it would be killed",
			       where, lowest >> MIB_SHIFT, mib(need));
		break;
	}
	doctor_fix(d, "echo max >%s (MemoryMax= and MemoryHigh= in a unit)", where);
}

void
doctor_check_memory(struct doctor *d)
{
	const uint64_t held = d->arena_bytes + SERVER_PROGRAM_BYTES +
			      d->config->buffers_bytes / SERVER_REQUEST_SHARE +
			      (uint64_t)SERVER_SESSION_BYTES * d->config->portals_max;
	uint64_t mapped, resident;

	/* This process has the libraries that the server has. */
	doctor_read_self_bytes(&mapped, &resident);
	check_lock(d, held + mapped);
	check_available(d, held + resident);
	check_cgroup(d, held + resident);
}
