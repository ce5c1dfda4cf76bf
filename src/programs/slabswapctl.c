/* SPDX-License-Identifier: MIT */
/* What a person and a script use to look inside a running slabswap-nbd or slabswapd. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/page.h"
#include "common/size.h"

#define TIMEOUT_MS_DEFAULT 5000u
#define TIMEOUT_MS_MAX 600000u

#define EXIT_USAGE 2
/* How the answer to what a program does not know begins. */
#define ERROR_ANSWER "{\"error\":"

static void
usage_print(FILE *out)
{
	(void)fprintf(out,
		      "usage: slabswapctl [-t MS] status|latency SOCKET\n"
		      "\n"
		      "  status SOCKET      print the state of the program behind SOCKET, as JSON\n"
		      "  latency SOCKET     print where the time of a device's requests goes, as a "
		      "table\n"
		      "  -t, --timeout MS   give up after so many milliseconds (default %u)\n"
		      "  -h, --help         print this\n"
		      "  -V, --version      print the version\n"
		      "\n"
		      "SOCKET is the program's control path, e.g. /run/slabswap/swap0.ctl.\n"
		      "Exit status: 0 done, 1 no answer, 2 wrong usage.\n",
		      TIMEOUT_MS_DEFAULT);
}

static uint64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / NSEC_PER_MSEC;
}

/* Returns 0, -ETIMEDOUT or another -errno. */
static int
wait_for(int fd, short events, uint64_t deadline_ms)
{
	for (;;) {
		uint64_t now = now_ms();
		struct pollfd p = {.fd = fd, .events = events};
		int n;

		if (now >= deadline_ms)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)(deadline_ms - now));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/*
 * A full backlog makes connect() on a Unix socket fail with EAGAIN, and poll()
 * has nothing to say about it: SO_SNDTIMEO lets the kernel wait.
 */
static int
control_connect(const char *path, uint64_t deadline_ms, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 1;
	struct timeval tv = {.tv_sec = (time_t)(left / 1000),
			     .tv_usec = (suseconds_t)(left % 1000) * 1000};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int
request_send(int fd, const char *command, uint64_t deadline_ms)
{
	char line[64];
	size_t length, done = 0;

	length = (size_t)snprintf(line, sizeof(line), "%s\n", command);
	while (done < length) {
		ssize_t n = send(fd, line + done, length - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_for(fd, POLLOUT, deadline_ms);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool
is_refusal(const char *answer, size_t length)
{
	return length >= strlen(ERROR_ANSWER) &&
	       memcmp(answer, ERROR_ANSWER, strlen(ERROR_ANSWER)) == 0;
}

/* Copies the answer to standard output.  -ENODATA: there was none, -EOPNOTSUPP: an error instead. */
static int
answer_copy(int fd, uint64_t deadline_ms)
{
	bool is_empty = true;
	char buf[4096];

	for (;;) {
		int r = wait_for(fd, POLLIN, deadline_ms);
		ssize_t n;

		if (r < 0)
			return r;
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				continue;
			return -errno;
		}
		if (is_empty && is_refusal(buf, (size_t)n))
			return -EOPNOTSUPP;
		is_empty = false;
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return -EIO;
	}
	if (is_empty)
		return -ENODATA;
	return fflush(stdout) == 0 ? 0 : -errno;
}

static int
ask(const char *path, const char *command, uint64_t timeout_ms)
{
	uint64_t deadline_ms = now_ms() + timeout_ms;
	int fd = -1, r;

	r = control_connect(path, deadline_ms, &fd);
	if (r == 0)
		r = request_send(fd, command, deadline_ms);
	if (r == 0)
		r = answer_copy(fd, deadline_ms);
	if (fd >= 0)
		(void)close(fd);
	if (r == -ENODATA)
		(void)fprintf(stderr, "slabswapctl: %s: no answer to %s\n", path, command);
	else if (r < 0)
		(void)fprintf(stderr, "slabswapctl: %s: %s: %s\n", path, command, strerror(-r));
	return r;
}

static int
usage_error(const char *what, const char *word)
{
	(void)fprintf(stderr, "slabswapctl: %s%s%s; see slabswapctl --help\n", what,
		      word ? ": " : "", word ? word : "");
	return EXIT_USAGE;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"timeout", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	uint64_t timeout_ms = TIMEOUT_MS_DEFAULT;
	int c;

	while ((c = getopt_long(argc, argv, "+t:hV", options, NULL)) != -1) {
		switch (c) {
		case 't':
			if (number_parse(optarg, &timeout_ms) < 0 || timeout_ms < 1 ||
			    timeout_ms > TIMEOUT_MS_MAX)
				return usage_error("timeout is not 1 to 600000 ms", optarg);
			break;
		case 'h':
			usage_print(stdout);
			return 0;
		case 'V':
			(void)printf("slabswapctl %s\n", SLABSWAP_VERSION);
			return 0;
		default:
			usage_print(stderr);
			return EXIT_USAGE;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc < 1)
		return usage_error("command missing", NULL);
	if (strcmp(argv[0], "status") != 0 && strcmp(argv[0], "latency") != 0)
		return usage_error("unknown command", argv[0]);
	if (argc != 2)
		return usage_error("one SOCKET is needed behind it", argv[0]);
	return ask(argv[1], argv[0], timeout_ms) < 0 ? 1 : 0;
}
