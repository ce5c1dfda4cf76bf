/* SPDX-License-Identifier: MIT */
/*
 * ini.h - strict reader of ini files, driven by a table of keys.
 *
 * iniparser reads "1G" as 1, "abc" as 0, wraps large numbers and lets the last
 * of two equal keys win; this reader refuses all that.  Whatever is wrong, there
 * is exactly one line that says file, section, key, value and what is allowed:
 *
 *   swap0.ini: [device] size = 17X: not a size; allowed: 1M to 64T, with unit K, M, G or T
 *
 * The syntax is a subset of iniparser's, chosen so that nothing is cut or guessed:
 *   [section]                names: a-z 0-9 _
 *   key = value ; comment    a comment begins with ; or # after a space or tab
 *   key = "value"            needed for a value with ; or #, with quotes, or with blanks at its ends
 * No line continuation, no key outside a section, lines of at most
 * INI_LINE_BYTES_MAX bytes, printable text (UTF-8), no NUL.
 *
 * Start-up only: allocates and blocks.
 */
#ifndef COMMON_INI_H
#define COMMON_INI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INI_LINE_BYTES_MAX 1000u
#define INI_FILE_BYTES_MAX (64u * 1024u)
#define INI_PROBLEM_BYTES 1024u

/* Lists: at most so many items of so many bytes, NUL included. */
#define INI_LIST_MAX 32u
#define INI_ITEM_BYTES 128u

enum ini_type {
	INI_STRING = 1, /* char[field_bytes] */
	INI_NUMBER,	/* uint32_t */
	INI_MILLI,	/* uint32_t, thousandths; text like "0.2" */
	INI_SIZE,	/* uint64_t, bytes; text with unit K, M, G or T */
	INI_WORD,	/* uint32_t: index into words[] */
	INI_LIST,	/* struct ini_list: words separated by commas */
};

struct ini_list {
	uint32_t count;
	char item[INI_LIST_MAX][INI_ITEM_BYTES];
};

struct ini_key {
	const char *section;
	const char *name;
	enum ini_type type;
	const char *def; /* the value when the key is absent; NULL: it must be given */
	const char *
		def_doc; /* @def is "" and the loader makes a value up: what it is, for documents */
	uint64_t min, max;	  /* NUMBER, MILLI, SIZE: the value; LIST: items; inclusive */
	const char *const *words; /* WORD: ends with NULL */
	const char *zero;	  /* NUMBER: a word for 0, or NULL */
	const char *allowed;	  /* STRING, LIST: what the error line says */
	const char *unit;	  /* NUMBER, MILLI: "ms", or NULL */
	size_t offset;		  /* of the field in the struct that ini_load() fills */
	size_t field_bytes;	  /* STRING: room with its NUL */
};

struct ini;

/*
 * ini_load - read @path, check everything that @keys can say, fill @config.
 *
 * @keys: @count entries, static.  Fields of absent keys get their default.
 * @config: indeterminate after a failure.
 * @ret_ini: on success; caller owns it: ini_free() after the cross checks.
 * @problem: on failure the line, without newline, unprintable bytes as '?'.
 *
 * Returns 0; -EINVAL (the content); -ENOMEM; -EACCES, -ENOENT, ... (the file
 * cannot be read).
 */
int ini_load(const char *path, const struct ini_key *keys, size_t count, void *config,
	     struct ini **ret_ini, char problem[INI_PROBLEM_BYTES]);
/* NULL is a no-op.  Returns NULL. */
struct ini *ini_free(struct ini *ini);

/* Whether the file gives the key. */
bool ini_has(const struct ini *ini, const char *section, const char *name);

/*
 * ini_problem - writes the line for a value that a cross check refuses:
 * "FILE: [section] name = value: <what>; allowed: <allowed>".  Returns -EINVAL.
 */
int ini_problem(const struct ini *ini, const char *section, const char *name,
		char problem[INI_PROBLEM_BYTES], const char *allowed, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* What a key takes, as error lines say it: "1M to 64T, with unit K, M, G or T". */
void ini_allowed(const struct ini_key *key, char *buf, size_t size);

/* One line to standard error, with the journal's priority prefix under systemd. */
void ini_print_problem(const char problem[INI_PROBLEM_BYTES]);

#endif /* COMMON_INI_H */
