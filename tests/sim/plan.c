/* SPDX-License-Identifier: MIT */
#include "sim/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/page.h"
#include "common/rng.h"
#include "nbd_server/backend.h"

static const char *const fault_names[FAULT_KINDS] = {
	[FAULT_NET_SLOW] = "net-slow",
	[FAULT_NET_STUCK] = "net-stuck",
	[FAULT_NET_IN] = "partition-in",
	[FAULT_NET_OUT] = "partition-out",
	[FAULT_NET_BOTH] = "partition-both",
	[FAULT_CUT] = "connection-reset",
	[FAULT_OP] = "remote-op-fails",
	[FAULT_DAEMON_KILL] = "daemon-killed",
	[FAULT_DAEMON_POWER] = "daemon-power-off",
	[FAULT_DAEMON_STOP] = "daemon-stopped",
	[FAULT_DAEMON_SLOW] = "daemon-slow",
	[FAULT_SERVER_SLOW] = "server-slow",
	[FAULT_CONNECT_REFUSED] = "connect-refused",
	[FAULT_GRANT] = "map-refused",
	[FAULT_GRANT_FAILS] = "grant-fails",
	[FAULT_GRANT_SLOW] = "grant-slow",
	[FAULT_REVOKE_FAILS] = "revoke-fails",
	[FAULT_FILL_FAILS] = "fill-fails",
	[FAULT_ZERO_FAILS] = "zero-fails",
	[FAULT_DISK_WRITE] = "backup-write-error",
	[FAULT_DISK_READ] = "backup-read-error",
	[FAULT_DISK_SYNC] = "backup-sync-error",
	[FAULT_DISK_SLOW] = "backup-slow",
	[FAULT_DISK_STUCK] = "backup-stuck",
	[FAULT_DISK_FULL] = "backup-full",
	[FAULT_BURST] = "buffers-exhausted",
	[FAULT_CRASH] = "server-crash",
	[FAULT_POWER] = "server-power-loss",
	[FAULT_CRASH_AT_ACK] = "crash-at-ack",
	[FAULT_RESTART] = "server-restart",
	[FAULT_PORTAL_ADDED] = "portal-added",
	[FAULT_PORTAL_REMOVED] = "portal-removed",
	[FAULT_PORTAL_BACK] = "portal-removed-and-added",
	[FAULT_MEMORY_SHORT] = "memory-short",
	[FAULT_MEMORY_PRESSURE] = "memory-pressure",
	[FAULT_DRAIN] = "daemon-drained",
	[FAULT_DONE_HELD] = "done-held",
};

const char *
fault_name(enum fault_kind kind)
{
	return fault_names[kind];
}

const char *
sight_name(enum sight_kind kind)
{
	static const char *const names[SIGHT_KINDS] = {
		[SIGHT_EVICTED] = "evicted",
		[SIGHT_FORCED] = "taken-by-force",
		[SIGHT_FORCED_PEER] = "taken-from-foreign-client",
		[SIGHT_GIVEN_BACK] = "given-back",
		[SIGHT_CHOSEN] = "least-active-chosen",
		[SIGHT_LIE] = "answer-that-does-not-fit",
		[SIGHT_MOVED] = "moved",
		[SIGHT_NEW_HOME_LOST] = "new-home-lost",
		[SIGHT_OLD_HOME_LOST] = "old-home-lost",
		[SIGHT_BOTH_HOMES_LOST] = "both-homes-lost",
		[SIGHT_REFILLED] = "pages-refilled",
		[SIGHT_SUSPECT] = "suspect",
		[SIGHT_LEFT] = "drained-and-left",
		[SIGHT_HELD] = "answer-held",
		[SIGHT_MERGED] = "backup-writes-merged",
		[SIGHT_SPLIT] = "merged-write-failed",
		[SIGHT_SUPERSEDED] = "backup-write-superseded",
		[SIGHT_UNQUEUED] = "queued-write-dropped",
		[SIGHT_LOST] = "page-lost",
		[SIGHT_NO_HOME] = "write-without-daemon",
	};

	return names[kind];
}

const char *
op_name(enum op_kind kind)
{
	static const char *const names[] = {"?",    "READ", "WRITE", "FLUSH",
					    "TRIM", "ZERO", "EXTENT"};

	return names[kind];
}

static uint64_t
pick(struct rng *r, const uint32_t *of, uint32_t n, uint64_t unit_ns)
{
	return of[rng_below(r, n)] * unit_ns;
}

#define PICK(r, unit, ...)                                                                         \
	pick(r, (const uint32_t[]){__VA_ARGS__},                                                   \
	     sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), unit)

static void
make_settings(struct plan *p, struct rng *r)
{
	p->n_devices = rng_percent(r, 30) ? 2 : 1;
	p->n_daemons = (uint32_t)PICK(r, 1, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4);
	p->n_peers = p->n_daemons > 0 && rng_percent(r, 35) ? 1 + rng_below(r, SIM_PEERS_MAX) : 0;
	p->n_slabs = (uint32_t)PICK(r, 1, 1, 1, 2, 2, 3, 4);
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++) {
		p->pool_slabs[i] = (uint32_t)PICK(r, 1, 1, 2, 3, 4);
		p->client_slabs[i] = 1 + rng_below(r, p->pool_slabs[i]);
		p->is_rdma[i] = rng_percent(r, 60);
	}
	p->max_clients = rng_percent(r, 10) ? 1 + rng_below(r, 2) : 8;
	p->ack = rng_percent(r, 65) ? SLAB_ACK_REMOTE : SLAB_ACK_BOTH;
	p->can_zero = rng_percent(r, 70);
	p->can_discard = rng_percent(r, 70);
	p->has_psk = rng_percent(r, 15);
	p->op_timeout_ns = PICK(r, NSEC_PER_MSEC, 10, 50, 200, 500, 2000);
	p->connect_timeout_ns = PICK(r, NSEC_PER_MSEC, 10, 100, 500, 2000);
	p->ping_ns = PICK(r, NSEC_PER_MSEC, 50, 100, 250, 500, 500);
	p->retry_ns = PICK(r, NSEC_PER_MSEC, 10, 50, 100, 500);
	p->retry_max_ns = p->retry_ns * PICK(r, 1, 1, 4, 10, 20);
	p->client_timeout_ns = p->ping_ns * 4 + p->op_timeout_ns * 2 + NSEC_PER_SEC;
	p->hello_timeout_ns = PICK(r, NSEC_PER_MSEC, 500, 2000);
	p->net_ns = PICK(r, 1000, 5, 20, 100, 500);
	p->disk_ns = PICK(r, 1000, 20, 100, 1000, 5000, 20000);
	p->lag_ns = PICK(r, 1000, 0, 1, 10, 200);
	p->end_ns = PICK(r, NSEC_PER_MSEC, 5, 20, 100, 400, 1500, 4000);
}

/* Drawn apart, so that what older seeds contain stays what it is. */
static void
make_control(struct plan *p)
{
	struct rng r = rng_of(p->seed, 1000), more = rng_of(p->seed, 1001);

	p->hot_slab = rng_percent(&r, 75) ? 0 : 2 + rng_below(&r, 19);
	p->choices = 1 + rng_below(&more, 4);
	p->cold_slab = rng_percent(&more, 80) ? 0 : 1 + rng_below(&more, 1000);
	p->cold_periods = 1 + rng_below(&more, 3);
	p->has_control = rng_percent(&r, 50);
	p->period_ns = NSEC_PER_SEC;
	p->evict_deadline_ns = NSEC_PER_SEC;
	p->drain_ns = NSEC_PER_SEC;
	p->extra_choices = 2;
	p->probe_ns = p->ping_ns;
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		p->spare_slabs[i] = SIM_POOL_MAX + 2;
	if (!p->has_control)
		return;
	p->refill_rate = PICK(&r, 1024 * 1024, 0, 1, 8, 64, 1024);
	p->period_ns = 2 * NSEC_PER_MSEC + p->end_ns / PICK(&r, 1, 4, 10, 40);
	p->hedge_ns = p->op_timeout_ns * PICK(&r, 1, 0, 1, 2, 5) / 10;
	p->probe_ns = p->ping_ns * PICK(&r, 1, 0, 1, 2, 4) / 2;
	p->control_timeout_ns = p->op_timeout_ns * PICK(&r, 1, 0, 2, 10);
	p->evict_deadline_ns = 1 + p->end_ns / PICK(&r, 1, 1, 4, 20, 100);
	p->evict_deadline_ns += NSEC_PER_MSEC * PICK(&r, 1, 1, 10, 100);
	p->drain_ns = NSEC_PER_MSEC * PICK(&r, 1, 0, 1, 10, 100, 1000);
	p->extra_choices = rng_below(&r, 4);
	p->migrate_rate = PICK(&r, 1024 * 1024, 0, 1, 16, 256);
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		p->spare_slabs[i] = 1 + rng_below(&r, SIM_POOL_MAX + 2);
}

struct making {
	struct plan *p;
	struct rng r;
	uint64_t size_bytes;
	uint64_t hot_bytes;
	uint64_t sequential[SIM_DEVICES_MAX]; /* where a run of requests goes on; 0: none */
	uint32_t write_percent;
	uint32_t partial_percent;
	uint32_t long_percent;
	enum fault_kind kinds[4]; /* of this run; n_kinds 0: all */
	uint32_t n_kinds;
	bool is_close; /* faults follow each other closely */
};

static void
place_op(struct making *m, struct plan_op *o)
{
	struct rng *r = &m->r;
	const uint64_t area = rng_percent(r, 75) ? m->hot_bytes : m->size_bytes;
	uint64_t page = rng_below(r, (uint32_t)(area / PAGE_BYTES));
	uint32_t left, n = 1;

	if (m->sequential[o->device] != 0 && rng_percent(r, 80)) {
		page = m->sequential[o->device] / PAGE_BYTES % (m->size_bytes / PAGE_BYTES);
		n = BLOCK_PAGES;
	} else if (rng_percent(r, m->long_percent)) {
		n = 1 + rng_below(r, rng_percent(r, 25) ? BLOCK_PAGES : 6);
	}
	left = BLOCK_PAGES - (uint32_t)(page % BLOCK_PAGES);
	n = n < left ? n : left;
	o->offset_bytes = page * PAGE_BYTES;
	o->length_bytes = n * PAGE_BYTES;
	m->sequential[o->device] = m->sequential[o->device] != 0 ? (page + n) * PAGE_BYTES + 0 : 0;
	if (m->sequential[o->device] == 0 && rng_percent(r, m->partial_percent)) {
		const uint32_t unit = rng_percent(r, 60) ? 512 : 1;
		const uint32_t first = rng_below(r, PAGE_BYTES / unit);

		o->length_bytes = (1 + rng_below(r, PAGE_BYTES / unit - first)) * unit;
		o->offset_bytes += (uint64_t)first * unit;
	}
}

static void
place_range(struct making *m, struct plan_op *o)
{
	struct rng *r = &m->r;
	const uint32_t pages = (uint32_t)(m->size_bytes / PAGE_BYTES);
	const uint32_t page =
		rng_below(r, rng_percent(r, 70) ? (uint32_t)(m->hot_bytes / PAGE_BYTES) : pages);
	const uint32_t left = pages - page;
	const uint32_t most = rng_percent(r, 80) ? 40 : 300;

	o->offset_bytes = (uint64_t)page * PAGE_BYTES;
	o->length_bytes = (1 + rng_below(r, left < most ? left : most)) * PAGE_BYTES;
	if (o->kind == OP_ZERO && rng_percent(r, 30))
		o->flags |= rng_percent(r, 50) ? BACKEND_FAST_ZERO : BACKEND_NO_HOLE;
}

static void
make_op(struct making *m, struct plan_op *o, uint64_t at_ns)
{
	struct rng *r = &m->r;
	const uint32_t what = rng_below(r, 100);

	*o = (struct plan_op){.at_ns = at_ns, .device = rng_below(r, m->p->n_devices)};
	if (rng_percent(r, m->sequential[o->device] ? 15 : 2))
		m->sequential[o->device] =
			m->sequential[o->device]
				? 0
				: (1 + rng_below(r, (uint32_t)(m->size_bytes / PAGE_BYTES))) *
					  PAGE_BYTES;
	if (what < 5)
		o->kind = OP_FLUSH;
	else if (what < 8)
		o->kind = rng_percent(r, 50) ? OP_TRIM : OP_ZERO;
	else if (what < 10)
		o->kind = OP_EXTENT;
	else
		o->kind = rng_percent(r, m->write_percent) ? OP_WRITE : OP_READ;
	if (o->kind == OP_FLUSH)
		return;
	if (o->kind == OP_TRIM || o->kind == OP_ZERO)
		place_range(m, o);
	else
		place_op(m, o);
	if (o->kind != OP_READ && o->kind != OP_EXTENT && rng_percent(r, 6))
		o->flags |= BACKEND_FUA;
}

/* More block writes at once than there are buffers. */
static void
make_burst(struct making *m, const struct plan_fault *f)
{
	struct plan *p = m->p;
	const uint32_t blocks = (uint32_t)(m->size_bytes / BLOCK_BYTES);

	for (uint32_t i = 0; i < 40 && p->n_ops < SIM_OPS_MAX; i++)
		p->ops[p->n_ops++] = (struct plan_op){
			.at_ns = f->at_ns + i * 1000,
			.device = f->device,
			.kind = rng_percent(&m->r, 85) ? OP_WRITE : OP_READ,
			.offset_bytes = (uint64_t)rng_below(&m->r, blocks) * BLOCK_BYTES,
			.length_bytes = BLOCK_BYTES,
		};
}

/* Two troubles at once find more than two that have nothing to do with each other. */
static void
choose_kinds(struct making *m)
{
	static const enum fault_kind disks[] = {FAULT_DISK_WRITE, FAULT_DISK_WRITE, FAULT_DISK_FULL,
						FAULT_DISK_STUCK};
	static const enum fault_kind losses[] = {FAULT_CUT, FAULT_OP, FAULT_DAEMON_KILL,
						 FAULT_NET_BOTH};
	const uint32_t what = rng_below(&m->r, 100);

	m->is_close = rng_percent(&m->r, 40);
	if (what < 40) {
		m->n_kinds = 0;
	} else if (what < 70) {
		m->n_kinds = 2 + rng_below(&m->r, 3);
		for (uint32_t i = 0; i < m->n_kinds; i++)
			m->kinds[i] = (enum fault_kind)rng_below(&m->r, FAULT_PORTAL_ADDED);
	} else {
		m->n_kinds = 3;
		m->kinds[0] = disks[rng_below(&m->r, 4)];
		m->kinds[1] = FAULT_DISK_WRITE;
		m->kinds[2] = losses[rng_below(&m->r, 4)];
	}
}

static void
make_fault(struct making *m, struct plan_fault *f)
{
	static const uint32_t errors[] = {EIO, EIO, ENOSPC};
	struct plan *p = m->p;
	struct rng *r = &m->r;
	const uint64_t scale[] = {p->end_ns / 8 + 1, p->op_timeout_ns / 2, p->op_timeout_ns * 3};

	f->at_ns = rng_between(r, 0, p->end_ns);
	if (m->is_close && f != p->faults)
		f->at_ns = p->faults[0].at_ns +
			   rng_between(r, 0,
				       rng_percent(r, 50) ? 4 * p->disk_ns : p->op_timeout_ns / 2);
	f->until_ns = f->at_ns + rng_between(r, 1000, 2 * scale[rng_below(r, 3)]);
	f->kind = m->n_kinds > 0 ? m->kinds[rng_below(r, m->n_kinds)]
				 : (enum fault_kind)rng_below(r, FAULT_PORTAL_ADDED);
	f->device = rng_below(r, p->n_devices);
	f->daemon = p->n_daemons > 0 ? rng_below(r, p->n_daemons) : 0;
	f->value = rng_below(r, 1000);
	if (p->n_daemons == 0 && f->kind < FAULT_DISK_WRITE && f->kind != FAULT_SERVER_SLOW)
		f->kind = FAULT_DISK_SLOW;
	if (f->kind >= FAULT_DISK_WRITE && f->kind <= FAULT_DISK_SYNC)
		f->value = errors[f->value % 3];
	if (f->kind == FAULT_POWER)
		p->has_power = true;
	if (f->kind == FAULT_CRASH_AT_ACK && f->value % 2)
		p->has_power = true;
	if (f->kind == FAULT_BURST)
		make_burst(m, f);
}

/* Daemons go while the backup is slow and refuses writes, and the slabs are in use again at once. */
static void
make_storm(struct making *m)
{
	static const enum fault_kind kinds[] = {FAULT_DISK_SLOW, FAULT_DISK_WRITE, FAULT_CUT,
						FAULT_DAEMON_KILL, FAULT_CUT};
	struct plan *p = m->p;
	struct rng *r = &m->r;
	const uint64_t at_ns = rng_between(r, 0, p->end_ns / 2);
	const uint64_t ns = 8 * p->disk_ns + 200 * p->net_ns;
	const uint32_t n_writes = 15 + rng_below(r, 20);

	for (uint32_t i = 0; i < 5 && p->n_faults < SIM_FAULTS_MAX; i++) {
		struct plan_fault *f = &p->faults[p->n_faults++];

		*f = (struct plan_fault){
			.at_ns = at_ns + (i < 2 ? 0 : rng_below(r, (uint32_t)ns)),
			.kind = kinds[i],
			.daemon = rng_below(r, p->n_daemons),
			.value = EIO,
		};
		f->until_ns = i < 2 ? at_ns + 2 * ns : f->at_ns + ns / 8;
	}
	for (uint32_t i = 0; i < n_writes && p->n_ops < SIM_OPS_MAX; i++)
		p->ops[p->n_ops++] = (struct plan_op){
			.at_ns = at_ns + rng_below(r, (uint32_t)ns),
			.kind = rng_percent(r, 85) ? OP_WRITE : OP_READ,
			.offset_bytes =
				rng_below(r, (uint32_t)(m->hot_bytes / PAGE_BYTES)) * PAGE_BYTES,
			.length_bytes = PAGE_BYTES,
		};
}

/*
 * A slab moves from daemon to daemon while its pages are read from the backup.  Operations of an
 * ending connection end late: a promotion may end when its slab is mapped elsewhere.
 */
static void
make_moves(struct making *m)
{
	struct plan *p = m->p;
	struct rng *r = &m->r;
	const uint32_t device = rng_below(r, p->n_devices);
	const uint32_t first = rng_below(r, p->n_daemons);
	const uint64_t at_ns = rng_between(r, 0, p->end_ns / 2);

	/* The copies of a burst of reads are on their way at once, and a daemon comes back soon. */
	p->net_ns = 500 * 1000;
	p->disk_ns = 100 * 1000;
	p->retry_ns = 10 * NSEC_PER_MSEC;
	for (uint32_t round = 0; round < 6 && p->n_faults < SIM_FAULTS_MAX; round++) {
		const uint64_t round_ns = at_ns + round * 60 * p->net_ns;
		const uint64_t cut_ns = round_ns + p->net_ns;
		struct plan_op o = {.at_ns = round_ns, .device = device, .kind = OP_WRITE};

		o.length_bytes = BLOCK_BYTES;
		if (round == 0 && p->n_ops < SIM_OPS_MAX)
			p->ops[p->n_ops++] = o;
		o.length_bytes = PAGE_BYTES;
		for (uint32_t i = 0; i < 22 && p->n_ops < SIM_OPS_MAX; i++) {
			const bool is_read = round > 0 && i < 16;

			o.kind = is_read ? OP_READ : OP_WRITE;
			o.at_ns = is_read ? round_ns + rng_below(r, (uint32_t)p->net_ns)
					  : cut_ns + rng_below(r, 12 * (uint32_t)p->net_ns);
			o.offset_bytes = (rng_below(r, BLOCK_PAGES) + (is_read ? 0 : BLOCK_PAGES)) *
					 PAGE_BYTES;
			p->ops[p->n_ops++] = o;
		}
		p->faults[p->n_faults++] = (struct plan_fault){
			.at_ns = cut_ns + rng_below(r, (uint32_t)p->net_ns),
			.kind = FAULT_CUT,
			.device = device,
			.daemon = (first + round) % p->n_daemons,
		};
	}
}

static void
make_control_fault(struct plan *p, struct rng *r, struct plan_fault *f)
{
	const uint64_t spans_ns[] = {p->end_ns / 8, p->op_timeout_ns * 2, p->period_ns * 3,
				     p->end_ns};

	*f = (struct plan_fault){
		.at_ns = rng_between(r, 0, p->end_ns),
		.kind = (enum fault_kind)(FAULT_PORTAL_ADDED +
					  rng_below(r, FAULT_KINDS - FAULT_PORTAL_ADDED)),
		.device = rng_below(r, p->n_devices),
		.daemon = rng_below(r, p->n_daemons),
		.value = 1 + rng_below(r, 1000),
	};
	f->until_ns = f->at_ns + rng_between(r, 1000, 1000 + spans_ns[rng_below(r, 4)]);
	if (f->kind == FAULT_PORTAL_ADDED || f->kind == FAULT_PORTAL_REMOVED)
		f->until_ns = 2 * p->end_ns + 1; /* never, that is: when all is healed */
	if (f->kind == FAULT_PORTAL_BACK && rng_percent(r, 40))
		f->until_ns = f->at_ns + rng_between(r, 1, 20 * p->net_ns);
}

/* Daemons are lost while the slabs of @shortage are moved away from theirs. */
static void
make_losses(struct plan *p, struct rng *r, const struct plan_fault *shortage)
{
	static const enum fault_kind kinds[] = {FAULT_CUT, FAULT_DAEMON_KILL, FAULT_DAEMON_POWER};
	const uint64_t at_ns =
		shortage->at_ns +
		rng_between(r, 0, p->period_ns + p->evict_deadline_ns / (1 + rng_below(r, 3)));

	for (uint32_t i = rng_below(r, 2); i < p->n_daemons && p->n_faults < SIM_FAULTS_MAX; i++)
		p->faults[p->n_faults++] = (struct plan_fault){
			.at_ns = at_ns + rng_below(r, 4) * p->net_ns,
			.until_ns = at_ns + p->period_ns,
			.kind = kinds[rng_below(r, 3)],
			.device = rng_below(r, p->n_devices),
			.daemon = (shortage->daemon + i) % p->n_daemons,
		};
}

/* So many pages that moving a slab takes a while. */
static void
fill_slabs(struct plan *p, struct rng *r)
{
	const uint32_t device = rng_below(r, p->n_devices);

	p->hot_slab = 0;
	p->evict_deadline_ns = p->end_ns / 2;
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		p->pool_slabs[i] = p->client_slabs[i] = 2;
	p->migrate_rate = 256 * 1024 << rng_below(r, 4);
	for (uint32_t i = 0; i < 24 && p->n_ops < SIM_OPS_MAX; i++)
		p->ops[p->n_ops++] = (struct plan_op){
			.at_ns = i * p->end_ns / 256,
			.device = device,
			.kind = OP_WRITE,
			.offset_bytes = (i % 2) * SIM_SLAB_BYTES + (i / 2 % 8) * BLOCK_BYTES,
			.length_bytes = BLOCK_BYTES,
		};
}

/* Daemons that lend all they have and want some of it back, now and again, while it is used. */
static void
make_evictions(struct plan *p, struct rng *r)
{
	const uint32_t n_ops = 30 + rng_below(r, 60);
	const uint32_t n_faults = 2 + rng_below(r, 5);
	const bool is_foreign = rng_percent(r, 25); /* clients that may keep what they have */
	const bool is_long = p->migrate_rate > 0 && p->n_daemons > 1 && rng_percent(r, 60);

	p->n_slabs = SIM_SLABS_MAX;
	p->end_ns = p->end_ns < 100 * NSEC_PER_MSEC ? 100 * NSEC_PER_MSEC : p->end_ns;
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++) {
		p->pool_slabs[i] = SIM_POOL_MAX;
		p->client_slabs[i] = SIM_POOL_MAX - rng_below(r, 2);
		p->spare_slabs[i] = SIM_POOL_MAX + 2;
	}
	if (is_foreign) {
		p->n_peers = SIM_PEERS_MAX;
		p->evict_deadline_ns = p->end_ns / 8;
	}
	if (is_long)
		fill_slabs(p, r);
	for (uint32_t i = 0; i < n_ops && p->n_ops < SIM_OPS_MAX; i++)
		p->ops[p->n_ops++] = (struct plan_op){
			.at_ns = i < 8 ? i * 1000 : rng_between(r, 0, p->end_ns),
			.device = rng_below(r, p->n_devices),
			.kind = rng_percent(r, 60) ? OP_WRITE : OP_READ,
			.offset_bytes = (i % SIM_SLABS_MAX) * SIM_SLAB_BYTES +
					rng_below(r, 40) * PAGE_BYTES,
			.length_bytes = PAGE_BYTES,
		};
	for (uint32_t i = 0; i < n_faults && p->n_faults < SIM_FAULTS_MAX; i++) {
		struct plan_fault *f = &p->faults[p->n_faults++];

		*f = (struct plan_fault){
			.at_ns = rng_between(r, p->end_ns / 8, p->end_ns),
			.kind = FAULT_MEMORY_SHORT,
			.daemon = rng_below(r, p->n_daemons),
			.value = is_long ? 1 + rng_below(r, 3) : rng_below(r, 3),
		};
		f->until_ns = f->at_ns + rng_between(r, p->period_ns, p->period_ns + p->end_ns / 3);
		if (is_foreign) {
			f->value = SIM_POOL_MAX - 1;
			f->until_ns = 2 * p->end_ns;
		}
		if (rng_percent(r, is_long ? 70 : 20))
			make_losses(p, r, f);
	}
}

/* Apart again, and last. */
static void
make_control_faults(struct plan *p)
{
	struct rng r = rng_of(p->seed, 1001);
	uint32_t n = 1 + rng_below(&r, rng_percent(&r, 70) ? 3 : 9);

	if (!p->has_control || p->n_daemons == 0)
		return;
	if (rng_percent(&r, 25)) {
		make_evictions(p, &r);
		n = rng_percent(&r, 50) ? 0 : n;
	}
	for (; n > 0 && p->n_faults < SIM_FAULTS_MAX; n--)
		make_control_fault(p, &r, &p->faults[p->n_faults++]);
}

/* Few at a time, so that others wait for them and find neighbours and successors. */
static void
make_backup(struct plan *p)
{
	struct rng r = rng_of(p->seed, 1004);

	p->backup_writes = (uint32_t)PICK(&r, 1, 1, 2, 3, 8, 64);
	p->backup_delay_ns = PICK(&r, 0, 0, 1, 5, 20) * NSEC_PER_MSEC;
}

/*
 * More is written at once than the buffers hold without holding answers; then all daemons go, and
 * the backup begins to refuse what it has not got yet.
 */
static void
make_flood(struct plan *p)
{
	struct rng r = rng_of(p->seed, 1005);
	const uint64_t map_ns = rng_between(&r, 0, NSEC_PER_MSEC);
	const uint64_t at_ns = map_ns + 20 * NSEC_PER_MSEC;
	const uint32_t n_blocks = SIM_SLABS_MAX * (uint32_t)(SIM_SLAB_BYTES / BLOCK_BYTES);

	if (p->n_daemons == 0 || !rng_percent(&r, 3) ||
	    p->n_faults + p->n_daemons >= SIM_FAULTS_MAX)
		return;
	p->ack = SLAB_ACK_REMOTE;
	p->is_backup_broken = true;
	p->hot_slab = 0;
	p->n_slabs = SIM_SLABS_MAX;
	p->net_ns = 20 * 1000;
	p->disk_ns = 20 * NSEC_PER_MSEC;
	p->end_ns = p->end_ns < 100 * NSEC_PER_MSEC ? 100 * NSEC_PER_MSEC : p->end_ns;
	for (uint32_t i = 0; i < SIM_DAEMONS_MAX; i++)
		p->pool_slabs[i] = p->client_slabs[i] = SIM_POOL_MAX;
	for (uint32_t i = 0; i < SIM_SLABS_MAX + n_blocks && p->n_ops < SIM_OPS_MAX; i++)
		p->ops[p->n_ops++] = (struct plan_op){
			.at_ns = i < SIM_SLABS_MAX ? map_ns : at_ns + i * 1000,
			.kind = OP_WRITE,
			.offset_bytes = i < SIM_SLABS_MAX
						? i * SIM_SLAB_BYTES
						: (i - SIM_SLABS_MAX) * (uint64_t)BLOCK_BYTES,
			.length_bytes = i < SIM_SLABS_MAX ? PAGE_BYTES : BLOCK_BYTES,
		};
	p->faults[p->n_faults++] = (struct plan_fault){
		.at_ns = at_ns, .until_ns = 2 * p->end_ns, .kind = FAULT_DISK_WRITE, .value = EIO};
	for (uint32_t i = 0; i < p->n_daemons; i++)
		p->faults[p->n_faults++] = (struct plan_fault){
			.at_ns = at_ns + rng_between(&r, 0, 100 * p->net_ns),
			.kind = FAULT_CUT,
			.daemon = i,
		};
}

/* A daemon stands still for so long that it is given up, though its memory works. */
static void
make_hang(struct plan *p)
{
	struct rng r = rng_of(p->seed, 1003);
	struct plan_fault *f = &p->faults[0];

	if (p->n_daemons == 0 || !rng_percent(&r, 8))
		return;
	p->n_faults = p->n_faults > 0 ? p->n_faults : 1;
	p->control_timeout_ns = 2 * p->op_timeout_ns;
	p->probe_ns = p->op_timeout_ns / 2;
	memset(f, 0, sizeof(*f));
	f->kind = FAULT_DAEMON_SLOW;
	f->daemon = rng_below(&r, p->n_daemons);
	f->at_ns = rng_between(&r, 0, p->end_ns);
	f->until_ns = f->at_ns + p->ping_ns + 32 * p->op_timeout_ns;
	p->is_rdma[f->daemon] = true;
}

void
plan_make(struct plan *p, uint64_t seed)
{
	struct making m = {.p = p, .r = rng_of(seed, 1)};
	struct rng own = rng_of(seed, 1006);
	struct rng *r = &m.r;
	uint32_t n_ops, n_faults;

	memset(p, 0, offsetof(struct plan, ops));
	p->seed = seed;
	make_settings(p, r);
	make_control(p);
	make_backup(p);
	m.size_bytes = p->n_slabs * SIM_SLAB_BYTES;
	m.hot_bytes = (uint64_t)PICK(r, PAGE_BYTES, 4, 16, 40, 100);
	m.write_percent = (uint32_t)PICK(r, 1, 30, 50, 70, 90);
	m.partial_percent = (uint32_t)PICK(r, 1, 0, 10, 30);
	m.long_percent = (uint32_t)PICK(r, 1, 3, 10, 30);
	n_ops = 20 + rng_below(r, 140);
	p->n_ops = 0;
	p->n_faults = 0;
	for (uint32_t i = 0; i < n_ops; i++)
		make_op(&m, &p->ops[p->n_ops++], rng_between(r, 0, p->end_ns));
	n_faults = rng_percent(r, 15) ? 0 : 1 + rng_below(r, rng_percent(r, 70) ? 4 : 12);
	p->n_faults = n_faults;
	choose_kinds(&m);
	for (uint32_t i = 0; i < n_faults; i++) {
		memset(&p->faults[i], 0, sizeof(p->faults[i]));
		make_fault(&m, &p->faults[i]);
	}
	if (p->n_daemons > 0 && rng_percent(r, 10))
		make_storm(&m);
	if (p->n_daemons > 1 && rng_percent(r, 8))
		make_moves(&m);
	p->is_backup_broken = rng_percent(r, 15);
	make_control_faults(p);
	make_hang(p);
	make_flood(p);
	/* Of its own, so that a seed is what it was. */
	p->has_no_backup = rng_percent(&own, 15);
	if (p->has_no_backup) {
		p->is_backup_broken = false;
		p->ack = SLAB_ACK_REMOTE;
	}
}

void
plan_print(const struct plan *p, FILE *out)
{
	fprintf(out,
		"settings: %u devices of %u MiB, %u daemons, %u foreign clients, ack %s, zero %d, "
		"discard %d, psk %d, op_timeout %" PRIu64 " ms, connect_timeout %" PRIu64
		" ms, ping %" PRIu64 " ms, retry %" PRIu64 " to %" PRIu64 " ms, net %" PRIu64
		" us, disk %" PRIu64 " us, lag %" PRIu64
		" us, no backup %d, broken backup %d, hot_slab %u, choices %u\n"
		"control %d: refill %" PRIu64 ", migrate %" PRIu64 " MiB/s, period %" PRIu64
		" us, hedge %" PRIu64 " us, probe %" PRIu64 " us, control_timeout %" PRIu64
		" ms, evict deadline %" PRIu64 " us, drain %" PRIu64 " ms, extra choices %u\n",
		p->n_devices, p->n_slabs, p->n_daemons, p->n_peers,
		p->ack == SLAB_ACK_REMOTE ? "remote" : "both", p->can_zero, p->can_discard,
		p->has_psk, p->op_timeout_ns / NSEC_PER_MSEC, p->connect_timeout_ns / NSEC_PER_MSEC,
		p->ping_ns / NSEC_PER_MSEC, p->retry_ns / NSEC_PER_MSEC,
		p->retry_max_ns / NSEC_PER_MSEC, p->net_ns / 1000, p->disk_ns / 1000,
		p->lag_ns / 1000, p->has_no_backup, p->is_backup_broken, p->hot_slab, p->choices,
		p->has_control, p->refill_rate >> 20, p->migrate_rate >> 20, p->period_ns / 1000,
		p->hedge_ns / 1000, p->probe_ns / 1000, p->control_timeout_ns / NSEC_PER_MSEC,
		p->evict_deadline_ns / 1000, p->drain_ns / NSEC_PER_MSEC, p->extra_choices);
	fprintf(out,
		"cold_slab %u for %u periods, %u backup writes at a time, after %" PRIu64 " ms\n",
		p->cold_slab, p->cold_periods, p->backup_writes,
		p->backup_delay_ns / NSEC_PER_MSEC);
	for (uint32_t i = 0; i < p->n_daemons; i++)
		fprintf(out, "daemon %u: %u slabs, %u a client, %u fit, like %s\n", i,
			p->pool_slabs[i], p->client_slabs[i], p->spare_slabs[i],
			p->is_rdma[i] ? "rdma" : "tcp");
	for (uint32_t i = 0; i < p->n_faults; i++)
		if (!p->faults[i].is_dropped)
			fprintf(out, "fault %u: %.6f to %.6f %s, device %u, daemon %u, value %u\n",
				i, (double)p->faults[i].at_ns / 1e9,
				(double)p->faults[i].until_ns / 1e9, fault_name(p->faults[i].kind),
				p->faults[i].device, p->faults[i].daemon, p->faults[i].value);
}
