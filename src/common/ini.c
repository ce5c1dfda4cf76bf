/* SPDX-License-Identifier: MIT */
/* iniparser is a tokenizer, not a validator: here is what stands between it and the programs. */
#include "common/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iniparser/iniparser.h>

#include "common/ini_scan.h"
#include "common/size.h"

struct ini {
	char *path;
	const struct ini_key *keys;
	size_t key_count;
	char *text; /* what lines[] points into */
	struct ini_line *lines;
	size_t line_count;
	dictionary *dict;
};

static void problem_format(char problem[INI_PROBLEM_BYTES], const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void
problem_format(char problem[INI_PROBLEM_BYTES], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(problem, INI_PROBLEM_BYTES, fmt, ap);
	va_end(ap);
	if (n < 0)
		problem[0] = '\0';
	for (char *p = problem; *p; p++) /* one problem stays one line */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

static const struct ini_key *
key_find(const struct ini *ini, const char *section, const char *name)
{
	for (size_t i = 0; i < ini->key_count; i++)
		if (strcmp(ini->keys[i].section, section) == 0 &&
		    (!name || strcmp(ini->keys[i].name, name) == 0))
			return &ini->keys[i];
	return NULL;
}

static const char *
value_find(const struct ini *ini, const struct ini_key *key)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s:%s", key->section, key->name);
	return iniparser_getstring(ini->dict, path, NULL);
}

/* "a, b or c" into @buf, cut to @size. */
static void
names_append(char *buf, size_t size, const char *name, bool is_first, bool is_last)
{
	size_t used = strlen(buf);

	(void)snprintf(buf + used, size - used, "%s%s",
		       is_first	 ? ""
		       : is_last ? " or "
				 : ", ",
		       name);
}

void
ini_allowed(const struct ini_key *key, char *buf, size_t size)
{
	char from[SIZE_TEXT_BYTES], to[SIZE_TEXT_BYTES];

	buf[0] = '\0';
	switch (key->type) {
	case INI_NUMBER:
		(void)snprintf(buf, size, "%" PRIu64 " to %" PRIu64 "%s%s%s%s", key->min, key->max,
			       key->unit ? " " : "", key->unit ? key->unit : "",
			       key->zero ? ", or " : "", key->zero ? key->zero : "");
		break;
	case INI_MILLI:
		(void)snprintf(buf, size, "%s to %s%s%s", milli_format(key->min, from),
			       milli_format(key->max, to), key->unit ? " " : "",
			       key->unit ? key->unit : "");
		break;
	case INI_SIZE:
		(void)snprintf(buf, size, "%s to %s, with unit K, M, G or T",
			       size_format(key->min, from), size_format(key->max, to));
		break;
	case INI_WORD:
		for (size_t i = 0; key->words[i]; i++)
			names_append(buf, size, key->words[i], i == 0, !key->words[i + 1]);
		break;
	case INI_STRING:
	case INI_LIST:
		(void)snprintf(buf, size, "%s", key->allowed);
		break;
	}
}

static int
key_problem(const struct ini *ini, const struct ini_key *key, const char *value,
	    char problem[INI_PROBLEM_BYTES], const char *what)
{
	char allowed[256];

	ini_allowed(key, allowed, sizeof(allowed));
	problem_format(problem, "%.300s: [%s] %s%s%.200s: %s; allowed: %s", ini->path, key->section,
		       key->name, value ? " = " : "", value ? value : "", what, allowed);
	return -EINVAL;
}

int
ini_problem(const struct ini *ini, const char *section, const char *name,
	    char problem[INI_PROBLEM_BYTES], const char *allowed, const char *fmt, ...)
{
	const struct ini_key *key = key_find(ini, section, name);
	const char *value = key ? value_find(ini, key) : NULL;
	char what[256];
	va_list ap;

	if (!value)
		value = key && key->def ? key->def : "";
	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	problem_format(problem, "%.300s: [%s] %s = %.200s: %s; allowed: %s", ini->path, section,
		       name, value, what, allowed);
	return -EINVAL;
}

/* The names that may stand where @line does: sections, or the keys of its section. */
static void
known_names(const struct ini *ini, const struct ini_line *line, char *buf, size_t size)
{
	size_t last = 0;

	buf[0] = '\0';
	for (int pass = 0; pass < 2; pass++) {
		bool is_first = true;

		for (size_t i = 0; i < ini->key_count; i++) {
			const struct ini_key *key = &ini->keys[i];

			if (line->name ? strcmp(key->section, line->section) != 0
				       : i && strcmp(key->section, key[-1].section) == 0)
				continue;
			if (pass == 0) {
				last = i;
				continue;
			}
			names_append(buf, size, line->name ? key->name : key->section, is_first,
				     i == last);
			is_first = false;
		}
	}
}

static int
unknown_problem(const struct ini *ini, const struct ini_line *line, char problem[INI_PROBLEM_BYTES])
{
	char names[384];

	known_names(ini, line, names, sizeof(names));
	if (line->name)
		problem_format(problem, "%.300s: [%s] %.100s = %.100s: unknown key; allowed: %s",
			       ini->path, line->section, line->name, line->value, names);
	else
		problem_format(problem, "%.300s: [%.100s]: unknown section; allowed: %s", ini->path,
			       line->section, names);
	return -EINVAL;
}

static bool
lines_equal(const struct ini_line *a, const struct ini_line *b)
{
	if (strcmp(a->section, b->section) != 0 || !a->name != !b->name)
		return false;
	return !a->name || strcmp(a->name, b->name) == 0;
}

static int
check_names(const struct ini *ini, char problem[INI_PROBLEM_BYTES])
{
	for (size_t i = 0; i < ini->line_count; i++) {
		const struct ini_line *line = &ini->lines[i];

		if (!key_find(ini, line->section, line->name))
			return unknown_problem(ini, line, problem);
		/* Known names without a double: i never gets far beyond key_count. */
		for (size_t j = 0; j < i; j++) {
			if (!lines_equal(line, &ini->lines[j]))
				continue;
			problem_format(problem,
				       "%.300s: [%s]%s%s%s%.200s: given twice; allowed: once, "
				       "lines %u and %u",
				       ini->path, line->section, line->name ? " " : "",
				       line->name ? line->name : "", line->name ? " = " : "",
				       line->name ? line->value : "", ini->lines[j].number,
				       line->number);
			return -EINVAL;
		}
	}
	return 0;
}

/* NULL, or what is wrong. */
static const char *
number_check(const struct ini_key *key, const char *value, uint64_t *ret)
{
	int r = key->type == INI_SIZE	 ? size_parse(value, ret)
		: key->type == INI_MILLI ? milli_parse(value, ret)
					 : number_parse(value, ret);

	if (r == -EINVAL)
		return key->type == INI_SIZE ? "not a size" : "not a number";
	if (r == -ERANGE || *ret > key->max)
		return "too large";
	return *ret < key->min ? "too small" : NULL;
}

static const char *
word_check(const struct ini_key *key, const char *value, uint32_t *ret)
{
	for (uint32_t i = 0; key->words[i]; i++) {
		if (strcmp(key->words[i], value) == 0) {
			*ret = i;
			return NULL;
		}
	}
	return "unknown word";
}

/* One item of a list, [@s, @end) with blanks around it.  NULL, or what is wrong. */
static const char *
item_add(const struct ini_key *key, const char *s, const char *end, struct ini_list *list)
{
	size_t length;

	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	length = (size_t)(end - s);
	if (!length)
		return "empty entry in the list";
	if (length >= INI_ITEM_BYTES)
		return "entry too long";
	if (list->count == INI_LIST_MAX || list->count == key->max)
		return "too many entries";
	for (uint32_t i = 0; i < list->count; i++)
		if (strlen(list->item[i]) == length && memcmp(list->item[i], s, length) == 0)
			return "entry given twice";
	memcpy(list->item[list->count], s, length);
	list->item[list->count++][length] = '\0';
	return NULL;
}

static const char *
list_check(const struct ini_key *key, const char *value, struct ini_list *list)
{
	const char *s = value, *end, *what;

	list->count = 0;
	while (*value) {
		end = strchrnul(s, ',');
		what = item_add(key, s, end, list);
		if (what)
			return what;
		if (!*end)
			break;
		s = end + 1;
	}
	return list->count < key->min ? "empty" : NULL;
}

static const char *
string_check(const struct ini_key *key, const char *value, char *field)
{
	size_t length = strlen(value);

	if (length < key->min)
		return "empty";
	if (length >= key->field_bytes)
		return "too long";
	memcpy(field, value, length + 1);
	return NULL;
}

/* Converts @value into the key's field.  NULL, or what is wrong. */
static const char *
field_fill(const struct ini_key *key, const char *value, void *config)
{
	void *field = (char *)config + key->offset;
	const char *what;
	uint64_t n = 0;

	switch (key->type) {
	case INI_NUMBER:
	case INI_MILLI:
		if (key->zero && strcmp(value, key->zero) == 0)
			value = "0";
		what = number_check(key, value, &n);
		*(uint32_t *)field = (uint32_t)n;
		return what;
	case INI_SIZE:
		return number_check(key, value, field);
	case INI_WORD:
		return word_check(key, value, field);
	case INI_LIST:
		return list_check(key, value, field);
	case INI_STRING:
		return string_check(key, value, field);
	}
	return "unknown type of key";
}

static int
fields_fill(const struct ini *ini, void *config, char problem[INI_PROBLEM_BYTES])
{
	for (size_t i = 0; i < ini->key_count; i++) {
		const struct ini_key *key = &ini->keys[i];
		const char *value = value_find(ini, key);
		const char *what;

		if (!value && !key->def)
			return key_problem(ini, key, NULL, problem, "missing");
		if (!value && key->def_doc)
			continue; /* the loader makes it up */
		what = field_fill(key, value ? value : key->def, config);
		if (what)
			return key_problem(ini, key, value ? value : key->def, problem, what);
	}
	return 0;
}

/* The whole file, at most INI_FILE_BYTES_MAX, with a NUL behind it. */
static int
file_read(const char *path, char **ret_text, size_t *ret_length, char problem[INI_PROBLEM_BYTES])
{
	const size_t room = INI_FILE_BYTES_MAX + 1;
	const char *what = NULL;
	size_t length = 0;
	char *text = NULL;
	ssize_t n = 0;
	int fd, r = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		goto out_errno;
	text = malloc(room + 1);
	if (!text)
		goto out_errno;
	while (length < room) {
		n = read(fd, text + length, room - length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	if (n < 0)
		goto out_errno;
	if (length == room) {
		what = "file too large; allowed: 64K bytes";
		r = -EINVAL;
		goto out;
	}
	text[length] = '\0';
	*ret_text = text;
	*ret_length = length;
	text = NULL;
	goto out;
out_errno:
	r = -errno;
	what = strerror(errno);
out:
	if (what)
		problem_format(problem, "%.300s: cannot read the configuration: %s", path, what);
	free(text);
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static int
silent(const char *fmt, ...)
{
	(void)fmt;
	return 0;
}

/* iniparser takes file names only; it gets the bytes that were checked, not the
 * file that may have changed since. */
static int
dict_load(const char *text, size_t length, dictionary **ret_dict)
{
	char path[64];
	size_t done = 0;
	dictionary *dict;
	int fd, r = 0;

	fd = memfd_create("slabswap-ini", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (done < length) {
		ssize_t n = write(fd, text + done, length - done);

		if (n < 0) {
			r = -errno;
			goto out;
		}
		done += (size_t)n;
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	iniparser_set_error_callback(silent);
	dict = iniparser_load(path);
	if (!dict)
		r = -EINVAL;
	else
		*ret_dict = dict;
out:
	(void)close(fd);
	return r;
}

/* Fills text and lines of @ini from a copy of @text. */
static int
lines_load(struct ini *ini, const char *text, size_t length, char problem[INI_PROBLEM_BYTES])
{
	const char *what;
	unsigned int number;
	size_t room = 1;

	for (size_t i = 0; i < length; i++)
		room += text[i] == '\n';
	ini->lines = calloc(room, sizeof(*ini->lines));
	ini->text = malloc(length + 1);
	if (!ini->lines || !ini->text) {
		problem_format(problem, "%.300s: %s", ini->path, strerror(ENOMEM));
		return -ENOMEM;
	}
	memcpy(ini->text, text, length + 1);
	if (ini_scan(ini->text, length, ini->lines, &ini->line_count, &number, &what) < 0) {
		problem_format(problem,
			       "%.300s: line %u: %s; allowed: [section], key = value ; comment, "
			       "at most %u bytes a line",
			       ini->path, number, what, INI_LINE_BYTES_MAX);
		return -EINVAL;
	}
	return 0;
}

static int
ini_parse(struct ini *ini, char problem[INI_PROBLEM_BYTES])
{
	size_t length = 0;
	char *text = NULL;
	int r;

	r = file_read(ini->path, &text, &length, problem);
	if (r < 0)
		return r;
	r = lines_load(ini, text, length, problem);
	if (r < 0)
		goto out;
	r = check_names(ini, problem);
	if (r < 0)
		goto out;
	r = dict_load(text, length, &ini->dict);
	if (r < 0)
		problem_format(problem, "%.300s: cannot parse: %s", ini->path, strerror(-r));
out:
	free(text);
	return r;
}

int
ini_load(const char *path, const struct ini_key *keys, size_t count, void *config,
	 struct ini **ret_ini, char problem[INI_PROBLEM_BYTES])
{
	struct ini *ini = calloc(1, sizeof(*ini));
	int r = -ENOMEM;

	if (ini)
		ini->path = strdup(path);
	if (!ini || !ini->path) {
		problem_format(problem, "%.300s: %s", path, strerror(ENOMEM));
		goto err_free;
	}
	ini->keys = keys;
	ini->key_count = count;
	r = ini_parse(ini, problem);
	if (r < 0)
		goto err_free;
	r = fields_fill(ini, config, problem);
	if (r < 0)
		goto err_free;
	*ret_ini = ini;
	return 0;

err_free:
	(void)ini_free(ini);
	return r;
}

struct ini *
ini_free(struct ini *ini)
{
	if (!ini)
		return NULL;
	if (ini->dict)
		iniparser_freedict(ini->dict);
	free(ini->lines);
	free(ini->text);
	free(ini->path);
	free(ini);
	return NULL;
}

bool
ini_has(const struct ini *ini, const char *section, const char *name)
{
	const struct ini_key *key = key_find(ini, section, name);

	return key && value_find(ini, key);
}

void
ini_print_problem(const char problem[INI_PROBLEM_BYTES])
{
	(void)dprintf(STDERR_FILENO, "%s%.*s\n", getenv("JOURNAL_STREAM") ? "<3>" : "",
		      (int)INI_PROBLEM_BYTES, problem);
}
