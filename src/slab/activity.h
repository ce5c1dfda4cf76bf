/* SPDX-License-Identifier: MIT */
/*
 * activity.h - how much each slab is used (paper 4.1).
 *
 * Pages read and written are counted per slab and period (not requests: one may have 32
 * pages).  At the end of each period
 *
 *   A_cur = alpha * A_meas + (1 - alpha) * A_old      pages per second
 *
 * A slab is hot when A is over hot_slab.  Waiting for the period's end would leave a slab
 * that is suddenly used on the backup for up to a period, so A is also looked at with what
 * the running period has seen so far: that only grows until its end, so a slab that is hot
 * inside a period would be found hot at its end too, and none is missed.
 *
 * A mapped slab that was trimmed empty is given back at the end of the period; with cold_slab
 * not 0 also one whose A was under it for cold_periods periods.
 *
 * A slab costs nothing while it is not used: what periods without I/O do to its A is made
 * up for when it is looked at.
 */
#ifndef SLAB_ACTIVITY_H
#define SLAB_ACTIVITY_H

#include <stdbool.h>
#include <stdint.h>

struct slab_device;

/* Of one slab. */
struct slab_activity {
	double pages_per_second; /* A at the end of the period before @period */
	uint32_t pages;		 /* seen in @period */
	uint32_t period;	 /* the newest that @pages counts */
};

/* Of the device. */
struct activity {
	uint32_t period;	/* the running one */
	uint64_t period_end_ns; /* 0: not begun */
	uint32_t scan_slab;	/* the next to be looked at since the last period's end */
	uint32_t n_hot;		/* among those looked at */
	double sum;		/* of their A */
	double most;
};

/* @n_pages of @slab are read or written by a client: maps it when that makes it hot. */
void activity_saw(struct slab_device *d, uint32_t slab, uint32_t n_pages);
/* Pages per second: A, or what it will be at least at the end of the running period. */
double activity_of(struct slab_device *d, uint32_t slab);
/* Whether @slab shall be mapped.  With hot_slab 0 every one that is used. */
bool activity_is_hot(struct slab_device *d, uint32_t slab);
/* Ends periods, looks at a bounded number of slabs; returns when to be called next. */
uint64_t activity_advance(struct slab_device *d, uint64_t now_ns);

#endif /* SLAB_ACTIVITY_H */
