/* SPDX-License-Identifier: MIT */
/*
 * log.h - one line per event to standard error.
 *
 * Levels: error (the operator must act), warn (degraded, still serving),
 * notice (start, stop, peer joined or lost), info (connections), debug.
 * Under systemd (JOURNAL_STREAM is set) lines carry the <N> priority prefix,
 * else a UTC timestamp and the level.  Formatting uses a stack buffer and one
 * write(2), or log_ring.h: no allocation, lines over LOG_LINE_BYTES_MAX are cut with "...".
 * Safe from any thread.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#define LOG_LINE_BYTES_MAX 1024

enum log_level {
	LOG_LEVEL_NONE = 0, /* for log_set_level(): no line at all */
	LOG_LEVEL_ERROR = 1,
	LOG_LEVEL_WARN,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Lines above @level are dropped.  Call before any thread exists.  NOTICE until called. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Logs "<message>: <strerror>" at error level and returns -@err, so callers
 * write: r = log_err_errno(errno, "..."); */
int log_err_errno(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_get_level() >= LOG_LEVEL_DEBUG)                                            \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                    \
	} while (0)

#endif /* COMMON_LOG_H */
