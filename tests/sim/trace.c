/* SPDX-License-Identifier: MIT */
#include "sim/trace.h"

#include <inttypes.h>

static void
line_print(const struct trace_line *l, FILE *out)
{
	const uint64_t *value = l->values;

	fprintf(out, "%10.6f  ", (double)(l->at_ns - 1000000000) / 1e9);
	for (const char *p = l->format; *p; p++) {
		if (*p != '%') {
			fputc(*p, out);
			continue;
		}
		p++;
		if (*p == 's')
			fputs(l->word, out);
		else if (*p == 'd')
			fprintf(out, "%" PRId64, (int64_t)*value++);
		else if (*p == 'x')
			fprintf(out, "%" PRIx64, *value++);
		else
			fprintf(out, "%" PRIu64, *value++);
	}
	fputc('\n', out);
}

void
trace_add(struct trace *t, uint64_t at_ns, const char *format, const char *word, uint64_t a,
	  uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	struct trace_line *l = &t->lines[t->n++ % TRACE_ROOM];

	*l = (struct trace_line){at_ns, format, word, {a, b, c, d, e}};
	if (t->is_printed)
		line_print(l, stdout);
}

void
trace_print(const struct trace *t, FILE *out)
{
	const uint64_t first = t->n > TRACE_ROOM ? t->n - TRACE_ROOM : 0;

	for (uint64_t i = first; i < t->n; i++)
		line_print(&t->lines[i % TRACE_ROOM], out);
}
