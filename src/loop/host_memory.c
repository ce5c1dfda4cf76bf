/* SPDX-License-Identifier: MIT */
/* MemAvailable, not MemFree: what the file cache holds can be had at once. */
#include "loop/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the two versions of control groups call the same things. */
struct group_kind {
	const char *controller; /* how the line of /proc/self/cgroup goes on after its number */
	const char *mount;
	const char *limits[2];
	const char *used;
	const char *cache[3]; /* keys of memory.stat: can be had back without swapping */
};

static const struct group_kind group_kinds[] = {
	{"::",
	 "/sys/fs/cgroup",
	 {"memory.max", "memory.high"},
	 "memory.current",
	 {"active_file", "inactive_file", "slab_reclaimable"}},
	{":memory:",
	 "/sys/fs/cgroup/memory",
	 {"memory.limit_in_bytes", NULL},
	 "memory.usage_in_bytes",
	 {"total_active_file", "total_inactive_file", NULL}},
};

/* The file hm->path into hm->text. */
static int
read_text(struct host_memory *hm)
{
	size_t used = 0;
	ssize_t n = -1;
	const int fd = open(hm->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (used < sizeof(hm->text) - 1) {
		n = read(fd, hm->text + used, sizeof(hm->text) - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	hm->text[used] = '\0';
	n = n < 0 ? -errno : 0;
	(void)close(fd);
	return (int)n;
}

static int
read_proc(struct host_memory *hm, const char *name)
{
	(void)snprintf(hm->path, sizeof(hm->path), "%s/proc/%s", hm->root, name);
	return read_text(hm);
}

/* The number after @key at the beginning of a line of hm->text. */
static bool
find_number(const struct host_memory *hm, const char *key, uint64_t *ret)
{
	const size_t length = strlen(key);

	for (const char *line = hm->text; *line; line = strchrnul(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && (line[length] == ' ' || line[length] == ':'))
			return sscanf(line + length + 1, "%" SCNu64, ret) == 1;
	}
	return false;
}

/* File @name of the group at @dir, in hm->own_group's length @length, into hm->text. */
static bool
read_group(struct host_memory *hm, const struct group_kind *kind, size_t length, const char *name)
{
	const int n = snprintf(hm->path, sizeof(hm->path), "%s%s%.*s/%s", hm->root, kind->mount,
			       (int)length, hm->own_group, name);

	return (size_t)n < sizeof(hm->path) && read_text(hm) == 0;
}

static bool
read_group_number(struct host_memory *hm, const struct group_kind *kind, size_t length,
		  const char *name, uint64_t *ret)
{
	/* "max" is no number. */
	return name && read_group(hm, kind, length, name) && sscanf(hm->text, "%" SCNu64, ret) == 1;
}

/* The group of that much of hm->own_group: lowers the sample to what its limit leaves. */
static void
apply_group(struct host_memory *hm, const struct group_kind *kind, size_t length,
	    struct host_memory_sample *sample)
{
	uint64_t limit = UINT64_MAX, used = 0, cache = 0, n;

	for (int i = 0; i < 2; i++)
		if (read_group_number(hm, kind, length, kind->limits[i], &n) && n < limit)
			limit = n;
	if (limit == UINT64_MAX || !read_group_number(hm, kind, length, kind->used, &used))
		return;
	if (read_group(hm, kind, length, "memory.stat"))
		for (int i = 0; i < 3; i++)
			if (kind->cache[i] && find_number(hm, kind->cache[i], &n))
				cache += n;
	used -= cache < used ? cache : used;
	n = limit > used ? limit - used : 0;
	if (n < sample->available_bytes) {
		sample->available_bytes = n;
		sample->total_bytes = limit;
	}
}

/* hm->own_group from /proc/self/cgroup, "N:controllers:/path". */
static bool
find_group(struct host_memory *hm, const struct group_kind *kind)
{
	const char *line, *path;
	size_t length;

	if (read_proc(hm, "self/cgroup") < 0)
		return false;
	for (line = hm->text; *line; line += *line == '\n') {
		path = line + strspn(line, "0123456789");
		length = strlen(kind->controller);
		line = strchrnul(line, '\n');
		if (strncmp(path, kind->controller, length) != 0)
			continue;
		path += length;
		length = (size_t)(line - path);
		if (length == 0 || length >= sizeof(hm->own_group))
			continue;
		memcpy(hm->own_group, path, length);
		hm->own_group[length] = '\0';
		return true;
	}
	return false;
}

/*
 * The own group and all above it, the mount itself last.  A folder that is not
 * there is passed over: a container sees a path of the machine's but mounts only
 * its own part, whose limit is at the mount.
 */
static void
apply_groups(struct host_memory *hm, const struct group_kind *kind,
	     struct host_memory_sample *sample)
{
	size_t length;

	if (!find_group(hm, kind))
		return;
	for (length = strlen(hm->own_group); length > 0;) {
		apply_group(hm, kind, length, sample);
		while (length > 0 && hm->own_group[--length] != '/')
			continue;
	}
	apply_group(hm, kind, 0, sample);
}

static uint32_t
read_psi(struct host_memory *hm)
{
	unsigned percent, hundredths;

	if (read_proc(hm, "pressure/memory") < 0 ||
	    sscanf(hm->text, "some avg10=%3u.%2u", &percent, &hundredths) != 2)
		return 0;
	return percent * 100 + hundredths;
}

void
host_memory_init(struct host_memory *hm, const char *root)
{
	hm->root = root;
}

int
host_memory_read(struct host_memory *hm, struct host_memory_sample *ret_sample)
{
	struct host_memory_sample sample;
	int r = read_proc(hm, "meminfo");

	if (r < 0)
		return r;
	if (!find_number(hm, "MemTotal", &sample.total_bytes) ||
	    !find_number(hm, "MemAvailable", &sample.available_bytes))
		return -ENODATA;
	sample.total_bytes *= 1024;
	sample.available_bytes *= 1024;
	for (size_t i = 0; i < sizeof(group_kinds) / sizeof(group_kinds[0]); i++)
		apply_groups(hm, &group_kinds[i], &sample);
	sample.psi_centi = read_psi(hm);
	*ret_sample = sample;
	return 0;
}
