/* SPDX-License-Identifier: MIT */
/*
 * monitor.h - how many slabs the host's memory allows (paper 5.1).
 *
 * Once a period it is told what the host has, and says how many slabs may hold
 * memory.  U is the memory that everything but the daemon's slabs uses:
 *
 *   U_meas = total - available - slabs that hold memory
 *   U_cur  = beta * U_meas + (1 - beta) * U_old
 *   free   = total - slabs that hold memory - max(U_cur, U_meas)
 *
 * The average begins with the first measurement.  Below the headroom slabs go; with
 * a slab and some more above it slabs come.  The larger of the two U counts, other
 * than in the paper: a program that takes memory at once is met within the period,
 * one that has just given memory back is not believed at once.
 */
#ifndef DAEMON_MONITOR_H
#define DAEMON_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

struct daemon_memory;

/* DAEMON_HEADROOM_AUTO is this part of the host's memory. */
#define MONITOR_HEADROOM_AUTO_DIVISOR 8u

struct monitor_config {
	uint64_t slab_bytes;
	uint64_t headroom_bytes;  /* kept available; or DAEMON_HEADROOM_AUTO */
	uint32_t beta_milli;	  /* 1..1000 */
	uint32_t psi_limit_centi; /* pressure that is a sign of shortage, in 1/100 % */
};

/* The pool as it is. */
struct monitor_slabs {
	uint32_t max;	  /* that may ever hold memory */
	uint32_t held;	  /* hold memory, those included that are being filled or dropped */
	uint32_t filling; /* being filled: how much of that shows in U_meas is not known */
	uint32_t free;	  /* nobody's */
};

struct monitor {
	struct monitor_config config;
	bool has_sample;
	uint64_t total_bytes;	  /* of the last sample */
	uint64_t available_bytes; /* of the last sample */
	uint64_t headroom_bytes;  /* in force */
	uint64_t free_bytes;	  /* what counts as free, see above */
	uint64_t others_bytes;	  /* U_meas */
	double used_bytes;	  /* U_cur */
	bool is_short;		  /* free is below the headroom */
	bool is_pressed;	  /* the pressure is a sign of shortage */
};

void monitor_init(struct monitor *m, const struct monitor_config *config);

/*
 * monitor_target - takes the sample of a period, returns how many slabs may hold
 * memory: less than @slabs->held when slabs have to go.
 */
uint32_t monitor_target(struct monitor *m, const struct daemon_memory *memory,
			const struct monitor_slabs *slabs);

#endif /* DAEMON_MONITOR_H */
