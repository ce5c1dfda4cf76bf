/* SPDX-License-Identifier: MIT */
/*
 * ini_scan.h - the line syntax of ini.h, and nothing else: which section and key
 * stands on which line.  Refuses whatever iniparser would cut, join or guess.
 */
#ifndef COMMON_INI_SCAN_H
#define COMMON_INI_SCAN_H

#include <stddef.h>

/* One [section] line (@name is NULL) or one key line. */
struct ini_line {
	const char *section;
	const char *name;
	const char *value; /* without quotes and comment */
	unsigned int number;
};

/*
 * ini_scan - cuts @text into lines.
 *
 * @text: @length bytes and a NUL behind them; modified; the result points into it.
 * @lines: room for one entry per line of the text.
 * @ret_count: entries written; on success only.
 * @ret_number, @ret_what: on failure the line and what is wrong with it (static).
 *
 * Returns 0 or -EINVAL.
 */
int ini_scan(char *text, size_t length, struct ini_line *lines, size_t *ret_count,
	     unsigned int *ret_number, const char **ret_what);

#endif /* COMMON_INI_SCAN_H */
