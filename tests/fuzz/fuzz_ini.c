/* SPDX-License-Identifier: MIT */
/*
 * Both configuration files, through their loaders.  Held: a failure says exactly
 * one line that begins with the file's name, a success says none and keeps the bounds
 * that the loaders promise.
 */
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/daemon_config_file.h"
#include "fuzz.h"
#include "nbd_server/server_config_file.h"

/* Reports go there while standard error is caught. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

struct files {
	int input;
	char path[64];
	int said;    /* what the loader wrote to standard error */
	int stderr_; /* the real one */
};

static struct files *
files(void)
{
	static struct files f;

	if (f.path[0])
		return &f;
	f.input = memfd_create("input", MFD_CLOEXEC);
	f.said = memfd_create("said", MFD_CLOEXEC);
	f.stderr_ = dup(STDERR_FILENO);
	FUZZ_CHECK(f.input >= 0 && f.said >= 0 && f.stderr_ >= 0);
	(void)snprintf(f.path, sizeof(f.path), "/proc/self/fd/%d", f.input);
	if (__sanitizer_set_report_fd)
		__sanitizer_set_report_fd((void *)(intptr_t)f.stderr_);
	return &f;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return unsetenv("JOURNAL_STREAM");
}

static void
check_server(const struct server_file_config *c)
{
	FUZZ_CHECK(c->name[0] && memchr(c->name, '\0', sizeof(c->name)));
	FUZZ_CHECK(c->slab_bytes && (c->slab_bytes & (c->slab_bytes - 1)) == 0);
	FUZZ_CHECK(c->size_bytes && c->size_bytes % c->slab_bytes == 0);
	FUZZ_CHECK(c->listen.count >= 1 && c->listen.count <= 8);
	FUZZ_CHECK(c->portals.count <= INI_LIST_MAX);
	FUZZ_CHECK(c->backup_path[0] == '/' && c->control[0] == '/');
	FUZZ_CHECK(c->ack <= SERVER_ACK_BOTH && c->retry_max_ms >= c->retry_ms);
	FUZZ_CHECK(c->alpha_milli >= 1 && c->alpha_milli <= 1000 && c->period_ms > 0);
	FUZZ_CHECK(c->choices >= 1 && c->choices <= 8 && c->query_timeout_ms > 0);
	FUZZ_CHECK(c->max_connections >= 1 && c->max_connections <= 1024);
}

static void
check_daemon(const struct daemon_file_config *c)
{
	FUZZ_CHECK(c->slab_bytes && (c->slab_bytes & (c->slab_bytes - 1)) == 0);
	FUZZ_CHECK(c->max_bytes && c->max_bytes % c->slab_bytes == 0);
	FUZZ_CHECK(c->listen.count >= 1 && c->listen.count <= 8);
	FUZZ_CHECK(c->control[0] == '/');
}

static int
load(struct files *f, bool is_server)
{
	struct server_file_config server;
	struct daemon_file_config daemon;
	int r;

	FUZZ_CHECK(dup2(f->said, STDERR_FILENO) >= 0);
	r = is_server ? server_file_config_load(f->path, &server)
		      : daemon_file_config_load(f->path, &daemon);
	FUZZ_CHECK(dup2(f->stderr_, STDERR_FILENO) >= 0);
	if (r == 0 && is_server)
		check_server(&server);
	else if (r == 0)
		check_daemon(&daemon);
	return r;
}

static void
check_said(struct files *f, int status)
{
	char line[INI_PROBLEM_BYTES + 64];
	const off_t length = lseek(f->said, 0, SEEK_CUR);

	FUZZ_CHECK(status <= 0 && (status == 0) == (length == 0));
	if (status == 0)
		return;
	FUZZ_CHECK(length < (off_t)sizeof(line));
	FUZZ_CHECK(pread(f->said, line, (size_t)length, 0) == length);
	FUZZ_CHECK(memchr(line, '\n', (size_t)length) == line + length - 1);
	FUZZ_CHECK(strncmp(line, f->path, strlen(f->path)) == 0);
	for (off_t i = 0; i < length - 1; i++)
		FUZZ_CHECK((unsigned char)line[i] >= ' ' && line[i] != 0x7f);
	FUZZ_CHECK(lseek(f->said, 0, SEEK_SET) == 0 && ftruncate(f->said, 0) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct files *f = files();

	FUZZ_CHECK(ftruncate(f->input, 0) == 0);
	FUZZ_CHECK(pwrite(f->input, data, size, 0) == (ssize_t)size);
	check_said(f, load(f, true));
	check_said(f, load(f, false));
	return 0;
}
