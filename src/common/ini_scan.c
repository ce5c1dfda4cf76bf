/* SPDX-License-Identifier: MIT */
/* iniparser cuts a value at any ';', joins lines at a backslash, also in comments, and takes
 * half of a broken quote: such lines must not get as far as iniparser. */
#include "common/ini_scan.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/ini.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *
skip_blanks(char *s)
{
	while (is_blank(*s))
		s++;
	return s;
}

static void
cut_blanks(char *s)
{
	size_t n = strlen(s);

	while (n && is_blank(s[n - 1]))
		s[--n] = '\0';
}

/* NULL, or what is wrong with the bytes whatever they mean. */
static const char *
check_bytes(const char *line, size_t length)
{
	if (length > INI_LINE_BYTES_MAX)
		return "line too long";
	for (size_t i = 0; i < length; i++) {
		if (line[i] == '\0')
			return "NUL byte";
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
			return "control character";
	}
	if (length && line[length - 1] == '\\')
		return "backslash at the end of a line: lines cannot be continued";
	return NULL;
}

/* Takes quotes and comment off *@value.  NULL, or what is wrong. */
static const char *
cut_value(char **value)
{
	char *v = *value, *end;

	if (*v == '"') {
		v++;
		end = strchr(v, '"');
		if (!end)
			return "closing quote missing";
		*value = v;
		*end = '\0';
		end = skip_blanks(end + 1);
		return *end && *end != ';' && *end != '#' ? "text after the closing quote" : NULL;
	}
	if (strpbrk(v, "\"'"))
		return "quote inside a value: put the whole value in double quotes";
	end = strpbrk(v, ";#");
	if (end) {
		if (end != v && !is_blank(end[-1]))
			return "; or # inside a value: put the value in double quotes, or a space "
			       "before the comment";
		*end = '\0';
	}
	cut_blanks(v);
	return NULL;
}

/* NULL, or what is wrong with the line. */
static const char *
cut_section(char *s, struct ini_line *line)
{
	char *end = strchr(s, ']');

	if (!end)
		return "closing ] missing";
	if (end[1])
		return "text after the ]";
	*end = '\0';
	if (end == s + 1)
		return "empty section name";
	line->section = s + 1;
	line->name = NULL;
	line->value = NULL;
	return NULL;
}

static const char *
cut_key(char *s, const char *section, struct ini_line *line)
{
	char *value = strchr(s, '=');
	const char *what;

	if (!value || value == s)
		return "neither [section], key = value nor a comment";
	*value = '\0';
	value = skip_blanks(value + 1);
	cut_blanks(s);
	if (!section)
		return "key before the first [section]";
	what = cut_value(&value);
	if (what)
		return what;
	line->section = section;
	line->name = s;
	line->value = value;
	return NULL;
}

int
ini_scan(char *text, size_t length, struct ini_line *lines, size_t *ret_count,
	 unsigned int *ret_number, const char **ret_what)
{
	const char *section = NULL, *what;
	char *s = text, *next;
	unsigned int number = 0;
	size_t count = 0;

	for (; s < text + length; s = next) {
		char *end = memchr(s, '\n', length - (size_t)(s - text));

		number++;
		end = end ? end : text + length;
		next = end + 1;
		if (end > s && end[-1] == '\r')
			end--;
		*end = '\0';
		what = check_bytes(s, (size_t)(end - s));
		if (what)
			goto bad;
		s = skip_blanks(s);
		cut_blanks(s);
		if (!*s || *s == ';' || *s == '#')
			continue;
		if (*s == '[')
			what = cut_section(s, &lines[count]);
		else
			what = cut_key(s, section, &lines[count]);
		if (what)
			goto bad;
		section = lines[count].section;
		lines[count++].number = number;
	}
	*ret_count = count;
	return 0;
bad:
	*ret_number = number;
	*ret_what = what;
	return -EINVAL;
}
