/* SPDX-License-Identifier: MIT */
#include "programs/reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"
#include "nbd_server/server_config_file.h"
#include "programs/transports.h"

static void
run_cb(struct worker_job *job)
{
	struct reload *r = container_of(job, struct reload, job);

	r->status = server_file_config_load(r->path, r->fresh);
	if (r->status == 0)
		r->status = transports_check(r->path, "[daemons] portals", &r->fresh->portals);
}

static void
done_cb(struct worker_job *job)
{
	struct reload *r = container_of(job, struct reload, job);

	r->done(r->arg, r->status, r->fresh);
	explicit_bzero(&r->fresh->psk, sizeof(r->fresh->psk));
	r->is_running = false;
	if (r->is_wanted_again)
		reload_request(r);
}

int
reload_start(struct reload *r, struct ev_loop *loop, const char *path, reload_done_fn *done,
	     void *arg)
{
	*r = (struct reload){
		.job = {.run = run_cb, .done = done_cb},
		.path = path,
		.done = done,
		.arg = arg,
	};
	r->fresh = calloc(1, sizeof(*r->fresh));
	return r->fresh ? worker_new(loop, &r->worker) : -ENOMEM;
}

void
reload_request(struct reload *r)
{
	r->is_wanted_again = r->is_running;
	if (r->is_running)
		return;
	r->is_running = true;
	worker_submit(r->worker, &r->job);
}

void
reload_stop(struct reload *r)
{
	r->worker = worker_free(r->worker);
	if (r->fresh)
		explicit_bzero(&r->fresh->psk, sizeof(r->fresh->psk));
	free(r->fresh);
	r->fresh = NULL;
}
