/* SPDX-License-Identifier: MIT */
/*
 * An active idle watcher keeps the poll from blocking.  As its priority is the lowest, it
 * is called in just those turns in which no descriptor, timer or other idle watcher was
 * (ev.pod), which is how work is told from none, for nothing.
 */
#include "loop/spin.h"

#include <assert.h>
#include <sched.h>

#include "common/list.h"
#include "common/page.h"
#include "loop/clock.h"
#include "loop/defer.h"

static void
idle_cb(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)revents;
	container_of(w, struct spin, idle)->was_empty = true;
	/* Whoever brings the next work may be waiting for this processor. */
	(void)sched_yield();
}

static void
check_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	struct spin *s = container_of(w, struct spin, check);

	(void)loop;
	(void)revents;
	if (s->length.is_asleep)
		spin_length_woken(&s->length, clock_now_ns());
}

static void
prepare_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct spin *s = container_of(w, struct spin, prepare);
	const bool had_work = s->had_work || !s->was_empty;
	const bool may_poll = !s->is_held && (!s->is_alone || s->expected > 0);

	(void)revents;
	s->was_empty = false;
	s->had_work = false;
	s->is_polling = spin_length_turn(&s->length, clock_now_ns(), had_work, may_poll);
	if (s->is_polling)
		ev_idle_start(loop, &s->idle);
	else
		ev_idle_stop(loop, &s->idle);
}

static bool
has_one_processor(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

void
spin_start(struct spin *s, struct ev_loop *loop, uint32_t limit_us)
{
	*s = (struct spin){.loop = loop};
	if (limit_us == 0)
		return;
	s->is_alone = has_one_processor();
	s->length.limit_ns = limit_us * NSEC_PER_USEC;
	ev_idle_init(&s->idle, idle_cb);
	ev_set_priority(&s->idle, EV_MINPRI);
	/* They watch, and keep nothing running. */
	ev_prepare_init(&s->prepare, prepare_cb);
	ev_set_priority(&s->prepare, LOOP_PRI_POLL);
	ev_prepare_start(loop, &s->prepare);
	ev_unref(loop);
	ev_check_init(&s->check, check_cb);
	ev_set_priority(&s->check, EV_MAXPRI);
	ev_check_start(loop, &s->check);
	ev_unref(loop);
	ev_set_userdata(loop, s);
}

void
spin_hold(struct spin *s, bool is_held)
{
	s->is_held = is_held;
}

void
spin_stop(struct spin *s)
{
	if (!ev_is_active(&s->prepare))
		return;
	ev_ref(s->loop);
	ev_prepare_stop(s->loop, &s->prepare);
	ev_ref(s->loop);
	ev_check_stop(s->loop, &s->check);
	ev_idle_stop(s->loop, &s->idle);
	ev_set_userdata(s->loop, NULL);
	s->is_polling = false;
}

struct spin *
spin_of(struct ev_loop *loop)
{
	return ev_userdata(loop);
}

bool
spin_is_polling(const struct spin *s)
{
	return s && s->is_polling;
}

void
spin_expect(struct spin *s)
{
	s->expected++;
}

void
spin_expect_no_more(struct spin *s)
{
	assert(s->expected > 0);
	s->expected--;
}

void
spin_had_work(struct spin *s)
{
	s->had_work = true;
}

void
spin_get_stats(const struct spin *s, struct spin_stats *ret_stats)
{
	*ret_stats = (struct spin_stats){
		.limit_ns = s->length.limit_ns,
		.length_ns = s->length.length_ns,
		.spun_ns = s->length.spun_ns,
		.paid_total = s->length.paid_total,
		.unpaid_total = s->length.unpaid_total,
	};
}
