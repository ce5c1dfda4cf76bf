/* SPDX-License-Identifier: MIT */
#include "programs/doctor_report.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

static void __attribute__((format(printf, 4, 0)))
say(struct doctor *d, const char *verdict, const char *what, const char *fmt, va_list ap)
{
	assert(!d->owes_fix);
	(void)printf("%-7s  %s: ", verdict, what);
	(void)vprintf(fmt, ap);
	(void)putchar('\n');
}

void
doctor_ok(struct doctor *d, const char *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(d, "ok", what, fmt, ap);
	va_end(ap);
}

void
doctor_warning(struct doctor *d, const char *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(d, "warning", what, fmt, ap);
	va_end(ap);
	d->warnings++;
	d->owes_fix = true;
}

void
doctor_failure(struct doctor *d, const char *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(d, "failure", what, fmt, ap);
	va_end(ap);
	d->failures++;
	d->owes_fix = true;
}

void
doctor_fix(struct doctor *d, const char *fmt, ...)
{
	va_list ap;

	assert(d->owes_fix);
	d->owes_fix = false;
	(void)printf("         ");
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	(void)putchar('\n');
}
