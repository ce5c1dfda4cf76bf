/* SPDX-License-Identifier: MIT */
/*
 * realtime.h - real-time priority (SCHED_FIFO) while memory is short.
 *
 * The kernel lets a real-time task allocate below the watermark where all others
 * wait for memory to be swapped out, the server's own replies among them.  But when such a
 * task wakes up it does so where it ran last and stops what runs there, most often the
 * one that was about to send the next request: each request costs two task switches of its own.
 *
 * So the loop thread is real-time from after the poll, before it handles anything, to
 * before the next one, and waits and wakes up as an ordinary task: the poll allocates nothing.
 * And only while memory is short, which it is from below @low_bytes on until it was above twice
 * that for a second.  It is looked at after a poll, and then not for as long as it takes to use up
 * what is above @low_bytes at 10 GiB/s, but for a millisecond at least and a tenth of a second at most;
 * while it is short, for ten milliseconds.
 */
#ifndef PROGRAMS_REALTIME_H
#define PROGRAMS_REALTIME_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

struct spin;

struct realtime {
	ev_check check;
	ev_prepare prepare;
	struct ev_loop *loop;
	struct spin *spin;
	uint64_t low_bytes;
	uint64_t look_ns;   /* the next look */
	uint64_t plenty_ns; /* since when there is more than enough; 0: there is not */
	bool is_on;	    /* memory is short; real-time, but for the poll */
	uint64_t switches_total;
};

/* Whether a thread may become real-time: 0, or a negative errno.  It is ordinary afterwards. */
int realtime_try(void);
/* From now on, for good, the poll too. */
int realtime_enter(void);
/* Whether the calling thread is. */
bool realtime_is_entered(void);

/*
 * Free memory, in bytes, below which this machine's replies may have to wait.
 * @min_free_kib: vm.min_free_kbytes.
 */
uint64_t realtime_low_bytes(uint64_t min_free_kib);

/* What the loop thread should be, at @now_ns with @free_bytes; for realtime.c and its test. */
bool realtime_wants(struct realtime *r, uint64_t free_bytes, uint64_t now_ns);
/* How long it need not be looked at again while it is not short; the same. */
uint64_t realtime_calm_ns(const struct realtime *r, uint64_t free_bytes);

/*
 * Looks after the priority of the thread that runs @loop, until realtime_stop().  While
 * memory is short, @spin is held.
 */
void realtime_start(struct realtime *r, struct ev_loop *loop, uint64_t low_bytes,
		    struct spin *spin);
void realtime_stop(struct realtime *r);

#endif /* PROGRAMS_REALTIME_H */
