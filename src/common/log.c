/* SPDX-License-Identifier: MIT */
/* The level, and the ring, are the only process-wide state of the project: a log line must be
 * possible from any place, also before there is an object to hang it on. */
#include "common/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log_ring.h"

static enum log_level log_level_max = LOG_LEVEL_NOTICE;

void
log_set_level(enum log_level level)
{
	log_level_max = level;
}

enum log_level
log_get_level(void)
{
	return log_level_max;
}

static int
prefix_print(char *line, size_t size, enum log_level level)
{
	static const char *const names[] = {"?", "error", "warn", "notice", "info", "debug"};
	static const int priorities[] = {3, 3, 4, 5, 6, 7}; /* sd-daemon(3) */
	struct timespec ts;
	struct tm tm;

	if (getenv("JOURNAL_STREAM"))
		return snprintf(line, size, "<%d>", priorities[level]);

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	return snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s: ", tm.tm_year + 1900,
			tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			ts.tv_nsec / 1000000, names[level]);
}

static void log_emit(enum log_level level, const char *tail, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void
log_emit(enum log_level level, const char *tail, const char *fmt, va_list ap)
{
	char line[LOG_LINE_BYTES_MAX];
	const size_t room = sizeof(line) - 1; /* the newline */
	size_t used = (size_t)prefix_print(line, room, level);
	int n = vsnprintf(line + used, room - used, fmt, ap);
	ssize_t written;

	used += n > 0 ? (size_t)n : 0;
	if (tail && used < room) {
		n = snprintf(line + used, room - used, ": %s", tail);
		used += n > 0 ? (size_t)n : 0;
	}
	if (used >= room) {
		used = room - 1;
		memcpy(line + used - 3, "...", 3);
	}
	for (size_t i = 0; i < used; i++) /* one event stays one line, whatever a peer sent */
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	line[used++] = '\n';
	if (log_ring_put(line, used))
		return;
	written = write(STDERR_FILENO, line, used);
	(void)written; /* nowhere left to report it */
}

void
log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_level_max)
		return;
	va_start(ap, fmt);
	log_emit(level, NULL, fmt, ap);
	va_end(ap);
}

int
log_err_errno(int err, const char *fmt, ...)
{
	char buf[128];
	va_list ap;

	if (log_level_max == LOG_LEVEL_NONE)
		return -err;
	va_start(ap, fmt);
	log_emit(LOG_LEVEL_ERROR, strerror_r(err, buf, sizeof(buf)), fmt, ap);
	va_end(ap);
	return -err;
}
