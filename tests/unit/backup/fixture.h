/* SPDX-License-Identifier: MIT */
/* fixture.h - temporary places, a loop with a deadline and a captured log for the backup tests. */
#ifndef TESTS_BACKUP_FIXTURE_H
#define TESTS_BACKUP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backup/uring_backup.h"
#include "common/page.h"

#define FIXTURE_PATH_BYTES 512

/* A new empty directory below $TMPDIR, else the working directory (meson: the build directory). */
void fixture_dir(char ret_path[FIXTURE_PATH_BYTES]);
/* Unlinks everything in it, then it. */
void fixture_dir_remove(const char *path);
void fixture_join(char ret_path[FIXTURE_PATH_BYTES], const char *dir, const char *name);
/* A file of @bytes, sparse. */
void fixture_file(const char *path, uint64_t bytes);
/* Page-aligned. */
void *fixture_memory(size_t bytes);
void fixture_memory_free(void *p, size_t bytes);
/* Runs @fn in a child (mounts, limits and user ids end with it) and takes its exit
 * status as the verdict; skips the test unless root. */
void fixture_in_child(void (*fn)(void *arg), void *arg);
/* Whether mounts, loop devices and other users can be had. */
bool fixture_is_root(void);
/* From here on this process has its own mounts: a tmpfs ("size=1m") or ramfs (NULL) at @dir. */
void fixture_mount(const char *type, const char *dir, const char *options);
/* A loop device over @file; it goes with its last descriptor, which is returned. */
int fixture_loop_device(const char *file, char ret_path[FIXTURE_PATH_BYTES]);

/* Between the two, standard error goes to a file; end gives what it held. */
void fixture_log_begin(void);
const char *fixture_log_end(void);

/* Turns @loop until *@counter is at least @target; fails the test after 60 s. */
void fixture_run_until(struct ev_loop *loop, const unsigned int *counter, unsigned int target);

/* One op, counted when done; @op first. */
struct fixture_op {
	struct backup_op op;
	int status;
	unsigned int done;
};
/* Submits and waits: returns the status. */
int fixture_do(struct ev_loop *loop, struct backup *b, enum backup_op_kind kind, void *buf,
	       uint64_t offset_bytes, uint64_t length_bytes);
void fixture_op_done(struct backup_op *op, int status);

#endif /* TESTS_BACKUP_FIXTURE_H */
