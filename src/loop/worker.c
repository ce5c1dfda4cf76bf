/* SPDX-License-Identifier: MIT */
/* Two queues under one mutex: to the thread by condition variable, back by ev_async. */
#include "loop/worker.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
	struct ev_loop *loop;
	ev_async async;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t wake;
	struct list waiting;
	struct list finished;
	bool quit;
};

static struct worker_job *
job_of(struct list *node)
{
	return container_of(node, struct worker_job, node);
}

static void *
thread_main(void *arg)
{
	struct worker *w = arg;
	struct list *node;

	(void)pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->quit && list_is_empty(&w->waiting))
			(void)pthread_cond_wait(&w->wake, &w->lock);
		if (w->quit)
			break;
		node = list_pop_head(&w->waiting);
		(void)pthread_mutex_unlock(&w->lock);
		job_of(node)->run(job_of(node));
		(void)pthread_mutex_lock(&w->lock);
		list_add_tail(&w->finished, node);
		ev_async_send(w->loop, &w->async);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Only what had finished when it began: a job that submits itself again waits for its turn. */
static void
async_cb(struct ev_loop *loop, ev_async *async, int revents)
{
	struct worker *w = container_of(async, struct worker, async);
	struct list finished, *node;

	(void)loop;
	(void)revents;
	list_init(&finished);
	(void)pthread_mutex_lock(&w->lock);
	list_splice_tail(&finished, &w->finished);
	(void)pthread_mutex_unlock(&w->lock);
	while ((node = list_pop_head(&finished)))
		job_of(node)->done(job_of(node));
}

/* Signals are the loop thread's: the new thread inherits a mask with all of them. */
static int
start_thread(struct worker *w)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	(void)sigfillset(&all);
	r = pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
	if (!r)
		r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!r) {
		r = pthread_create(&w->thread, &attr, thread_main, w);
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	(void)pthread_attr_destroy(&attr);
	return -r;
}

int
worker_new(struct ev_loop *loop, struct worker **ret_worker)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	assert(loop && ret_worker);
	if (!w)
		return -ENOMEM;
	w->loop = loop;
	list_init(&w->waiting);
	list_init(&w->finished);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->wake, NULL);
	ev_async_init(&w->async, async_cb);
	ev_async_start(loop, &w->async);
	r = start_thread(w);
	if (r < 0) {
		ev_async_stop(loop, &w->async);
		(void)pthread_cond_destroy(&w->wake);
		(void)pthread_mutex_destroy(&w->lock);
		free(w);
		return r;
	}
	*ret_worker = w;
	return 0;
}

void
worker_submit(struct worker *w, struct worker_job *job)
{
	assert(job->run && job->done);
	(void)pthread_mutex_lock(&w->lock);
	list_add_tail(&w->waiting, &job->node);
	(void)pthread_cond_signal(&w->wake);
	(void)pthread_mutex_unlock(&w->lock);
}

struct worker *
worker_free(struct worker *w)
{
	if (!w)
		return NULL;
	(void)pthread_mutex_lock(&w->lock);
	w->quit = true;
	(void)pthread_cond_signal(&w->wake);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_join(w->thread, NULL);
	ev_async_stop(w->loop, &w->async);
	(void)pthread_cond_destroy(&w->wake);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}
