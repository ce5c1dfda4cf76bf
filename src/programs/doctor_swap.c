/* SPDX-License-Identifier: MIT */
/* What the kernel swaps to besides this device, and whether this host also lends. */
#include "programs/doctor_checks.h"

#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/size.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor_parse.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"
#include "programs/doctor_verdict.h"
#include "transport/address.h"

/* What the documents tell people to give swapon, and the swap unit does. */
#define USUAL_PRIORITY 100
#define SWAPS_MAX 32u
#define SECTOR_SHIFT 9

/* The device that the attach unit uses for it; "" when there is no such file. */
static void
attach_device(const struct doctor *d, char *ret_device, size_t size)
{
	char path[DOCTOR_PATH_BYTES], line[DOCTOR_PATH_BYTES];
	bool is_found = false;
	FILE *f;

	ret_device[0] = '\0';
	(void)snprintf(path, sizeof(path), "/etc/slabswap/%s.attach", d->config->name);
	f = fopen(path, "re");
	if (!f)
		return;
	while (!is_found && fgets(line, sizeof(line), f))
		is_found = doctor_parse_attach(line, ret_device, size);
	(void)fclose(f);
}

/* An nbd device that is attached and has the size of ours, or the one the attach unit names. */
static bool
is_ours(const struct doctor *d, const char *attach, const char *device)
{
	char path[DOCTOR_PATH_BYTES + 32];
	uint64_t sectors;
	const char *name = strrchr(device, '/') + 1;

	if (strcmp(device, attach) == 0)
		return true;
	if (attach[0] != '\0' || strncmp(name, "nbd", 3) != 0)
		return false;
	(void)snprintf(path, sizeof(path), "/sys/block/%s/size", name);
	return doctor_read_u64(path, &sectors) && sectors << SECTOR_SHIFT == d->config->size_bytes;
}

static uint32_t
read_swaps(struct doctor_swap swaps[SWAPS_MAX])
{
	char line[DOCTOR_PATH_BYTES + 128];
	FILE *f = fopen("/proc/swaps", "re");
	uint32_t n = 0;

	if (!f)
		return 0;
	while (n < SWAPS_MAX && fgets(line, sizeof(line), f))
		n += doctor_parse_swap(line, &swaps[n]);
	(void)fclose(f);
	return n;
}

static void
check_other(struct doctor *d, const struct doctor_swap *other, int priority)
{
	doctor_warning(d, "swap", "%s has priority %d, this device %d: %s", other->path,
		       other->priority, priority, doctor_judge_priority(other->priority, priority));
	doctor_fix(d, "swapoff %s%s", other->path,
		   other->priority < priority ? " (or keep it as a reserve)" : "");
}

static void
check_priorities(struct doctor *d)
{
	struct doctor_swap swaps[SWAPS_MAX];
	char attach[DOCTOR_PATH_BYTES];
	const uint32_t n = read_swaps(swaps);
	int priority = USUAL_PRIORITY;
	uint32_t ours = UINT32_MAX, others = 0;

	attach_device(d, attach, sizeof(attach));
	for (uint32_t i = 0; i < n && ours == UINT32_MAX; i++)
		if (is_ours(d, attach, swaps[i].path))
			ours = i;
	if (ours < n) {
		priority = swaps[ours].priority;
		doctor_ok(d, "swap", "%s is in use with priority %d", swaps[ours].path, priority);
	} else if (n == 0) {
		doctor_ok(d, "swap", "none in use yet");
	}
	for (uint32_t i = 0; i < n; i++) {
		/* More slabswap devices of the same priority are how to use more cores. */
		if (i == ours ||
		    (swaps[i].priority == priority && strncmp(swaps[i].path, "/dev/nbd", 8) == 0))
			continue;
		check_other(d, &swaps[i], priority);
		others++;
	}
	if (ours >= n && n > 0 && others == 0)
		doctor_ok(d, "swap", "only nbd devices");
}

/* Whether anything on this host could be bound to the portal's address. */
static bool
is_local(const char *portal)
{
	struct sockaddr_storage address;
	socklen_t length;
	bool local;
	int fd;

	if (strncmp(portal, "shm:", 4) == 0)
		return true;
	if (tp_address_parse(strchr(portal, ':') + 1, &address, &length) < 0)
		return false;
	fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	/* Port 0: only whether the address is one of ours. */
	if (address.ss_family == AF_INET)
		((struct sockaddr_in *)&address)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&address)->sin6_port = 0;
	local = bind(fd, (const struct sockaddr *)&address, length) == 0;
	(void)close(fd);
	return local;
}

static pid_t
find_daemon(void)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;
	char name[32];
	pid_t pid = 0;
	uint64_t number;

	if (!proc)
		return 0;
	while (pid == 0 && (entry = readdir(proc)) != NULL) {
		if (number_parse(entry->d_name, &number) < 0)
			continue;
		doctor_read_comm((pid_t)number, name, sizeof(name));
		if (strcmp(name, "slabswapd") == 0)
			pid = (pid_t)number;
	}
	(void)closedir(proc);
	return pid;
}

static void
check_cycle(struct doctor *d)
{
	const struct doctor_portals *portals = d->portals;
	const pid_t daemon = find_daemon();

	for (uint32_t i = 0; i < portals->count; i++) {
		if (!is_local(portals->item[i]))
			continue;
		doctor_warning(d, "swap cycle",
			       "portal %s is this host: it would swap to its own "
			       "memory",
			       portals->item[i]);
		doctor_fix(d, "remove it from [daemons] portals in %s", d->config_path);
		return;
	}
	if (daemon == 0) {
		doctor_ok(d, "swap cycle", "none: this host does not lend");
		return;
	}
	doctor_warning(d, "swap cycle",
		       "this host lends too (slabswapd, process %d): with a lender "
		       "that swaps to it, each can wait for the other",
		       (int)daemon);
	doctor_fix(d, "systemctl disable --now slabswapd (or let no host in portals swap to this "
		      "one)");
}

void
doctor_check_swap(struct doctor *d)
{
	check_priorities(d);
	check_cycle(d);
}
