/* SPDX-License-Identifier: MIT */
#include "programs/host_needs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIN_FREE "vm.min_free_kbytes"
/* What the kernel itself sets with transparent huge pages on 16 GiB or more. */
#define MIN_FREE_KIB_MAX UINT64_C(65536)
/* Of the RAM of a smaller machine: 8 MiB of 256. */
#define MIN_FREE_SHARE 32u
/* Firmware and the kernel's image take their part of a machine's nominal RAM. */
#define ROUND_KIB UINT64_C(1024)

uint64_t
host_needs_min_free_kib(uint64_t memory_bytes)
{
	uint64_t kib = memory_bytes / 1024 / MIN_FREE_SHARE;

	if (kib >= MIN_FREE_KIB_MAX || memory_bytes == 0)
		return MIN_FREE_KIB_MAX;
	kib -= kib % ROUND_KIB;
	return kib > ROUND_KIB ? kib : ROUND_KIB;
}

/* "vm.min_free_kbytes" is vm/min_free_kbytes. */
static bool
read_sysctl(const char *folder, const char *name, uint64_t *ret_value)
{
	char path[256];
	int length = snprintf(path, sizeof(path), "%s/%s", folder, name);
	bool is_read = false;
	FILE *f;

	if (length < 0 || (size_t)length >= sizeof(path))
		return false;
	for (char *dot = path + strlen(folder); (dot = strchr(dot, '.')) != NULL;)
		*dot = '/';
	f = fopen(path, "re");
	if (!f)
		return false;
	is_read = fscanf(f, "%" SCNu64, ret_value) == 1;
	(void)fclose(f);
	return is_read;
}

uint64_t
host_needs_min_free_now_kib(const char *sysctl_folder)
{
	uint64_t kib;

	return read_sysctl(sysctl_folder, MIN_FREE, &kib) ? kib : 0;
}

void
host_needs_check(const char *sysctl_folder, uint64_t memory_bytes,
		 struct host_need ret_needs[HOST_NEEDS_COUNT])
{
	const struct host_need needs[HOST_NEEDS_COUNT] = {
		{.name = "vm.watermark_boost_factor",
		 .wanted = 0,
		 .why = "the kernel raises its watermarks after fragmentation, and the server then "
			"waits for memory that only it can free"},
		{.name = MIN_FREE,
		 .is_minimum = true,
		 .wanted = host_needs_min_free_kib(memory_bytes),
		 .why = "too little is kept free for sockets and network card while memory is "
			"swapped out"},
	};

	for (size_t i = 0; i < HOST_NEEDS_COUNT; i++) {
		struct host_need *need = &ret_needs[i];
		bool is_met;

		*need = needs[i];
		(void)snprintf(need->mend, sizeof(need->mend), "sysctl -w %s=%" PRIu64, need->name,
			       need->wanted);
		if (!read_sysctl(sysctl_folder, need->name, &need->current)) {
			need->current = 0;
			need->verdict = HOST_NEED_UNKNOWN;
			continue;
		}
		is_met = need->is_minimum ? need->current >= need->wanted
					  : need->current == need->wanted;
		need->verdict = is_met ? HOST_NEED_OK : HOST_NEED_UNMET;
	}
}

bool
host_needs_swaps_to_nbd(const char *swaps, char *ret_device, size_t size)
{
	char line[512], device[64];
	bool found = false;
	FILE *f = fopen(swaps, "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%63s", device) == 1 && strncmp(device, "/dev/nbd", 8) == 0;
	(void)fclose(f);
	if (found)
		(void)snprintf(ret_device, size, "%s", device);
	return found;
}
