/* SPDX-License-Identifier: MIT */
#include "programs/doctor_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kernel writes a space in a path as \040. */
static void
unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

bool
doctor_parse_swap(const char *line, struct doctor_swap *ret)
{
	struct doctor_swap swap;

	if (line[0] != '/' || sscanf(line, "%511s %*s %*u %*u %d", swap.path, &swap.priority) != 2)
		return false;
	unescape(swap.path);
	*ret = swap;
	return true;
}

bool
doctor_parse_key(const char *line, const char *key, int base, uint64_t *ret)
{
	const size_t length = strlen(key);
	uint64_t value;
	char *end;

	if (strncmp(line, key, length) != 0 || line[length] != ':')
		return false;
	line += length + 1;
	line += strspn(line, " \t");
	if (*line == '-')
		return false;
	errno = 0;
	value = strtoull(line, &end, base);
	if (end == line || errno != 0)
		return false;
	*ret = value;
	return true;
}

bool
doctor_parse_release(const char *release, unsigned int *ret_major, unsigned int *ret_minor)
{
	unsigned int major, minor;

	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		return false;
	*ret_major = major;
	*ret_minor = minor;
	return true;
}

bool
doctor_parse_choice(const char *text, char *ret_word, size_t size)
{
	const char *start = strchr(text, '[');
	const char *end = start ? strchr(start, ']') : NULL;

	if (!end || (size_t)(end - start) > size)
		return false;
	(void)snprintf(ret_word, size, "%.*s", (int)(end - start - 1), start + 1);
	return true;
}

static bool
rest_of_line(const char *text, char *ret, size_t size)
{
	const size_t length = strcspn(text, "\n");

	if (length == 0 || length >= size)
		return false;
	(void)snprintf(ret, size, "%.*s", (int)length, text);
	return true;
}

bool
doctor_parse_cgroup(const char *line, char *ret_path, size_t size)
{
	return strncmp(line, "0::/", 4) == 0 && rest_of_line(line + 3, ret_path, size);
}

bool
doctor_parse_limit(const char *text, uint64_t *ret)
{
	uint64_t value;
	char *end;

	if (strncmp(text, "max", 3) == 0 && (text[3] == '\n' || text[3] == '\0')) {
		*ret = UINT64_MAX;
		return true;
	}
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || (*end != '\n' && *end != '\0'))
		return false;
	*ret = value;
	return true;
}

bool
doctor_parse_attach(const char *line, char *ret_device, size_t size)
{
	static const char key[] = "NBD_DEVICE=";

	return strncmp(line, key, sizeof(key) - 1) == 0 && line[sizeof(key) - 1] == '/' &&
	       rest_of_line(line + sizeof(key) - 1, ret_device, size);
}

const char *
doctor_signature(const uint8_t *head, size_t length_bytes)
{
	static const struct {
		size_t offset;
		const char *magic;
		size_t magic_bytes;
		const char *name;
	} known[] = {
		{4086, "SWAPSPACE2", 10, DOCTOR_SIGNATURE_SWAP},
		{1080, "\x53\xef", 2, "ext4 (or ext2, ext3)"},
		{0, "XFSB", 4, "xfs"},
		{65600, "_BHRfS_M", 8, "btrfs"},
		{0, "LUKS\xba\xbe", 6, "a LUKS volume"},
		{536, "LVM2 001", 8, "an LVM physical volume"},
		{512, "EFI PART", 8, "a GPT partition table"},
		{510, "\x55\xaa", 2, "a boot sector or partition table"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].offset + known[i].magic_bytes <= length_bytes &&
		    memcmp(head + known[i].offset, known[i].magic, known[i].magic_bytes) == 0)
			return known[i].name;
	return NULL;
}
