/* SPDX-License-Identifier: MIT */
/*
 * trace.h - the last things that happened, kept cheaply and put into words only
 * when somebody wants to read them.
 */
#ifndef TESTS_SIM_TRACE_H
#define TESTS_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_ROOM 256u

struct trace_line {
	uint64_t at_ns;
	const char *format; /* static; %s once at most, then %u and %d */
	const char *word;   /* static */
	uint64_t values[5];
};

struct trace {
	struct trace_line lines[TRACE_ROOM];
	uint64_t n;
	bool is_printed; /* at once */
};

/* @format must take the word first if it takes one: "%s at %u". */
void trace_add(struct trace *t, uint64_t at_ns, const char *format, const char *word, uint64_t a,
	       uint64_t b, uint64_t c, uint64_t d, uint64_t e);
/* The last lines, oldest first. */
void trace_print(const struct trace *t, FILE *out);

#endif /* TESTS_SIM_TRACE_H */
