/* SPDX-License-Identifier: MIT */
/* The strict ini reader: what it reads, and the one line for each thing it refuses. */
#include "common/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct config {
	char text[16];
	uint32_t number;
	uint32_t most;
	uint32_t milli;
	uint64_t size;
	uint32_t word;
	struct ini_list list;
};

static const char *const words[] = {"red", "green", "blue", NULL};

static const struct ini_key keys[] = {
	{"one", "text", INI_STRING, .def = "hello", .allowed = "at most 15 bytes",
	 .offset = offsetof(struct config, text), .field_bytes = 16},
	{"one", "number", INI_NUMBER, .def = "7", .min = 5, .max = 4000000000, .unit = "ms",
	 .offset = offsetof(struct config, number)},
	{"one", "milli", INI_MILLI, .def = "0.2", .min = 1, .max = 2500,
	 .offset = offsetof(struct config, milli)},
	{"two", "size", INI_SIZE, .min = 1048576, .max = UINT64_C(64) << 40,
	 .offset = offsetof(struct config, size)},
	{"two", "word", INI_WORD, .def = "green", .words = words,
	 .offset = offsetof(struct config, word)},
	{"two", "most", INI_NUMBER, .def = "9", .max = 10, .unit = "us", .zero = "off",
	 .offset = offsetof(struct config, most)},
	{"two", "list", INI_LIST, .def = "", .max = 3, .allowed = "up to 3 names",
	 .offset = offsetof(struct config, list)},
};

struct fixture {
	char path[64];
	char problem[INI_PROBLEM_BYTES];
	struct config config;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_non_null(f);
	(void)snprintf(f->path, sizeof(f->path), "/tmp/slabswap-ini-XXXXXX");
	fd = mkostemp(f->path, O_CLOEXEC);
	assert_true(fd >= 0);
	(void)close(fd);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->path);
	free(f);
	return 0;
}

static int
load_bytes(struct fixture *f, const void *bytes, size_t length, struct ini **ret_ini)
{
	int fd = open(f->path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	assert_int_equal(close(fd), 0);
	f->problem[0] = '\0';
	return ini_load(f->path, keys, sizeof(keys) / sizeof(keys[0]), &f->config, ret_ini,
			f->problem);
}

static void
check_good(struct fixture *f, const char *text)
{
	struct ini *ini = NULL;

	if (load_bytes(f, text, strlen(text), &ini) != 0)
		fail_msg("%s", f->problem);
	assert_null(ini_free(ini));
}

static void
check_bad_bytes(struct fixture *f, const void *bytes, size_t length, const char *expect)
{
	struct ini *ini = NULL;
	size_t path = strlen(f->path);

	assert_int_equal(load_bytes(f, bytes, length, &ini), -EINVAL);
	assert_null(ini);
	assert_memory_equal(f->problem, f->path, path);
	assert_memory_equal(f->problem + path, ": ", 2);
	assert_string_equal(f->problem + path + 2, expect);
}

static void
check_bad(struct fixture *f, const char *text, const char *expect)
{
	check_bad_bytes(f, text, strlen(text), expect);
}

/* @what of a bad line, with what follows every time. */
static void
check_bad_line(struct fixture *f, const char *text, const char *what)
{
	char expect[512];

	(void)snprintf(expect, sizeof(expect),
		       "%s; allowed: [section], key = value ; comment, at most 1000 bytes a line",
		       what);
	check_bad(f, text, expect);
}

static void
load__defaults(void **state)
{
	struct fixture *f = *state;

	check_good(f, "[two]\nsize = 1M");
	assert_string_equal(f->config.text, "hello");
	assert_int_equal(f->config.number, 7);
	assert_int_equal(f->config.milli, 200);
	assert_int_equal(f->config.size, 1048576);
	assert_int_equal(f->config.word, 1);
	assert_int_equal(f->config.list.count, 0);
}

static void
load__every_type(void **state)
{
	struct fixture *f = *state;

	check_good(f,
		   "; comment\n# comment\n\n  [one]  \r\n\ttext=a = b\t; c\n number = 4000000000\n"
		   "milli = 1.05\n"
		   "[two]\nsize = 64T # c ; d\nword = blue\nlist = a,\tb b ,c\n");
	assert_string_equal(f->config.text, "a = b");
	assert_int_equal(f->config.number, 4000000000u);
	assert_int_equal(f->config.milli, 1050);
	assert_int_equal(f->config.size, UINT64_C(64) << 40);
	assert_int_equal(f->config.word, 2);
	assert_int_equal(f->config.list.count, 3);
	assert_string_equal(f->config.list.item[0], "a");
	assert_string_equal(f->config.list.item[1], "b b");
	assert_string_equal(f->config.list.item[2], "c");
}

static void
load__quotes_and_empty_values(void **state)
{
	struct fixture *f = *state;

	check_good(f, "[two]\nsize = \"2M\"\n[one]\ntext = \" ;#'x \" ; comment\n");
	assert_string_equal(f->config.text, " ;#'x ");
	assert_int_equal(f->config.size, 2097152);
	check_good(f, "[two]\nsize = 2M\nlist =\n[one]\ntext = ; nothing\n");
	assert_string_equal(f->config.text, "");
	assert_int_equal(f->config.list.count, 0);
	check_good(f, "[two]\nsize = 2M\n[one]\ntext = \"\" # nothing\n");
	assert_string_equal(f->config.text, "");
	check_good(f, "[two]\nsize = 2M\n[one]\ntext =\n");
	assert_string_equal(f->config.text, "");
}

static void
names__unknown(void **state)
{
	check_bad(*state, "[one]\nfoo = 3 ; x\n",
		  "[one] foo = 3: unknown key; allowed: text, number or milli");
	check_bad(*state, "[One]\n", "[One]: unknown section; allowed: one or two");
	check_bad(*state, "[two]\nsize = 1M\n[three]\n",
		  "[three]: unknown section; allowed: one or two");
	check_bad(*state, "[one]\nText = 3\n",
		  "[one] Text = 3: unknown key; allowed: text, number or milli");
	check_bad(*state, "[two]\nnumber = 3\n",
		  "[two] number = 3: unknown key; allowed: size, word, most or list");
	check_bad(*state, "[one]\nsize:x = 3\n",
		  "[one] size:x = 3: unknown key; allowed: text, number or milli");
}

static void
names__twice(void **state)
{
	check_bad(*state, "[two]\nsize = 1M\nword = red\nsize = 2M\n",
		  "[two] size = 2M: given twice; allowed: once, lines 2 and 4");
	check_bad(*state, "[two]\nsize = 1M\n[one]\n[two]\n",
		  "[two]: given twice; allowed: once, lines 1 and 4");
}

static void
names__missing(void **state)
{
	const char *expect = "[two] size: missing; allowed: 1M to 64T, with unit K, M, G or T";

	check_bad(*state, "[one]\ntext = x\n", expect);
	check_bad(*state, "", expect);
}

static void
value__not_a_size(void **state)
{
	const char *tail = "allowed: 1M to 64T, with unit K, M, G or T";
	static const char *const values[][2] = {
		{"17X", "not a size"},
		{"", "not a size"},
		{"-1M", "not a size"},
		{"1 M", "not a size"},
		{"1.5G", "not a size"},
		{"0x100000", "not a size"},
		{"1023K", "too small"},
		{"65T", "too large"},
		{"0", "too small"},
		{"1M, 2M", "not a size"},
		{"99999999999999999999T", "too large"},
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[128], expect[256];

		(void)snprintf(text, sizeof(text), "[two]\nsize = %s\n", values[i][0]);
		(void)snprintf(expect, sizeof(expect), "[two] size = %s: %s; %s", values[i][0],
			       values[i][1], tail);
		check_bad(*state, text, expect);
	}
}

static void
value__not_a_number(void **state)
{
	static const char *const values[][2] = {
		{"abc", "not a number"},     {"1K", "not a number"},	  {"4", "too small"},
		{"4000000001", "too large"}, {"4294967301", "too large"}, {"7ms", "not a number"},
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[128], expect[256];

		(void)snprintf(text, sizeof(text), "[two]\nsize = 1M\n[one]\nnumber = %s\n",
			       values[i][0]);
		(void)snprintf(expect, sizeof(expect),
			       "[one] number = %s: %s; allowed: 5 to 4000000000 ms", values[i][0],
			       values[i][1]);
		check_bad(*state, text, expect);
	}
}

static void
value__word_for_zero(void **state)
{
	struct fixture *f = *state;

	check_good(f, "[two]\nsize = 1M\nmost = off\n");
	assert_int_equal(f->config.most, 0);
	check_good(f, "[two]\nsize = 1M\nmost = 0\n");
	assert_int_equal(f->config.most, 0);
	check_good(f, "[two]\nsize = 1M\n");
	assert_int_equal(f->config.most, 9);
	check_bad(f, "[two]\nsize = 1M\nmost = Off\n",
		  "[two] most = Off: not a number; allowed: 0 to 10 us, or off");
	check_bad(f, "[two]\nsize = 1M\nmost = 11\n",
		  "[two] most = 11: too large; allowed: 0 to 10 us, or off");
	check_bad(f, "[two]\nsize = 1M\n[one]\nnumber = off\n",
		  "[one] number = off: not a number; allowed: 5 to 4000000000 ms");
}

static void
value__not_a_milli(void **state)
{
	static const char *const values[][2] = {
		{"abc", "not a number"},
		{"1.", "not a number"},
		{".5", "not a number"},
		{"-1", "not a number"},
		{"0.2000", "not a number"},
		{"1.2.3", "not a number"},
		{"0,2", "not a number"},
		{"0.000", "too small"},
		{"2.501", "too large"},
		{"1e0", "not a number"},
		{"18446744073709551615", "too large"},
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[128], expect[256];

		(void)snprintf(text, sizeof(text), "[two]\nsize = 1M\n[one]\nmilli = %s\n",
			       values[i][0]);
		(void)snprintf(expect, sizeof(expect),
			       "[one] milli = %s: %s; allowed: 0.001 to 2.5", values[i][0],
			       values[i][1]);
		check_bad(*state, text, expect);
	}
}

static void
value__word_string_list(void **state)
{
	char text[512], expect[512], item[INI_ITEM_BYTES + 1];

	check_bad(*state, "[two]\nsize = 1M\nword = Red\n",
		  "[two] word = Red: unknown word; allowed: red, green or blue");
	check_bad(*state, "[two]\nsize = 1M\n[one]\ntext = 0123456789abcdef\n",
		  "[one] text = 0123456789abcdef: too long; allowed: at most 15 bytes");
	check_good(*state, "[two]\nsize = 1M\n[one]\ntext = 0123456789abcde\n");
	check_bad(*state, "[two]\nsize = 1M\nlist = a,b,c,d\n",
		  "[two] list = a,b,c,d: too many entries; allowed: up to 3 names");
	check_bad(*state, "[two]\nsize = 1M\nlist = a,,c\n",
		  "[two] list = a,,c: empty entry in the list; allowed: up to 3 names");
	check_bad(*state, "[two]\nsize = 1M\nlist = a,\n",
		  "[two] list = a,: empty entry in the list; allowed: up to 3 names");
	check_bad(*state, "[two]\nsize = 1M\nlist = a, a\n",
		  "[two] list = a, a: entry given twice; allowed: up to 3 names");
	memset(item, 'x', sizeof(item) - 1);
	item[sizeof(item) - 1] = '\0';
	(void)snprintf(text, sizeof(text), "[two]\nsize = 1M\nlist = %s\n", item);
	(void)snprintf(expect, sizeof(expect),
		       "[two] list = %s: entry too long; allowed: up to 3 names", item);
	check_bad(*state, text, expect);
}

static void
line__refused(void **state)
{
	check_bad_line(*state, "[one\n", "line 1: closing ] missing");
	check_bad_line(*state, "[]\n", "line 1: empty section name");
	check_bad_line(*state, "[one] text = x\n", "line 1: text after the ]");
	check_bad_line(*state, "\n[one] ; comment\n", "line 2: text after the ]");
	check_bad_line(*state, "text = x\n", "line 1: key before the first [section]");
	check_bad_line(*state, "[one]\nhello\n",
		       "line 2: neither [section], key = value nor a comment");
	check_bad_line(*state, "[one]\n= 3\n",
		       "line 2: neither [section], key = value nor a comment");
	check_bad_line(*state, "[one]\ntext = a\\\nb\n",
		       "line 2: backslash at the end of a line: lines cannot be continued");
	check_bad_line(*state, "[one]\n; a\\\ntext = x\n",
		       "line 2: backslash at the end of a line: lines cannot be continued");
	check_bad_line(*state, "[one]\ntext = \"abc\n", "line 2: closing quote missing");
	check_bad_line(*state, "[one]\ntext = \"a\" b\n", "line 2: text after the closing quote");
	check_bad_line(*state, "[one]\ntext = a\"b\"\n",
		       "line 2: quote inside a value: put the whole value in double quotes");
	check_bad_line(*state, "[one]\ntext = 'a'\n",
		       "line 2: quote inside a value: put the whole value in double quotes");
	check_bad_line(*state, "[one]\ntext = a;b\n",
		       "line 2: ; or # inside a value: put the value in double quotes, or a space "
		       "before the comment");
	check_bad_line(*state, "[one]\ntext = a\x01\n", "line 2: control character");
	check_bad_line(*state, "[one]\rtext = a\n", "line 1: control character");
}

static void
line__nul_byte(void **state)
{
	static const char text[] = "[two]\nsize = 1M\0 ; x\n";

	check_bad_bytes(*state, text, sizeof(text) - 1,
			"line 2: NUL byte; allowed: [section], key = value ; comment, at most 1000 "
			"bytes a line");
}

static void
line__longest(void **state)
{
	char text[INI_LINE_BYTES_MAX + 64];
	int n;

	/* exactly as long as allowed: read, and not cut by iniparser */
	n = snprintf(text, sizeof(text), "[two]\nsize =%*s\n", (int)INI_LINE_BYTES_MAX - 6, "1M");
	assert_int_equal(n, 6 + INI_LINE_BYTES_MAX + 1);
	check_good(*state, text);
	(void)snprintf(text, sizeof(text), "[two]\nsize =%*s\n", (int)INI_LINE_BYTES_MAX - 5, "1M");
	check_bad_line(*state, text, "line 2: line too long");
}

static void
file__too_large(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(INI_FILE_BYTES_MAX + 1);
	struct ini *ini = NULL;

	assert_non_null(text);
	memset(text, '\n', INI_FILE_BYTES_MAX + 1);
	memcpy(text, "[two]\nsize = 1M", 15);
	assert_int_equal(load_bytes(f, text, INI_FILE_BYTES_MAX, &ini), 0);
	assert_null(ini_free(ini));
	ini = NULL;
	assert_int_equal(load_bytes(f, text, INI_FILE_BYTES_MAX + 1, &ini), -EINVAL);
	assert_null(ini);
	assert_non_null(strstr(f->problem, "file too large"));
	free(text);
}

static void
file__cannot_be_read(void **state)
{
	struct fixture *f = *state;
	struct ini *ini = NULL;

	assert_int_equal(ini_load("/nonexistent/x.ini", keys, 5, &f->config, &ini, f->problem),
			 -ENOENT);
	assert_string_equal(f->problem,
			    "/nonexistent/x.ini: cannot read the configuration: No such "
			    "file or directory");
	assert_int_equal(ini_load("/tmp", keys, 5, &f->config, &ini, f->problem), -EISDIR);
	assert_null(ini);
}

static void
problem__one_line_whatever_the_file_holds(void **state)
{
	struct fixture *f = *state;
	char text[INI_LINE_BYTES_MAX + 64];
	struct ini *ini = NULL;

	(void)snprintf(text, sizeof(text), "[one]\nfoo\tbar = %0*d\n", (int)INI_LINE_BYTES_MAX - 10,
		       7);
	assert_int_equal(load_bytes(f, text, strlen(text), &ini), -EINVAL);
	assert_non_null(strstr(f->problem, "[one] foo?bar = 000"));
	assert_non_null(strstr(f->problem, "unknown key; allowed: text, number or milli"));
	assert_null(strchr(f->problem, '\n'));
}

static void
problem__cross_check(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "[two]\nsize = 3M\n";
	struct ini *ini = NULL;

	assert_int_equal(load_bytes(f, text, strlen(text), &ini), 0);
	assert_true(ini_has(ini, "two", "size"));
	assert_false(ini_has(ini, "two", "word"));
	assert_int_equal(ini_problem(ini, "two", "size", f->problem, "1M, 2M", "not %s", "even"),
			 -EINVAL);
	assert_non_null(strstr(f->problem, ": [two] size = 3M: not even; allowed: 1M, 2M"));
	/* a default can break a cross check too: then it is the value */
	assert_int_equal(ini_problem(ini, "two", "word", f->problem, "red", "wrong"), -EINVAL);
	assert_non_null(strstr(f->problem, ": [two] word = green: wrong; allowed: red"));
	assert_null(ini_free(ini));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(load__defaults),
		TEST(load__every_type),
		TEST(load__quotes_and_empty_values),
		TEST(names__unknown),
		TEST(names__twice),
		TEST(names__missing),
		TEST(value__not_a_size),
		TEST(value__not_a_number),
		TEST(value__word_for_zero),
		TEST(value__not_a_milli),
		TEST(value__word_string_list),
		TEST(line__refused),
		TEST(line__nul_byte),
		TEST(line__longest),
		TEST(file__too_large),
		TEST(file__cannot_be_read),
		TEST(problem__one_line_whatever_the_file_holds),
		TEST(problem__cross_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
