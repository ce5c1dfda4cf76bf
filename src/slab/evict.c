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

	if (slab >= d->arena.n_slabs)
		return false;
	s = &d->arena.slabs[slab];
	return s->daemon == r->index && s->generation == generation &&
	       (s->state == SLAB_STATE_MAPPED ||
		(s->state == SLAB_STATE_EVICTING && d->runs[slab].evict.step != EVICT_TOLD));
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

static void
begin(struct slab_device *d, uint32_t slab, uint32_t request_id)
{
	struct slab_evict *e = &d->runs[slab].evict;

	assert(e->step == EVICT_NOT);
	*e = (struct slab_evict){.step = EVICT_DRAIN, .request_id = request_id};
	list_init(&e->node);
	list_add_tail(&d->evicting, &e->node);
	slab_evicting(d, slab);
}

bool
slab_evict_begin(struct slab_device *d, uint32_t slab)
{
	if (!slab_is_mapped(d, slab))
		return false;
	begin(d, slab, 0);
	return true;
}

void
evict_asked(struct remote *r, const struct ctl_msg *msg)
{
	struct slab_device *d = r->dev;
	const struct ctl_evict *which = &msg->u.evict;
	const uint64_t deadline_ns = which->deadline_ms * NSEC_PER_MSEC;
	struct slab_evict *e;

	if (!is_held(d, r, which->slab, which->generation))
		return;
	e = &d->runs[which->slab].evict;
	if (e->step == EVICT_NOT)
		begin(d, which->slab, msg->request_id);
	e->request_id = msg->request_id;
	if (!e->deadline_timer.is_armed) {
		core_timer_arm(&e->quiet_timer, deadline_ns / 8 * 7);
		core_timer_arm(&e->deadline_timer, deadline_ns);
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

	if (!(request_id & UNMAP_ID) || slab >= d->arena.n_slabs ||
	    d->arena.slabs[slab].daemon != r->index || d->runs[slab].evict.step != EVICT_TOLD)
		return false;
	evict_cancel(d, slab);
	slab_release(d, slab);
	return true;
}

static void
count_time(struct slab_device *d, const struct slab_evict *e, uint64_t now_ns)
{
	const uint64_t took_ns = now_ns - e->began_ns;

	d->stats.evict_ns_total += took_ns;
	if (took_ns > d->stats.evict_ns_max)
		d->stats.evict_ns_max = took_ns;
}

/* Nothing of ours touches the memory any more: says so. */
static void
say_done(struct slab_device *d, uint32_t slab, uint64_t now_ns, uint64_t *next_ns)
{
	struct slab_evict *e = &d->runs[slab].evict;
	const struct arena_slab *s = &d->arena.slabs[slab];
	struct remote *r = &d->remotes[s->daemon];
	const bool is_asked = e->request_id != 0;
	const struct ctl_msg msg = {
		.type = is_asked ? CTL_DONE : CTL_UNMAP,
		.request_id = is_asked ? e->request_id : UNMAP_ID | (slab + 1),
		.u.unmap = {.slab = slab, .generation = s->generation},
	};
	const int status = remote_try_send(r, &msg);

	if (status == -EAGAIN && now_ns + SEND_AGAIN_NS < *next_ns)
		*next_ns = now_ns + SEND_AGAIN_NS;
	if (status < 0)
		return;
	if (!is_asked) {
		d->stats.slabs_given_back++;
		e->step = EVICT_TOLD;
		core_timer_arm(&e->deadline_timer, MAP_ANSWER_TIMEOUTS * d->config.op_timeout_ns);
		return;
	}
	d->stats.evictions++;
	count_time(d, e, now_ns);
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
