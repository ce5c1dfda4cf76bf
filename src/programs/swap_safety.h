/* SPDX-License-Identifier: MIT */
/* swap_safety.h - what keeps this process from waiting for the swap that it serves. */
#ifndef PROGRAMS_SWAP_SAFETY_H
#define PROGRAMS_SWAP_SAFETY_H

/*
 * Marks the process as one that does block I/O (PR_SET_IO_FLUSHER: its
 * allocations never wait for swap-out), locks its memory as it is touched, and
 * asks the OOM killer to look elsewhere.  Before any thread exists: threads,
 * io_uring's too, inherit it.  Needs CAP_SYS_RESOURCE and CAP_IPC_LOCK; each
 * step that the system refuses has a warning line, none is fatal.
 */
void swap_safety_enter(void);

/* For when memory cannot be had because it cannot be locked: says so, and locks none. */
void swap_safety_unlock(void);

#endif /* PROGRAMS_SWAP_SAFETY_H */
