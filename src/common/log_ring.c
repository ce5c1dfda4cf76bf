/* SPDX-License-Identifier: MIT */
/*
 * Lines end with a newline, so the ring needs no records: it is bytes, the writer
 * puts out what lies between the two positions.  The positions only grow; one
 * producer, one consumer.  abort() waits for the consumer, so that the last words
 * of a program are read.
 */
#include "common/log_ring.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

#define RING_BYTES (128u * 1024u) /* a power of two */
#define STACK_BYTES ((size_t)PTHREAD_STACK_MIN + 32u * 1024u)
#define STOP_SECONDS 1
#define ABORT_STEP_MS 10
#define ABORT_STEPS 50

static struct {
	char bytes[RING_BYTES];
	_Atomic uint64_t put;	  /* the producer's */
	_Atomic uint64_t taken;	  /* the writer's */
	_Atomic uint64_t dropped; /* lines nobody has been told of */
	_Atomic bool quit;
	sem_t wake;
	pthread_t thread;
	bool is_running;
} ring;

static _Thread_local bool is_producer;

bool
log_ring_put(const char *line, size_t length_bytes)
{
	const uint64_t put = atomic_load_explicit(&ring.put, memory_order_relaxed);
	const size_t at = put % RING_BYTES;
	size_t first;

	if (!is_producer)
		return false;
	if (length_bytes > RING_BYTES - (size_t)(put - atomic_load(&ring.taken))) {
		atomic_fetch_add(&ring.dropped, 1);
		return true;
	}
	first = length_bytes < RING_BYTES - at ? length_bytes : RING_BYTES - at;
	memcpy(ring.bytes + at, line, first);
	memcpy(ring.bytes, line + first, length_bytes - first);
	atomic_store(&ring.put, put + length_bytes);
	(void)sem_post(&ring.wake);
	return true;
}

static bool
is_empty(void)
{
	return atomic_load(&ring.put) == atomic_load(&ring.taken);
}

static void
write_out(void)
{
	while (!is_empty()) {
		const uint64_t taken = atomic_load_explicit(&ring.taken, memory_order_relaxed);
		const size_t at = taken % RING_BYTES;
		size_t length = (size_t)(atomic_load(&ring.put) - taken);
		ssize_t n;

		if (length > RING_BYTES - at)
			length = RING_BYTES - at;
		n = write(STDERR_FILENO, ring.bytes + at, length);
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

			(void)poll(&p, 1, -1);
			continue;
		}
		/* Nowhere left to report it; the next line may get through. */
		atomic_store(&ring.taken, taken + (n > 0 ? (size_t)n : length));
	}
}

static void *
thread_main(void *arg)
{
	uint64_t dropped;

	(void)arg;
	do {
		while (sem_wait(&ring.wake) < 0)
			;
		write_out();
		dropped = atomic_exchange(&ring.dropped, 0);
		if (dropped > 0)
			log_warn("%llu log lines were dropped: standard error is too slow",
				 (unsigned long long)dropped);
	} while (!atomic_load(&ring.quit) || !is_empty());
	return NULL;
}

/* The handler is reset when it runs: returning goes on with the abort. */
static void
abort_handler(int signal_number)
{
	(void)signal_number;
	if (!is_producer)
		return;
	for (int i = 0; i < ABORT_STEPS && !is_empty(); i++)
		(void)poll(NULL, 0, ABORT_STEP_MS);
}

static int
start_thread(void)
{
	const struct sched_param ordinary = {.sched_priority = 0};
	pthread_attr_t attr;
	sigset_t all, before;
	int r;

	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	(void)sigfillset(&all);
	r = pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Not the real-time priority of the process, if it was started with one. */
	if (!r)
		r = pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	if (!r)
		r = pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	if (!r)
		r = pthread_attr_setschedparam(&attr, &ordinary);
	if (!r)
		r = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!r) {
		r = pthread_create(&ring.thread, &attr, thread_main, NULL);
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	(void)pthread_attr_destroy(&attr);
	return -r;
}

int
log_ring_start(void)
{
	const struct sigaction abort_action = {.sa_handler = abort_handler,
					       .sa_flags = (int)SA_RESETHAND};
	int r;

	/* Touched here, not by the first lines. */
	memset(ring.bytes, 0, sizeof(ring.bytes));
	atomic_store(&ring.quit, false);
	(void)sem_init(&ring.wake, 0, 0);
	r = start_thread();
	if (r < 0) {
		(void)sem_destroy(&ring.wake);
		return r;
	}
	(void)sigaction(SIGABRT, &abort_action, NULL);
	ring.is_running = true;
	is_producer = true;
	return 0;
}

void
log_ring_stop(void)
{
	struct timespec until;

	if (!ring.is_running)
		return;
	ring.is_running = false;
	is_producer = false;
	atomic_store(&ring.quit, true);
	(void)sem_post(&ring.wake);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	/* Nobody reads standard error: that thread ends with the process. */
	if (pthread_timedjoin_np(ring.thread, NULL, &until) == 0)
		(void)sem_destroy(&ring.wake);
}
