/* SPDX-License-Identifier: MIT */
/*
 * Happy path: pages complete, or every probe_ns a READ of the epoch does; PONGs come.
 *
 * Failure modes:
 *   - nothing completes for hedge_ns: suspect, until something does; for op_timeout_ns:
 *     the daemon is lost (remote.c for pages, here for a probe).
 *   - another epoch: this is not the memory that we were given; the daemon is lost.
 *   - no PONG: if the memory has shown life since the PING, control dead.  If it has not,
 *     what is under way to it decides, and if there is nothing a probe is sent for that.
 *     Without an epoch page, or without slabs there, the daemon is lost.
 */
#include "slab/health.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "slab/core.h"
#include "wire/bytes.h"

int
health_init(struct slab_device *d, uint32_t n_remotes)
{
	const uint64_t n = (uint64_t)n_remotes * HEALTH_WORD_BYTES;
	uint32_t page;

	if (n == 0)
		return 0;
	/* Of more daemons than words fit in a block, those behind them are not probed. */
	d->n_health_pages =
		n < BLOCK_BYTES ? (uint32_t)((n + PAGE_BYTES - 1) / PAGE_BYTES) : BLOCK_PAGES;
	d->n_health_pages = 1u << buffer_order(d->n_health_pages);
	page = buffer_get(&d->pool, buffer_order(d->n_health_pages));
	if (page == BUFFER_NONE)
		return -ENOMEM;
	d->health_words = d->arena.buffers + (size_t)page * PAGE_BYTES;
	return 0;
}

static uint8_t *
word_of(const struct remote *r)
{
	return r->dev->health_words + (size_t)r->index * HEALTH_WORD_BYTES;
}

static void
probe_timer_arm(struct remote *r)
{
	if (r->dev->config.probe_ns > 0)
		core_timer_arm(&r->health.probe_timer, r->dev->config.probe_ns);
}

static bool
is_under_way(const struct remote *r)
{
	return r->health.is_probing || !list_is_empty(&r->ops);
}

static void
control_dead(struct remote *r)
{
	struct remote_health *h = &r->health;
	const uint64_t ns = r->dev->config.control_timeout_ns;

	h->is_control_dead = true;
	core_timer_arm(&h->control_timer, ns);
	device_event(r->dev, SLAB_EVENT_WARN,
		     "daemon %s: does not answer PING, but its memory can be reached: its %u slabs "
		     "are used for %" PRIu64 " ms more, no new ones are mapped there",
		     r->address, r->slabs_mapped, ns / NSEC_PER_MSEC);
}

void
health_sign(struct remote *r)
{
	struct remote_health *h = &r->health;

	if (r->state != REMOTE_UP)
		return;
	if (h->is_suspect)
		placement_hope(r->dev);
	h->has_sign = true;
	h->is_suspect = false;
	h->silent_ns = 0;
	probe_timer_arm(r);
	if (h->is_pong_overdue && !h->is_control_dead)
		control_dead(r);
}

static void
probe_done_cb(struct tp_op *op, int status)
{
	struct remote *r = container_of(op, struct remote, health.probe_op);

	r->health.is_probing = false;
	remote_touch(r);
	if (status == -ECANCELED)
		remote_fail(r, -ECONNRESET, "connection lost");
	else if (status < 0)
		remote_fail(r, status, "its epoch cannot be read");
	else if (r->state == REMOTE_UP && get_le64(word_of(r)) != r->health.epoch)
		remote_fail(r, -ESTALE, "its epoch is another one");
	else
		health_sign(r);
}

/* False: this daemon cannot be probed. */
static bool
probe(struct remote *r)
{
	struct remote_health *h = &r->health;

	if (h->is_probing)
		return true;
	if ((h->epoch_addr == 0 && h->epoch_rkey == 0) || r->dev->config.probe_ns == 0 ||
	    (r->index + 1) * HEALTH_WORD_BYTES > r->dev->n_health_pages * PAGE_BYTES)
		return false;
	h->is_probing = true;
	h->probe_posted_ns = 0;
	h->probe_op = (struct tp_op){
		.kind = TP_OP_READ,
		.length_bytes = HEALTH_WORD_BYTES,
		.region = r->buffers,
		.buf = word_of(r),
		.remote_addr = h->epoch_addr,
		.rkey = h->epoch_rkey,
		.done = probe_done_cb,
	};
	r->dev->stats.probes++;
	tp_post(r->conn, &h->probe_op);
	return true;
}

void
health_begin(struct remote *r, const struct ctl_welcome *welcome)
{
	assert(!r->health.is_probing);
	r->health = (struct remote_health){
		.epoch = welcome->epoch,
		.epoch_addr = welcome->epoch_addr,
		.epoch_rkey = welcome->epoch_rkey,
	};
	probe_timer_arm(r);
}

void
health_end(struct remote *r)
{
	struct remote_health *h = &r->health;

	core_timer_stop(&h->probe_timer);
	core_timer_stop(&h->late_timer);
	core_timer_stop(&h->control_timer);
	h->is_suspect = false;
	h->is_control_dead = false;
	h->is_pong_overdue = false;
}

void
health_ping(struct remote *r)
{
	r->health.has_sign = false;
	if (r->dev->config.hedge_ns > 0)
		core_timer_arm(&r->health.late_timer, r->dev->config.hedge_ns);
}

void
health_pong(struct remote *r)
{
	struct remote_health *h = &r->health;

	core_timer_stop(&h->late_timer);
	core_timer_stop(&h->control_timer);
	if (h->is_pong_overdue)
		placement_hope(r->dev);
	h->is_pong_overdue = false;
	if (!h->is_control_dead)
		return;
	h->is_control_dead = false;
	device_event(r->dev, SLAB_EVENT_NOTICE, "daemon %s: answers PING again", r->address);
}

bool
health_outlives_ping(struct remote *r)
{
	struct remote_health *h = &r->health;

	if (r->dev->config.control_timeout_ns == 0 || r->slabs_mapped == 0)
		return false;
	if (h->has_sign) {
		h->is_pong_overdue = true;
		control_dead(r);
		return true;
	}
	h->is_pong_overdue = is_under_way(r) || probe(r);
	return h->is_pong_overdue;
}

static void
suspect_advance(struct remote *r, uint64_t now_ns, uint64_t *next_ns)
{
	struct remote_health *h = &r->health;
	const uint64_t hedge_ns = r->dev->config.hedge_ns;

	if (!is_under_way(r)) {
		h->silent_ns = 0;
		return;
	}
	if (h->silent_ns == 0)
		h->silent_ns = now_ns;
	if (h->is_suspect || hedge_ns == 0)
		return;
	if (h->silent_ns + hedge_ns > now_ns) {
		*next_ns = h->silent_ns + hedge_ns < *next_ns ? h->silent_ns + hedge_ns : *next_ns;
		return;
	}
	h->is_suspect = true;
	r->dev->stats.suspicions++;
	/* What is under way may be lost alone; this tells that from a dead daemon. */
	(void)probe(r);
}

/* True: the daemon is lost. */
static bool
probe_overdue(struct remote *r, uint64_t now_ns, uint64_t *next_ns)
{
	struct remote_health *h = &r->health;
	const uint64_t timeout_ns = r->dev->config.op_timeout_ns;
	uint64_t deadline_ns, age_ns;

	if (!h->is_probing)
		return false;
	if (h->probe_posted_ns == 0)
		h->probe_posted_ns = now_ns;
	/* Behind pages of a slow link it waits for its turn; as long as they complete it may. */
	deadline_ns = h->probe_posted_ns > h->silent_ns ? h->probe_posted_ns : h->silent_ns;
	deadline_ns += timeout_ns;
	age_ns = h->probe_posted_ns + OP_AGE_TIMEOUTS * timeout_ns;
	deadline_ns = age_ns < deadline_ns ? age_ns : deadline_ns;
	if (deadline_ns <= now_ns)
		return true;
	*next_ns = deadline_ns < *next_ns ? deadline_ns : *next_ns;
	return false;
}

void
health_advance(struct remote *r, uint64_t now_ns, uint64_t *next_ns)
{
	struct remote_health *h = &r->health;

	if (r->state != REMOTE_UP)
		return;
	if (core_timer_is_due(&h->late_timer, now_ns, next_ns) && r->slabs_mapped > 0 &&
	    !h->has_sign && !is_under_way(r))
		(void)probe(r);
	if (r->slabs_mapped > 0 && core_timer_is_due(&h->probe_timer, now_ns, next_ns)) {
		if (!is_under_way(r))
			(void)probe(r);
		probe_timer_arm(r);
		(void)core_timer_is_due(&h->probe_timer, now_ns, next_ns);
	}
	suspect_advance(r, now_ns, next_ns);
	if (probe_overdue(r, now_ns, next_ns))
		remote_fail(r, -ETIMEDOUT, "its epoch could not be read in time");
	else if (core_timer_is_due(&h->control_timer, now_ns, next_ns))
		remote_fail(r, -ETIMEDOUT, "no answer to PING for too long");
}

enum slab_daemon_state
health_state(const struct remote *r)
{
	if (r->state != REMOTE_UP)
		return SLAB_DAEMON_DOWN;
	if (r->health.is_control_dead)
		return SLAB_DAEMON_CONTROL_DEAD;
	return r->health.is_suspect ? SLAB_DAEMON_SUSPECT : SLAB_DAEMON_UP;
}

bool
health_may_map(const struct remote *r)
{
	return !r->health.is_control_dead && !r->health.is_pong_overdue && !r->health.is_suspect;
}

bool
health_is_avoided(const struct remote *r)
{
	return r->health.is_suspect;
}
