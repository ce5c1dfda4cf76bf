/* SPDX-License-Identifier: MIT */
/*
 * Random requests against random faults, from seeds, judged by the oracle.
 * `test_device_random SEED` replays one seed; `test_device_random FIRST COUNT` a range.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "slab/core.h"
#include "world.h"

#define STEPS 3000u
#define DEFAULT_SEEDS 150u

struct run {
	struct world *w;
	uint64_t state; /* of the generator */
	uint64_t size_bytes;
	uint64_t hot_bytes; /* requests prefer this much of the front */
	bool backup_faults;
	bool has_backup;
	uint32_t evictions;    /* in 100 steps */
	uint32_t fewer_faults; /* likewise */
	bool is_taken; /* a daemon took memory back without a word: found out at the next access */
	bool mute[WORLD_DAEMONS_MAX];
};

static uint32_t
rnd(struct run *r, uint32_t bound)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return (uint32_t)((r->state * 0x2545f4914f6cdd1du) >> 32) % bound;
}

static uint64_t
random_page(struct run *r)
{
	const uint64_t area = rnd(r, 4) ? r->hot_bytes : r->size_bytes;

	return rnd(r, (uint32_t)(area / PAGE_BYTES));
}

static void
submit_read_or_write(struct run *r, enum backend_kind kind)
{
	const uint64_t page = random_page(r);
	const uint32_t in_block = (uint32_t)(page % BLOCK_PAGES);
	uint64_t offset = page * PAGE_BYTES;
	uint32_t length = PAGE_BYTES;

	if (rnd(r, 3) == 0) {
		length *= 1 + rnd(r, BLOCK_PAGES - in_block);
	} else if (rnd(r, 4) == 0) {
		const uint32_t first = rnd(r, 8);

		offset += first * SECTOR_BYTES;
		length = (1 + rnd(r, 8 - first)) * SECTOR_BYTES;
	}
	(void)world_submit(r->w, kind, kind == BACKEND_WRITE && rnd(r, 20) == 0 ? BACKEND_FUA : 0,
			   offset, length);
}

static void
submit_range(struct run *r)
{
	const enum backend_kind kind = rnd(r, 2) ? BACKEND_TRIM : BACKEND_ZERO;
	const uint64_t page = random_page(r);
	const uint64_t left = r->size_bytes / PAGE_BYTES - page;
	const uint32_t most = left < 300 ? (uint32_t)left : 300;
	uint32_t flags = rnd(r, 5) == 0 ? BACKEND_FUA : 0;

	if (kind == BACKEND_ZERO && rnd(r, 5) == 0)
		flags |= rnd(r, 2) ? BACKEND_FAST_ZERO : BACKEND_NO_HOLE;
	(void)world_submit(r->w, kind, flags, page * PAGE_BYTES, (1 + rnd(r, most)) * PAGE_BYTES);
}

static void
submit_any(struct run *r)
{
	const uint32_t what = rnd(r, 100);

	if (world_pending(r->w) >= 32)
		return;
	if (what < 45)
		submit_read_or_write(r, BACKEND_WRITE);
	else if (what < 92)
		submit_read_or_write(r, BACKEND_READ);
	else if (what < 97)
		submit_range(r);
	else
		(void)world_submit(r->w, BACKEND_FLUSH, 0, 0, 0);
}

/* A slab that a daemon lends, or NULL. */
static struct fake_daemon_slab *
random_lent(struct run *r, uint32_t n_daemons)
{
	struct fake_daemon *f = world_daemon(r->w, rnd(r, n_daemons));
	struct fake_daemon_slab *s = &f->slabs[rnd(r, f->n_slabs)];

	return s->is_granted && !s->is_revoking ? s : NULL;
}

/* The daemon wants it back, takes it as it is, or the device gives it back. */
static void
evict_any(struct run *r, uint32_t n_daemons)
{
	struct fake_daemon_slab *s = random_lent(r, n_daemons);

	if (rnd(r, 3) == 0) {
		(void)slab_evict_begin(world_device(r->w),
				       rnd(r, (uint32_t)(r->size_bytes / SLAB_BYTES_MIN)),
				       rnd(r, 2) ? 0 : 1 + rnd(r, 1000) * NSEC_PER_MSEC);
	} else if (s && rnd(r, 4) == 0) {
		r->is_taken = true;
		fake_daemon_revoke(s);
	} else if (s) {
		fake_daemon_evict(s->daemon, s->slab, 1 + rnd(r, rnd(r, 2) ? 20 : 3000));
	}
}

static void
fault_any(struct run *r, uint32_t n_daemons)
{
	static const int errors[] = {-EIO, -ENOSPC};
	struct fake_daemon *f = world_daemon(r->w, rnd(r, n_daemons));

	switch (rnd(r, 13)) {
	case 0:
		world_daemon_kill(r->w, rnd(r, n_daemons), -ECONNRESET);
		return;
	case 1:
		fake_daemon_set_up(f, rnd(r, 2));
		return;
	case 2:
		f->is_full = rnd(r, 2);
		return;
	case 3:
		fake_net_fail(world_net(r->w), FAKE_OP, rnd(r, 3) ? -ETIMEDOUT : -EACCES);
		return;
	case 4:
		f->lie = rnd(r, 8) ? LIE_NONE : (enum fake_daemon_lie)rnd(r, LIE_HELLO_PONG + 1);
		return;
	case 5:
		if (r->backup_faults)
			fake_backup_fail_writes(world_backup(r->w),
						rnd(r, 2) ? errors[rnd(r, 2)] : 0);
		return;
	case 6:
		fake_net_hold(world_net(r->w), FAKE_OP, rnd(r, 4) == 0);
		return;
	case 7:
		world_pass(r->w, (uint64_t)rnd(r, 3000) * NSEC_PER_MSEC);
		return;
	case 8:
	case 9:
	case 10:
	case 11:
		evict_any(r, n_daemons);
		return;
	default:
		fake_net_fail(world_net(r->w), FAKE_GRANTED, -ENOMEM);
		return;
	}
}

static void
step_any(struct run *r)
{
	struct fake_backup *fb = world_backup(r->w);

	switch (rnd(r, 5)) {
	case 0:
		world_advance(r->w);
		return;
	case 1:
	case 2:
		for (uint32_t n = r->evictions ? 1 + rnd(r, 8) : 1; n > 0; n--)
			(void)fake_net_step_random(world_net(r->w));
		return;
	case 3:
		if (fake_backup_pending(fb) > 0)
			fake_backup_step(fb, rnd(r, fake_backup_pending(fb)));
		return;
	default:
		world_pass(r->w, rnd(r, 1000) * UINT64_C(1000));
		world_put_done(r->w);
		return;
	}
}

/* Everything works again: all is answered, all is right, and stays so after a restart. */
static void
end_well(struct run *r, uint32_t n_daemons)
{
	struct world *w = r->w;
	int status;

	fake_net_hold(world_net(w), FAKE_OP, false);
	fake_backup_fail_writes(world_backup(w), 0);
	for (uint32_t i = 0; i < n_daemons; i++) {
		world_daemon(w, i)->lie = LIE_NONE;
		fake_daemon_set_up(world_daemon(w, i), true);
	}
	for (uint32_t i = 0; i < 60; i++) {
		world_settle(w);
		world_put_done(w);
		world_pass(w, 500 * NSEC_PER_MSEC);
	}
	assert(world_pending(w) == 0);
	if (!r->is_taken)
		world_check_remote(w);
	for (uint64_t at = 0; at < r->size_bytes; at += BLOCK_BYTES)
		if (world_do(w, BACKEND_READ, at, BLOCK_BYTES) < 0)
			assert(world_stats(w).pages_lost > 0);
	world_check_remote(w); /* promotions too */
	world_check_counters(w);
	status = world_stop(w);
	if (!r->has_backup) {
		assert(status == 0 && fake_backup_pending(world_backup(w)) == 0);
		return;
	}
	assert(status == (world_stats(w).pages_lost > 0 ? -EIO : 0));
	assert(world_stats(w).pages_degraded == 0);
	if (world_stats(w).pages_lost == 0)
		world_check_backup(w);
}

static void
run_seed(uint64_t seed)
{
	struct run r = {.state = seed * 0x9e3779b97f4a7c15u + 1};
	struct world_config c = {.seed = seed};

	(void)rnd(&r, 2);
	c.n_slabs = 1 + rnd(&r, 6);
	c.n_daemons = 1 + rnd(&r, WORLD_DAEMONS_MAX);
	c.slabs_per_daemon = 1 + rnd(&r, 4);
	c.ack = rnd(&r, 2) ? SLAB_ACK_REMOTE : SLAB_ACK_BOTH;
	c.refill_rate = rnd(&r, 2) ? 0 : UINT64_C(1) << (16 + rnd(&r, 12));
	c.migrate_rate = rnd(&r, 3) ? UINT64_C(1) << (18 + rnd(&r, 12)) : 0;
	c.can_zero = rnd(&r, 2);
	c.can_discard = rnd(&r, 2);
	c.psk = rnd(&r, 2) ? "a secret of enough length" : NULL;
	c.daemon_psk = c.psk;
	c.has_no_backup = rnd(&r, 4) == 0;
	c.backup_delay_ns = seed % 3 == 0 ? 5 * NSEC_PER_MSEC : 0;
	r.has_backup = !c.has_no_backup;
	r.backup_faults = rnd(&r, 2);
	r.evictions = rnd(&r, 2) ? 0 : 1 + rnd(&r, 4);
	r.fewer_faults = r.evictions ? rnd(&r, 3) : 0;
	r.size_bytes = c.n_slabs * SLAB_BYTES_MIN;
	r.hot_bytes = BLOCK_BYTES * (1 + rnd(&r, 4));
	r.w = world_new(&c);
	if (r.backup_faults || c.has_no_backup)
		world_allow_read_errors(r.w); /* a lost daemon may take the only copy */

	for (uint32_t i = 0; i < STEPS; i++) {
		const uint32_t what = rnd(&r, 100);

		if (what < 30)
			submit_any(&r);
		else if (what < 32 - r.fewer_faults)
			fault_any(&r, c.n_daemons);
		else if (what < 32 + r.evictions)
			evict_any(&r, c.n_daemons);
		else
			step_any(&r);
		world_assert_right(r.w);
		if (i % 64 == 0)
			world_check_counters(r.w);
	}
	end_well(&r, c.n_daemons);
	world_free(r.w);
}

int
main(int argc, char **argv)
{
	const uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	const uint64_t count = argc > 2	  ? strtoull(argv[2], NULL, 10)
			       : argc > 1 ? 1
					  : DEFAULT_SEEDS;

	for (uint64_t seed = first; seed < first + count; seed++) {
		fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		run_seed(seed);
	}
	printf("%llu seeds\n", (unsigned long long)count);
	return 0;
}
