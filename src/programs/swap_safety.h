/* SPDX-License-Identifier: MIT */
/*
 * swap_safety.h - what keeps this process from waiting for the swap that it serves.
 *
 * A server of swap must never need memory that has to be swapped out first.
 * Every step that the system refuses has one line at warn level that says what
 * grants it; when the configuration is strict, the program does not start.
 *
 *   swap_safety_enter()    first of all, before any thread exists
 *   ... everything is opened and allocated ...
 *   swap_safety_settle()   last, before anybody is told that the device can be used
 */
#ifndef PROGRAMS_SWAP_SAFETY_H
#define PROGRAMS_SWAP_SAFETY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd_server/server_config_file.h"

struct swap_safety {
	/* Set by the caller: */
	enum server_realtime realtime; /* whether to become a real-time task */
	bool is_strict;		       /* a failed step is an error */
	size_t reserve_bytes; /* of heap, for what is allocated while serving: new sessions */
	/* Its own: */
	uint32_t failed_steps;
	bool is_flusher;
	bool locks_future;
};

/*
 * Marks the process as one that does block I/O (PR_SET_IO_FLUSHER: its
 * allocations never wait for swap-out, in threads made later too), asks the OOM
 * killer to look elsewhere, locks memory from now on as it is touched, and keeps
 * the heap from being given back.
 */
void swap_safety_enter(struct swap_safety *s);

/*
 * Touches and locks everything that is mapped, a reserve of heap and stack
 * included, takes the real-time priority or sees whether it may, and looks at every
 * thread and at the kernel's settings.
 *
 * Returns 0; -EPERM after an error line when a step failed and @s is strict.
 */
int swap_safety_settle(struct swap_safety *s);

#endif /* PROGRAMS_SWAP_SAFETY_H */
