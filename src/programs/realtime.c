/* SPDX-License-Identifier: MIT */
#include "programs/realtime.h"

#include <errno.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include "common/page.h"
#include "loop/clock.h"
#include "loop/defer.h"
#include "loop/spin.h"

/* Above every ordinary task, below what guards the machine itself. */
#define REALTIME_PRIORITY 2
/* Memory does not vanish faster than 10 GiB/s: a look, which is a system call, is not needed in
 * each turn where there is plenty. */
#define VANISHING_BYTES_PER_MS (UINT64_C(10) << 20)
#define LOOK_NS_MIN NSEC_PER_MSEC
#define LOOK_NS_MAX (100 * NSEC_PER_MSEC)
/* To become an ordinary one again is not urgent. */
#define LOOK_NS_WHILE_ON (10 * NSEC_PER_MSEC)
#define PLENTY_NS NSEC_PER_SEC
/* A boosted min watermark is 3.25 times min_free_kbytes at the most (boost: 150 % of high,
 * which is 1.5 times min); twice that and the time between two looks. */
#define LOW_FACTOR 8u
#define LOW_BYTES_MIN (UINT64_C(32) << 20)

static int
set_policy(bool is_realtime)
{
	const struct sched_param param = {.sched_priority = is_realtime ? REALTIME_PRIORITY : 0};

	return sched_setscheduler(0, is_realtime ? SCHED_FIFO : SCHED_OTHER, &param) < 0 ? -errno
											 : 0;
}

int
realtime_enter(void)
{
	return set_policy(true);
}

int
realtime_try(void)
{
	const int r = set_policy(true);

	return r < 0 ? r : set_policy(false);
}

bool
realtime_is_entered(void)
{
	return sched_getscheduler(0) == SCHED_FIFO;
}

uint64_t
realtime_low_bytes(uint64_t min_free_kib)
{
	const uint64_t bytes = min_free_kib * 1024 * LOW_FACTOR;

	return bytes > LOW_BYTES_MIN ? bytes : LOW_BYTES_MIN;
}

bool
realtime_wants(struct realtime *r, uint64_t free_bytes, uint64_t now_ns)
{
	if (free_bytes < r->low_bytes)
		return true;
	if (!r->is_on)
		return false;
	if (free_bytes < 2 * r->low_bytes) {
		r->plenty_ns = 0;
		return true;
	}
	if (r->plenty_ns == 0)
		r->plenty_ns = now_ns;
	return now_ns - r->plenty_ns < PLENTY_NS;
}

uint64_t
realtime_calm_ns(const struct realtime *r, uint64_t free_bytes)
{
	const uint64_t above_ms = free_bytes > r->low_bytes
					  ? (free_bytes - r->low_bytes) / VANISHING_BYTES_PER_MS
					  : 0;
	const uint64_t ns = above_ms * NSEC_PER_MSEC;

	if (ns < LOOK_NS_MIN)
		return LOOK_NS_MIN;
	return ns < LOOK_NS_MAX ? ns : LOOK_NS_MAX;
}

/* Whether it is a real-time task from now on, while it works. */
static bool
look(struct realtime *r)
{
	const uint64_t now_ns = clock_now_ns();
	struct sysinfo info;
	uint64_t free_bytes;
	bool wants;

	if (now_ns < r->look_ns || sysinfo(&info) < 0)
		return r->is_on;
	free_bytes = (uint64_t)info.freeram * info.mem_unit;
	wants = realtime_wants(r, free_bytes, now_ns);
	if (wants != r->is_on)
		r->plenty_ns = 0;
	r->look_ns = now_ns + (wants ? LOOK_NS_WHILE_ON : realtime_calm_ns(r, free_bytes));
	return wants;
}

static void
check_cb(struct ev_loop *loop, ev_check *w, int events)
{
	struct realtime *r = w->data;
	const bool wants = look(r);

	(void)loop;
	(void)events;
	if ((wants && set_policy(true) < 0) || wants == r->is_on)
		return;
	r->is_on = wants;
	r->switches_total++;
	/* It would poll instead of others that have work to do. */
	spin_hold(r->spin, wants);
}

static void
prepare_cb(struct ev_loop *loop, ev_prepare *w, int events)
{
	const struct realtime *r = w->data;

	(void)loop;
	(void)events;
	if (r->is_on)
		(void)set_policy(false);
}

void
realtime_start(struct realtime *r, struct ev_loop *loop, uint64_t low_bytes, struct spin *spin)
{
	*r = (struct realtime){.loop = loop, .low_bytes = low_bytes, .spin = spin};
	/* They watch, and keep nothing running. */
	ev_prepare_init(&r->prepare, prepare_cb);
	ev_set_priority(&r->prepare, LOOP_PRI_POLL);
	r->prepare.data = r;
	ev_prepare_start(loop, &r->prepare);
	ev_unref(loop);
	ev_check_init(&r->check, check_cb);
	ev_set_priority(&r->check, EV_MAXPRI);
	r->check.data = r;
	ev_check_start(loop, &r->check);
	ev_unref(loop);
}

void
realtime_stop(struct realtime *r)
{
	if (!ev_is_active(&r->check))
		return;
	ev_ref(r->loop);
	ev_prepare_stop(r->loop, &r->prepare);
	ev_ref(r->loop);
	ev_check_stop(r->loop, &r->check);
}
