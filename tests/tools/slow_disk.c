/* SPDX-License-Identifier: MIT */
/*
 * LD_PRELOAD=libslow_disk.so SLOW_DISK=FILE: io_uring completes no more bytes per second
 * than the number in FILE says, which may change while the program runs; 0: nothing completes.
 * Without FILE, or with nothing in it, everything does.
 *
 * What has completed is kept back from io_uring_peek_batch_cqe(), in order, whatever it was:
 * a disk that is slow, not one that is chosen.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* A disk that was idle has not saved up more than this. */
#define SAVED_SECONDS_MAX 0.01

static double allowed_bytes;
static double last_s;

static double
now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool
read_rate(double *ret_bytes)
{
	const char *path = getenv("SLOW_DISK");
	char text[32];
	ssize_t n;
	int fd;

	if (!path)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	*ret_bytes = strtod(text, NULL);
	return true;
}

static void
save(double rate)
{
	const double now = now_s();
	const double most = rate * SAVED_SECONDS_MAX;

	allowed_bytes += rate * (now - last_s);
	last_s = now;
	if (allowed_bytes > most)
		allowed_bytes = most;
}

EXPORT unsigned
io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	static unsigned (*real)(struct io_uring *, struct io_uring_cqe **, unsigned);
	unsigned n, take = 0;
	double rate;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "io_uring_peek_batch_cqe");
	n = real(ring, cqes, count);
	if (n == 0 || !read_rate(&rate))
		return n;
	save(rate);
	/* The last one may be larger than what is left: it is paid for later. */
	for (; take < n && rate > 0 && allowed_bytes > 0; take++)
		if (cqes[take]->res > 0)
			allowed_bytes -= cqes[take]->res;
	return take;
}
