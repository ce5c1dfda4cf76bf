/* SPDX-License-Identifier: MIT */
/*
 * reload.h - reads the configuration again, on a thread of its own: the loop
 * neither waits for the disk nor allocates.
 */
#ifndef PROGRAMS_RELOAD_H
#define PROGRAMS_RELOAD_H

#include <stdbool.h>

#include "loop/worker.h"

struct ev_loop;
struct server_file_config;

/* @status: 0, or -errno after a line on standard error.  @fresh: borrowed; good when 0. */
typedef void reload_done_fn(void *arg, int status, const struct server_file_config *fresh);

struct reload {
	struct worker *worker;
	struct worker_job job;
	const char *path;
	struct server_file_config *fresh;
	int status;
	bool is_running;
	bool is_wanted_again; /* since it began */
	reload_done_fn *done;
	void *arg;
};

/* @path is borrowed.  @done runs on the loop, once for each reading.  Returns 0 or -errno. */
int reload_start(struct reload *r, struct ev_loop *loop, const char *path, reload_done_fn *done,
		 void *arg);
/* A request during a reading brings one more reading, however many they are. */
void reload_request(struct reload *r);
/* Waits for a reading.  Also after a failed or no start. */
void reload_stop(struct reload *r);

#endif /* PROGRAMS_RELOAD_H */
