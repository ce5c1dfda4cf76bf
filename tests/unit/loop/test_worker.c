/* SPDX-License-Identifier: MIT */
/* The helper thread: order, both threads, resubmission, an end with work left. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>

#include "loop/worker.h"

#define JOBS 100u
#define ROUNDS 20u

struct job {
	struct worker_job job;
	struct world *world;
	unsigned index;
	unsigned rounds;
	uint64_t input;
	uint64_t output; /* the helper thread writes it */
	bool ran_elsewhere;
	bool signals_are_blocked;
	size_t stack_bytes;
};

struct world {
	struct ev_loop *loop;
	struct worker *worker;
	pthread_t loop_thread;
	unsigned done;
	unsigned next_index; /* of done(), to see the order */
	unsigned wanted;
	struct job jobs[JOBS];
	/* A job that waits until the test lets it go. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool is_running;
	bool may_end;
};

static int
set_up(void **state)
{
	static struct world w;

	w = (struct world){.loop = ev_loop_new(EVFLAG_AUTO), .loop_thread = pthread_self()};
	assert_non_null(w.loop);
	assert_int_equal(pthread_mutex_init(&w.lock, NULL), 0);
	assert_int_equal(pthread_cond_init(&w.cond, NULL), 0);
	assert_int_equal(worker_new(w.loop, &w.worker), 0);
	*state = &w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	w->worker = worker_free(w->worker);
	ev_loop_destroy(w->loop);
	return 0;
}

static void
run_cb(struct worker_job *job)
{
	struct job *j = container_of(job, struct job, job);
	pthread_attr_t attr;
	sigset_t mask;

	j->output = j->input * 2;
	j->ran_elsewhere = !pthread_equal(pthread_self(), j->world->loop_thread);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	j->signals_are_blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT);
	(void)pthread_getattr_np(pthread_self(), &attr);
	(void)pthread_attr_getstacksize(&attr, &j->stack_bytes);
	(void)pthread_attr_destroy(&attr);
}

static void
done_cb(struct worker_job *job)
{
	struct job *j = container_of(job, struct job, job);
	struct world *w = j->world;

	assert_true(pthread_equal(pthread_self(), w->loop_thread));
	assert_true(j->ran_elsewhere);
	assert_true(j->signals_are_blocked);
#ifndef __SANITIZE_THREAD__ /* it makes stacks larger */
	assert_true(j->stack_bytes <= 2 * WORKER_STACK_BYTES);
#endif
	assert_int_equal(j->output, j->input * 2);
	assert_int_equal(j->index, w->next_index++ % JOBS);
	if (++j->rounds < ROUNDS) {
		j->input = j->output + 1;
		j->output = 0;
		worker_submit(w->worker, &j->job);
	}
	if (++w->done == w->wanted)
		ev_break(w->loop, EVBREAK_ALL);
}

static void
jobs__run_there_and_report_here_in_order(void **state)
{
	struct world *w = *state;

	w->wanted = JOBS * ROUNDS;
	for (unsigned i = 0; i < JOBS; i++) {
		w->jobs[i] = (struct job){.job = {.run = run_cb, .done = done_cb},
					  .world = w,
					  .index = i,
					  .input = i};
		worker_submit(w->worker, &w->jobs[i].job);
	}
	(void)ev_run(w->loop, 0);
	assert_int_equal(w->done, w->wanted);
}

static void
blocking_run_cb(struct worker_job *job)
{
	struct world *w = container_of(job, struct job, job)->world;

	(void)pthread_mutex_lock(&w->lock);
	w->is_running = true;
	(void)pthread_cond_broadcast(&w->cond);
	while (!w->may_end)
		(void)pthread_cond_wait(&w->cond, &w->lock);
	(void)pthread_mutex_unlock(&w->lock);
}

static void
no_done_cb(struct worker_job *job)
{
	(void)job;
	fail_msg("done() after worker_free()");
}

/* One job runs, others wait, nothing was reported: none of them is any more. */
static void
free__with_work_left(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 5; i++) {
		w->jobs[i] = (struct job){.job = {.run = blocking_run_cb, .done = no_done_cb},
					  .world = w};
		worker_submit(w->worker, &w->jobs[i].job);
	}
	(void)pthread_mutex_lock(&w->lock);
	while (!w->is_running)
		(void)pthread_cond_wait(&w->cond, &w->lock);
	w->may_end = true;
	(void)pthread_cond_broadcast(&w->cond);
	(void)pthread_mutex_unlock(&w->lock);
	w->worker = worker_free(w->worker);
	(void)ev_run(w->loop, EVRUN_NOWAIT);
	assert_null(worker_free(NULL));
}

static void
free__idle(void **state)
{
	(void)state;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(jobs__run_there_and_report_here_in_order),
		TEST(free__with_work_left),
		TEST(free__idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
