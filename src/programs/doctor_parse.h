/* SPDX-License-Identifier: MIT */
/*
 * doctor_parse.h - the texts of /proc and /sys, and the first bytes of disks, as what they say.
 *
 * Pure.  Each returns false for what it does not understand, *@ret untouched.
 */
#ifndef PROGRAMS_DOCTOR_PARSE_H
#define PROGRAMS_DOCTOR_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOCTOR_PATH_BYTES 512

struct doctor_swap {
	char path[DOCTOR_PATH_BYTES];
	int priority;
};

/* A line of /proc/swaps; false for its heading. */
bool doctor_parse_swap(const char *line, struct doctor_swap *ret);

/* "MemTotal:    123 kB" or "CapEff:\t00ff": the number after @key and a colon. */
bool doctor_parse_key(const char *line, const char *key, int base, uint64_t *ret);

/* "6.1.0-28-amd64" */
bool doctor_parse_release(const char *release, unsigned int *ret_major, unsigned int *ret_minor);

/* The word in brackets of "always [madvise] never". */
bool doctor_parse_choice(const char *text, char *ret_word, size_t size);

/* The path of a line of /proc/PID/cgroup if it is of version 2, without newline. */
bool doctor_parse_cgroup(const char *line, char *ret_path, size_t size);

/* "max", which is UINT64_MAX, or bytes. */
bool doctor_parse_limit(const char *text, uint64_t *ret);

/* NBD_DEVICE of a .attach file's line: "NBD_DEVICE=/dev/nbd0". */
bool doctor_parse_attach(const char *line, char *ret_device, size_t size);

#define DOCTOR_SIGNATURE_BYTES (68u * 1024u)
#define DOCTOR_SIGNATURE_SWAP "a swap signature"
/* What the first bytes of a disk say that it holds: "xfs", DOCTOR_SIGNATURE_SWAP; NULL: nothing
 * known. */
const char *doctor_signature(const uint8_t *head, size_t length_bytes);

#endif /* PROGRAMS_DOCTOR_PARSE_H */
