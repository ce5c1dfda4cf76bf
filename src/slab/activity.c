/* SPDX-License-Identifier: MIT */
#include "slab/activity.h"

#include "slab/core.h"

/* Slabs looked at per advance after a period has ended. */
#define SCAN_SLABS 4096u
/* Less is none: else an idle slab would count down for ever. */
#define ACTIVITY_MIN 0.001

/* @base to the power of @n. */
static double
power(double base, uint32_t n)
{
	double r = 1;

	for (; n > 0; n >>= 1, base *= base)
		if (n & 1)
			r *= base;
	return r;
}

/* A at the end of a period that saw @a->pages. */
static double
weighted(const struct slab_device *d, const struct slab_activity *a)
{
	const struct slab_device_config *c = &d->config;
	const double measured = (double)a->pages * (double)NSEC_PER_SEC / (double)c->period_ns;

	return c->alpha * measured + (1 - c->alpha) * a->pages_per_second;
}

/* Brings @slab to the running period. */
static struct slab_activity *
activity_at(struct slab_device *d, uint32_t slab)
{
	struct slab_activity *a = &d->runs[slab].activity;
	const uint32_t n_ended = d->activity.period - a->period;

	if (n_ended == 0)
		return a;
	a->pages_per_second = weighted(d, a) * power(1 - d->config.alpha, n_ended - 1);
	if (a->pages_per_second < ACTIVITY_MIN)
		a->pages_per_second = 0;
	a->pages = 0;
	a->period = d->activity.period;
	return a;
}

double
activity_of(struct slab_device *d, uint32_t slab)
{
	const struct slab_activity *a = activity_at(d, slab);
	const double so_far = weighted(d, a);

	return so_far > a->pages_per_second ? so_far : a->pages_per_second;
}

bool
activity_is_hot(struct slab_device *d, uint32_t slab)
{
	return d->config.hot_slab <= 0 || activity_of(d, slab) > d->config.hot_slab;
}

void
activity_saw(struct slab_device *d, uint32_t slab, uint32_t n_pages)
{
	activity_at(d, slab)->pages += n_pages;
	slab_want(d, slab);
}

/* What others can use better: a slab that was trimmed empty, or that hardly anybody uses. */
static void
give_back(struct slab_device *d, uint32_t slab, double pages_per_second)
{
	struct slab_run *run = &d->runs[slab];

	if (d->arena.slabs[slab].state != SLAB_STATE_MAPPED || d->is_stopping)
		return;
	run->n_cold = pages_per_second < d->config.cold_slab ? run->n_cold + 1 : 0;
	if ((run->is_trimmed && run->n_ops == 0) ||
	    (run->n_cold > 0 && run->n_cold >= d->config.cold_periods))
		(void)slab_evict_begin(d, slab, 0);
}

static void
period_ended(struct slab_device *d, uint32_t slab)
{
	const struct slab_activity *a = activity_at(d, slab);
	const bool is_hot = a->pages_per_second > d->config.hot_slab;

	d->activity.n_hot += is_hot ? 1 : 0;
	d->activity.sum += a->pages_per_second;
	if (a->pages_per_second > d->activity.most)
		d->activity.most = a->pages_per_second;
	/* No daemon had room when it became hot.  What was trimmed was hot for what is gone. */
	if (is_hot && d->config.hot_slab > 0 && !d->runs[slab].is_trimmed)
		slab_want(d, slab);
	give_back(d, slab, a->pages_per_second);
}

static void
scan_begin(struct activity *a)
{
	a->scan_slab = 0;
	a->n_hot = 0;
	a->sum = 0;
	a->most = 0;
}

static void
scan_end(struct slab_device *d)
{
	const struct activity *a = &d->activity;

	d->stats.slabs_hot = a->n_hot;
	d->stats.activity_pages_per_second = a->sum;
	d->stats.activity_most = a->most;
}

uint64_t
activity_advance(struct slab_device *d, uint64_t now_ns)
{
	const uint64_t period_ns = d->config.period_ns;
	struct activity *a = &d->activity;

	if (a->period_end_ns == 0) {
		a->period_end_ns = now_ns + period_ns;
		a->scan_slab = d->arena.n_slabs;
	}
	if (now_ns >= a->period_end_ns) {
		const uint64_t n = (now_ns - a->period_end_ns) / period_ns + 1;

		a->period += (uint32_t)n;
		a->period_end_ns += n * period_ns;
		scan_begin(a);
		placement_hope(d);
	}
	if (a->scan_slab == d->arena.n_slabs)
		return a->period_end_ns;
	for (uint32_t n = 0; n < SCAN_SLABS && a->scan_slab < d->arena.n_slabs; n++)
		period_ended(d, a->scan_slab++);
	if (a->scan_slab < d->arena.n_slabs)
		return now_ns;
	scan_end(d);
	return a->period_end_ns;
}
