/* SPDX-License-Identifier: MIT */
/*
 * Runs the files of corpora through one fuzz target, with any compiler: what was
 * found once is a test from then on.  Names each file before it runs, so that the
 * last line of a crash says which one it was.
 *
 * Usage: replay_TARGET FILE|DIRECTORY ...
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_BYTES_MAX (1u << 20)
#define PATH_BYTES 4096

static unsigned
run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_BYTES_MAX);
	FILE *file = fopen(path, "rb");
	size_t size;

	FUZZ_CHECK(data);
	if (!file) {
		perror(path);
		exit(1);
	}
	size = fread(data, 1, INPUT_BYTES_MAX, file);
	(void)fclose(file);
	printf("# %s\n", path);
	(void)fflush(stdout);
	(void)LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

static int
is_no_dot(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static unsigned
run_path(const char *path)
{
	struct dirent **entries;
	struct stat st;
	unsigned count = 0;
	int n, i;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return run_file(path);
	n = scandir(path, &entries, is_no_dot, alphasort);
	if (n < 0) {
		perror(path);
		exit(1);
	}
	for (i = 0; i < n; i++) {
		char name[PATH_BYTES];

		(void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		count += run_file(name);
		free(entries[i]);
	}
	free(entries);
	return count;
}

int
main(int argc, char **argv)
{
	unsigned count = 0;
	int i;

	(void)LLVMFuzzerInitialize(&argc, &argv);
	for (i = 1; i < argc; i++)
		count += run_path(argv[i]);
	printf("# %u inputs\n", count);
	return count > 0 ? 0 : 1;
}
