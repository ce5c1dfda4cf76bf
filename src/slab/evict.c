/* SPDX-License-Identifier: MIT */
#include "slab/evict.h"

#include <assert.h>
#include <errno.h>

#include "slab/core.h"

/* Before a message that could not be queued is tried again. */
#define SEND_AGAIN_NS (1 * NSEC_PER_MSEC)
/* An UNMAP's request id is this and the slab's number plus 1: a MAP's is without it. */
#define UNMAP_ID UINT32_C(0x40000000)

/* Whether @slab is lent to us by @r as @generation, and we have not said that we are done. */
static bool
is_held(const struct slab_device *d, const struct remote *r, uint32_t slab, uint32_t generation)
{
	const struct arena_slab *s;
	const struct migration *m;

	if (slab >= d->arena.n_slabs)
		return false;
	m = migration_of(d, slab);
	if (m && !m->is_old_lost && m->old.daemon == r->index && m->old.generation == generation)
		return true;
	s = &d->arena.slabs[slab];
	return s->daemon == r->index && s->generation == generation && slab_is_readable(d, slab) &&
	       d->runs[slab].evict.step != EVICT_TOLD;
}

void
evict_check_activity(struct remote *r, const struct ctl_msg *msg)
{
	struct slab_device *d = r->dev;
	const struct ctl_unmap *which = &msg->u.unmap;
	struct ctl_msg answer = {.type = CTL_ACTIVITY, .request_id = msg->request_id};

	if (!is_held(d, r, which->slab, which->generation))
		return;
	answer.u.activity = (struct ctl_activity){
		.slab = which->slab,
		.generation = which->generation,
		.milli_pages_per_second = (uint64_t)(activity_of(d, which->slab) * 1000),
	};
	(void)remote_try_send(r, &answer);
}

/* @t, @by_ns earlier. */
static struct core_timer
earlier(const struct core_timer *t, uint64_t by_ns)
{
	struct core_timer r = *t;

	r.after_ns -= by_ns;
	if (r.at_ns != 0)
		r.at_ns -= by_ns;
	return r;
}

void
evict_from(struct slab_device *d, uint32_t slab, uint32_t request_id,
	   const struct core_timer *deadline, uint64_t began_ns)
{
	struct slab_evict *e = &d->runs[slab].evict;

	assert(e->step == EVICT_NOT);
	*e = (struct slab_evict){
		.step = EVICT_DRAIN,
		.request_id = request_id,
		.began_ns = began_ns,
		.deadline_timer = *deadline,
		.quiet_timer = earlier(deadline, deadline->after_ns / 8),
	};
	list_init(&e->node);
	list_add_tail(&d->evicting, &e->node);
	slab_evicting(d, slab);
	d->is_evict_due = true;
}

bool
slab_evict_begin(struct slab_device *d, uint32_t slab, uint64_t move_within_ns)
{
	const struct core_timer none = {0};
	const struct migration *m = d->runs[slab].migration;

	if (d->arena.slabs[slab].state != SLAB_STATE_MAPPED || (m && m->step == MIGRATE_PLACE))
		return false;
	if (move_within_ns != 0 && migrate_must_wait(d, slab))
		return false;
	if (move_within_ns != 0 && migrate_begin(d, slab, 0, move_within_ns))
		return true;
	if (!d->backup && (d->runs[slab].pages_remote > 0 || d->runs[slab].n_ops > 0))
		return false; /* nobody else has its pages */
	evict_from(d, slab, 0, &none, 0);
	return true;
}

void
evict_asked(struct remote *r, const struct ctl_msg *msg)
{
	struct slab_device *d = r->dev;
	const struct ctl_evict *which = &msg->u.evict;
	struct core_timer deadline;
	struct slab_evict *e;

	if (!is_held(d, r, which->slab, which->generation) ||
	    migrate_asked(r, msg->request_id, which))
		return;
	core_timer_arm(&deadline, which->deadline_ms * NSEC_PER_MSEC);
	e = &d->runs[which->slab].evict;
	if (e->step == EVICT_NOT) {
		if (!migrate_begin(d, which->slab, msg->request_id, deadline.after_ns))
			evict_from(d, which->slab, msg->request_id, &deadline, 0);
		return;
	}
	e->request_id = msg->request_id;
	if (!e->deadline_timer.is_armed) {
		e->deadline_timer = deadline;
		e->quiet_timer = earlier(&deadline, deadline.after_ns / 8);
	}
}

void
evict_cancel(struct slab_device *d, uint32_t slab)
{
	struct slab_evict *e = &d->runs[slab].evict;

	list_del(&e->node);
	e->step = EVICT_NOT;
}

bool
evict_unmapped(struct remote *r, uint32_t request_id)
{
	struct slab_device *d = r->dev;
	const uint32_t slab = (request_id & ~UNMAP_ID) - 1;

	if (!(request_id & UNMAP_ID) || slab >= d->arena.n_slabs)
		return false;
	if (d->arena.slabs[slab].daemon != r->index || d->runs[slab].evict.step != EVICT_TOLD)
		return migrate_unmapped(r, slab);
	evict_cancel(d, slab);
	slab_release(d, slab);
	return true;
}

void
evict_count(struct slab_device *d, uint64_t took_ns)
{
	d->stats.evictions++;
	d->stats.evict_ns_total += took_ns;
	if (took_ns > d->stats.evict_ns_max)
		d->stats.evict_ns_max = took_ns;
}

bool
evict_say(struct remote *r, uint32_t request_id, uint32_t slab, uint32_t generation,
	  uint64_t now_ns, uint64_t *next_ns)
{
	const struct ctl_msg msg = {
		.type = request_id != 0 ? CTL_DONE : CTL_UNMAP,
		.request_id = request_id != 0 ? request_id : UNMAP_ID | (slab + 1),
		.u.unmap = {.slab = slab, .generation = generation},
	};
	const int status = remote_try_send(r, &msg);

	if (status == -EAGAIN && now_ns + SEND_AGAIN_NS < *next_ns)
		*next_ns = now_ns + SEND_AGAIN_NS;
	if (status == 0 && request_id == 0)
		r->dev->stats.slabs_given_back++;
	return status == 0;
}

/* Nothing of ours touches the memory any more: says so. */
static void
say_done(struct slab_device *d, uint32_t slab, uint64_t now_ns, uint64_t *next_ns)
{
	struct slab_evict *e = &d->runs[slab].evict;
	const struct arena_slab *s = &d->arena.slabs[slab];

	if (!evict_say(&d->remotes[s->daemon], e->request_id, slab, s->generation, now_ns, next_ns))
		return;
	if (e->request_id == 0) {
		e->step = EVICT_TOLD;
		core_timer_arm(&e->deadline_timer, MAP_ANSWER_TIMEOUTS * d->config.op_timeout_ns);
		return;
	}
	evict_count(d, now_ns - e->began_ns);
	evict_cancel(d, slab);
	slab_release(d, slab);
}

static void
overdue(struct slab_device *d, uint32_t slab, uint64_t now_ns, uint64_t *next_ns)
{
	struct slab_evict *e = &d->runs[slab].evict;
	struct remote *r = &d->remotes[d->arena.slabs[slab].daemon];

	if (e->step == EVICT_TOLD && r->health.is_pong_overdue) {
		/* It answers nothing; how long that may last is PING's matter. */
		core_timer_arm(&e->deadline_timer, d->config.op_timeout_ns);
		(void)core_timer_is_due(&e->deadline_timer, now_ns, next_ns);
		return;
	}
	if (e->step == EVICT_TOLD) {
		remote_fail(r, -ETIMEDOUT, "no answer to UNMAP in time");
		return;
	}
	d->stats.evictions_late++;
	evict_cancel(d, slab);
	slab_forfeit(d, slab);
}

static void
step_any(struct slab_device *d, uint32_t slab, uint64_t now_ns, uint64_t *next_ns)
{
	const struct slab_run *run = &d->runs[slab];
	struct slab_evict *e = &d->runs[slab].evict;

	if (e->began_ns == 0)
		e->began_ns = now_ns;
	if (core_timer_is_due(&e->deadline_timer, now_ns, next_ns)) {
		overdue(d, slab, now_ns, next_ns);
		return;
	}
	if (e->step == EVICT_DRAIN && core_timer_is_due(&e->quiet_timer, now_ns, next_ns))
		slab_read_from_backup(d, slab);
	if (e->step == EVICT_DRAIN && run->n_unsafe == 0 &&
	    d->arena.slabs[slab].pages_degraded == 0) {
		e->step = EVICT_CLOSE;
		slab_stop_reading(d, slab);
		assert(run->pages_remote == 0); /* invariant 4 */
	}
	if (e->step == EVICT_CLOSE && run->n_ops == 0)
		say_done(d, slab, now_ns, next_ns);
}

uint64_t
evict_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	struct list again;
	struct list *node;

	list_init(&again);
	list_splice_tail(&again, &d->evicting);
	while ((node = list_pop_head(&again)) != NULL) {
		struct slab_run *run = container_of(node, struct slab_run, evict.node);

		list_add_tail(&d->evicting, node);
		step_any(d, (uint32_t)(run - d->runs), now_ns, &next_ns);
	}
	return next_ns;
}
