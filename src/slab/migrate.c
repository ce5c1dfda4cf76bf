/* SPDX-License-Identifier: MIT */
#include "slab/migrate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "slab/core.h"

/* Between two looks for pages that the backup has got meanwhile. */
#define SWEEP_NS (10 * NSEC_PER_MSEC)

int
migrations_init(struct slab_device *d)
{
	const size_t n = d->config.migrate ? d->arena.slab_blocks : 0;

	for (uint32_t i = 0; i < MIGRATIONS_MAX && n > 0; i++) {
		d->migrations[i].at_old = calloc(n, sizeof(uint32_t));
		d->migrations[i].at_new = calloc(n, sizeof(uint32_t));
		if (!d->migrations[i].at_old || !d->migrations[i].at_new)
			return -ENOMEM;
	}
	return 0;
}

void
migrations_fini(struct slab_device *d)
{
	for (uint32_t i = 0; i < MIGRATIONS_MAX; i++) {
		free(d->migrations[i].at_old);
		free(d->migrations[i].at_new);
	}
}

struct migration *
migration_of(const struct slab_device *d, uint32_t slab)
{
	struct migration *m = d->runs[slab].migration;

	return m && m->step == MIGRATE_COPY ? m : NULL;
}

static struct migration *
migration_take(struct slab_device *d, uint32_t slab)
{
	for (uint32_t i = 0; i < MIGRATIONS_MAX && d->config.migrate; i++) {
		struct migration *m = &d->migrations[i];

		if (m->step != MIGRATE_NOT)
			continue;
		*m = (struct migration){.slab = slab, .at_old = m->at_old, .at_new = m->at_new};
		return m;
	}
	return NULL;
}

static void
migration_free(struct slab_device *d, struct migration *m)
{
	assert(d->runs[m->slab].migration == m);
	d->runs[m->slab].migration = NULL;
	m->step = MIGRATE_NOT;
}

/* The slab goes back as it is; but of our own accord no pages are given up. */
static void
evict_plainly(struct slab_device *d, const struct migration *m)
{
	if (m->request_id == 0 && !d->backup)
		return;
	evict_from(d, m->slab, m->request_id, &m->deadline_timer, m->began_ns);
}

/* The answer to MAP: the slab has its new home. */
static bool
placed(struct slab_device *d, uint32_t slab, struct remote *r, const struct ctl_mr_info *info)
{
	struct migration *m = d->runs[slab].migration;
	struct slab_home home;

	assert(m && (m->step == MIGRATE_PLACE || m->step == MIGRATE_ORPHAN));
	if (r && !slab_info_fits(d, info))
		return false;
	if (!r) {
		if (m->step == MIGRATE_PLACE)
			evict_plainly(d, m);
		migration_free(d, m);
		return true;
	}
	home = (struct slab_home){r->index, info->generation, info->rkey, info->addr};
	if (m->step == MIGRATE_ORPHAN) {
		r->slabs_mapped++;
		m->old = home;
		m->request_id = 0;
		m->step = MIGRATE_SAY;
		return true;
	}
	m->step = MIGRATE_COPY;
	d->is_evict_due = true;
	slab_migrating(d, m, &home);
	homeless_look(d);
	d->stats.maps_total++;
	d->stats.migrations_begun++;
	return true;
}

/* Worth it when its pages would be read from the disk, or when the disk refuses them. */
static bool
is_worth_it(struct slab_device *d, uint32_t slab)
{
	return d->runs[slab].pages_remote > 0 &&
	       (activity_is_hot(d, slab) || d->arena.slabs[slab].pages_degraded > 0);
}

bool
migrate_must_wait(struct slab_device *d, uint32_t slab)
{
	for (uint32_t i = 0; i < MIGRATIONS_MAX; i++)
		if (d->migrations[i].step == MIGRATE_NOT)
			return false;
	return is_worth_it(d, slab);
}

bool
migrate_begin(struct slab_device *d, uint32_t slab, uint32_t request_id, uint64_t within_ns)
{
	struct remote *r = &d->remotes[d->arena.slabs[slab].daemon];
	struct migration *m;

	if (d->is_stopping || d->runs[slab].migration || !is_worth_it(d, slab))
		return false;
	m = migration_take(d, slab);
	if (!m)
		return false;
	m->step = MIGRATE_PLACE;
	m->request_id = request_id;
	d->runs[slab].migration = m;
	if (!placement_start(d, slab, r, placed)) {
		migration_free(d, m);
		return false;
	}
	if (within_ns == 0)
		return true;
	core_timer_arm(&m->place_timer, within_ns / 2);
	core_timer_arm(&m->hurry_timer, within_ns / 4 * 3);
	/* Nobody takes back what we give of our own accord: no page is given up for it. */
	if (request_id != 0)
		core_timer_arm(&m->deadline_timer, within_ns);
	return true;
}

bool
migrate_asked(struct remote *r, uint32_t request_id, const struct ctl_evict *which)
{
	struct slab_device *d = r->dev;
	struct migration *m = d->runs[which->slab].migration;
	const uint64_t within_ns = which->deadline_ms * NSEC_PER_MSEC;

	if (!m)
		return false;
	if (m->step == MIGRATE_COPY && (m->is_old_lost || which->generation != m->old.generation)) {
		m->next_request_id = request_id;
		if (!m->next_deadline_timer.is_armed)
			core_timer_arm(&m->next_deadline_timer, within_ns);
		return true;
	}
	if (m->step != MIGRATE_PLACE && m->step != MIGRATE_COPY)
		return false;
	m->request_id = request_id;
	if (!m->deadline_timer.is_armed) {
		core_timer_arm(&m->place_timer, within_ns / 2);
		core_timer_arm(&m->hurry_timer, within_ns / 4 * 3);
		core_timer_arm(&m->deadline_timer, within_ns);
	}
	return true;
}

/* The home that was given up is the daemon's again. */
static void
given_up(struct slab_device *d, struct migration *m)
{
	d->remotes[m->old.daemon].slabs_mapped--;
	migration_free(d, m);
}

bool
migrate_unmapped(struct remote *r, uint32_t slab)
{
	struct migration *m = r->dev->runs[slab].migration;

	if (!m || m->step != MIGRATE_TOLD || m->old.daemon != r->index)
		return false;
	given_up(r->dev, m);
	return true;
}

/* The slab is at its new home as a whole. */
static void
switch_over(struct slab_device *d, struct migration *m)
{
	const uint32_t slab = m->slab;

	slab_migrated(d, m);
	fill_want(d, slab);
	d->stats.migrations++;
	m->step = MIGRATE_SAY;
	d->is_evict_due = true;
	if (m->next_request_id != 0)
		evict_from(d, slab, m->next_request_id, &m->next_deadline_timer, 0);
	if (m->is_old_lost)
		migration_free(d, m);
}

static void
old_home_lost(struct slab_device *d, struct migration *m, const char *what)
{
	const struct remote *r = &d->remotes[m->old.daemon];

	slab_report_lost(d, slab_old_home_lost(d, m), r, what);
	if (m->n_unmoved == 0)
		switch_over(d, m);
}

static void
both_homes_lost(struct slab_device *d, struct migration *m, const struct remote *r)
{
	const uint64_t lost_before = d->stats.pages_lost;

	migration_free(d, m);
	slab_unmap_lost(d, m->slab);
	d->stats.slabs_mapped--;
	slab_report_lost(d, d->stats.pages_lost - lost_before, r, "is gone");
}

/* Back to the old home, from which it is evicted. */
static void
new_home_lost(struct slab_device *d, struct migration *m)
{
	const struct remote *r = &d->remotes[d->arena.slabs[m->slab].daemon];

	d->stats.migrations_failed++;
	if (m->is_old_lost) {
		both_homes_lost(d, m, r);
		return;
	}
	slab_report_lost(d, slab_new_home_lost(d, m), r, "is gone");
	m->next_request_id = m->request_id;
	m->next_deadline_timer = m->deadline_timer;
	core_timer_stop(&m->deadline_timer);
	if (m->n_unmoved > 0)
		return;
	slab_migrated(d, m);
	m->step = MIGRATE_SAY;
	m->deadline_timer = m->next_deadline_timer;
	evict_plainly(d, m);
	migration_free(d, m);
}

void
migrate_lost(struct remote *r)
{
	struct slab_device *d = r->dev;

	for (uint32_t i = 0; i < MIGRATIONS_MAX; i++) {
		struct migration *m = &d->migrations[i];
		const uint32_t daemon = d->arena.slabs[m->slab].daemon;

		if (m->step == MIGRATE_PLACE && daemon == r->index) {
			m->step = MIGRATE_ORPHAN;
		} else if (m->step == MIGRATE_COPY && daemon == r->index) {
			new_home_lost(d, m);
		} else if (m->step == MIGRATE_COPY && !m->is_old_lost &&
			   m->old.daemon == r->index) {
			old_home_lost(d, m, "is gone");
		} else if ((m->step == MIGRATE_SAY || m->step == MIGRATE_TOLD) &&
			   m->old.daemon == r->index) {
			given_up(d, m);
		}
	}
}

/* Nothing of ours touches the home that is given up: says so. */
static void
say_done(struct slab_device *d, struct migration *m, uint64_t now_ns, uint64_t *next_ns)
{
	struct remote *r = &d->remotes[m->old.daemon];

	if (!evict_say(r, m->request_id, m->slab, m->old.generation, now_ns, next_ns))
		return;
	if (m->request_id == 0) {
		m->step = MIGRATE_TOLD;
		core_timer_arm(&m->deadline_timer, MAP_ANSWER_TIMEOUTS * d->config.op_timeout_ns);
		return;
	}
	evict_count(d, now_ns - m->began_ns);
	given_up(d, m);
}

static void
copy_step(struct slab_device *d, struct migration *m, uint64_t now_ns, uint64_t *next_ns)
{
	if (!m->is_old_lost && core_timer_is_due(&m->deadline_timer, now_ns, next_ns)) {
		d->stats.evictions_late++;
		d->remotes[m->old.daemon].slabs_mapped--;
		old_home_lost(d, m, "takes its memory back");
		return;
	}
	if (core_timer_is_due(&m->next_deadline_timer, now_ns, next_ns)) {
		d->stats.evictions_late++;
		d->remotes[d->arena.slabs[m->slab].daemon].slabs_mapped--;
		new_home_lost(d, m);
		return;
	}
	if (core_timer_is_due(&m->hurry_timer, now_ns, next_ns) || d->is_stopping ||
	    m->next_request_id != 0)
		m->is_hurried = true;
	if (m->is_hurried && m->n_unmoved > 0 && !m->sweep_timer.is_armed) {
		slab_drop_unmoved(d, m);
		core_timer_arm(&m->sweep_timer, SWEEP_NS);
	}
	(void)core_timer_is_due(&m->sweep_timer, now_ns, next_ns);
	if (m->n_unmoved == 0 && (m->is_old_lost || (m->n_ops == 0 && m->n_unsafe == 0)))
		switch_over(d, m);
}

static void
step_any(struct slab_device *d, struct migration *m, uint64_t now_ns, uint64_t *next_ns)
{
	if (m->began_ns == 0)
		m->began_ns = now_ns;
	if (m->step == MIGRATE_PLACE &&
	    (core_timer_is_due(&m->place_timer, now_ns, next_ns) || d->is_stopping)) {
		m->step = MIGRATE_ORPHAN;
		evict_plainly(d, m);
	}
	if (m->step == MIGRATE_PLACE)
		(void)core_timer_is_due(&m->deadline_timer, now_ns, next_ns);
	if (m->step == MIGRATE_COPY)
		copy_step(d, m, now_ns, next_ns);
	if (m->step == MIGRATE_SAY)
		say_done(d, m, now_ns, next_ns);
	if (m->step == MIGRATE_TOLD && core_timer_is_due(&m->deadline_timer, now_ns, next_ns))
		remote_fail(&d->remotes[m->old.daemon], -ETIMEDOUT, "no answer to UNMAP in time");
}

uint64_t
migrate_advance(struct slab_device *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	d->is_evict_due = false;
	for (uint32_t i = 0; i < MIGRATIONS_MAX; i++)
		if (d->migrations[i].step != MIGRATE_NOT)
			step_any(d, &d->migrations[i], now_ns, &next_ns);
	return next_ns;
}
