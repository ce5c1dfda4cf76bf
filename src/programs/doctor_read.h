/* SPDX-License-Identifier: MIT */
/* doctor_read.h - small files of /proc and /sys, and programs asked for a yes or no. */
#ifndef PROGRAMS_DOCTOR_READ_H
#define PROGRAMS_DOCTOR_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The first line of @path without its newline; false when there is none. */
bool doctor_read_line(const char *path, char *ret_text, size_t size);
/* The number in @path. */
bool doctor_read_u64(const char *path, uint64_t *ret);
/* The number after @key in a file with a key on each line, such as /proc/meminfo. */
bool doctor_read_key(const char *path, const char *key, int base, uint64_t *ret);
/* The name of process @pid, "?" when it is gone. */
void doctor_read_comm(pid_t pid, char *ret_name, size_t size);
/* RAM that can be had now, bytes; 0: unknown. */
uint64_t doctor_read_available_bytes(void);
/* Of this process: what it has mapped, and what of that is in memory, bytes. */
void doctor_read_self_bytes(uint64_t *ret_mapped, uint64_t *ret_resident);

/* Where the program @name is, in PATH or where administrators' programs are. */
bool doctor_find_program(const char *name, char *ret_path, size_t size);
/* Runs @argv (argv[0]: its path) without output; its exit status, or -errno. */
int doctor_run_program(char *const argv[]);

#endif /* PROGRAMS_DOCTOR_READ_H */
