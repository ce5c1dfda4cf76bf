/* SPDX-License-Identifier: MIT */
#include "sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/page.h"
#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/pattern.h"
#include "sim/sum.h"
#include "sim/world.h"
#include "slab/core.h"

struct disk_op {
	struct sim_event ev;
	struct list node;
	struct sim_disk *disk;
	struct backup_op *op;
	uint64_t sum;
	uint64_t ticks; /* SYNC: disk->ticks at submit */
};

struct sim_undo {
	struct sim_undo *older;
	uint64_t tick; /* of the write that replaced these bytes */
	uint8_t bytes[PAGE_BYTES];
};

static void
op_pages(const struct backup_op *op, uint32_t *ret_first, uint32_t *ret_stop)
{
	*ret_first = (uint32_t)(op->offset_bytes / PAGE_BYTES);
	*ret_stop = *ret_first + (uint32_t)(op->length_bytes / PAGE_BYTES);
}

static bool
is_read(const struct backup_op *op)
{
	return op->kind == BACKUP_OP_READ;
}

/* Each page by itself: of a WRITE they may lie apart. */
static uint64_t
sum_of(const struct backup_op *op)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < op->length_bytes; at += PAGE_BYTES)
		sum = sum * 31 + sim_sum(backup_op_page(op, at), PAGE_BYTES);
	return sum;
}

static bool
has_buffers(const struct backup_op *op)
{
	return op->buf != NULL; /* or parts */
}

static void
buffers_use(struct sim_disk *d, const struct backup_op *op)
{
	for (uint64_t at = 0; has_buffers(op) && at < op->length_bytes; at += PAGE_BYTES)
		oracle_buffer_use(d->sim, d->host, backup_op_page(op, at), PAGE_BYTES, is_read(op));
}

static void
buffers_free(struct sim_disk *d, const struct backup_op *op)
{
	for (uint64_t at = 0; has_buffers(op) && at < op->length_bytes; at += PAGE_BYTES)
		oracle_buffer_free(d->sim, d->host, backup_op_page(op, at), PAGE_BYTES,
				   is_read(op));
}

static void
claim(struct sim_disk *d, const struct backup_op *op)
{
	uint32_t page, stop;

	for (op_pages(op, &page, &stop); page < stop; page++) {
		struct sim_disk_page *p = &d->pages[page];

		if (p->has_writer || (!is_read(op) && p->n_readers > 0))
			sim_fail(CONTRACT,
				 "two backup operations on page %u at once, one of them writes",
				 page);
		if (is_read(op))
			p->n_readers++;
		else
			p->has_writer = true;
	}
}

static void
release(struct sim_disk *d, const struct backup_op *op)
{
	uint32_t page, stop;

	for (op_pages(op, &page, &stop); page < stop; page++) {
		if (is_read(op))
			d->pages[page].n_readers--;
		else
			d->pages[page].has_writer = false;
	}
}

/* Before the bytes of @page change. */
static void
keep_undo(struct sim_disk *d, uint32_t page)
{
	struct sim_disk_page *p = &d->pages[page];
	struct sim_undo *u;

	p->is_touched = true;
	p->written_at = d->ticks;
	if (!d->sim->plan.has_power)
		return;
	u = guard_alloc(sizeof(*u));
	u->older = p->undos;
	u->tick = d->ticks;
	memcpy(u->bytes, d->bytes + (size_t)page * PAGE_BYTES, PAGE_BYTES);
	p->undos = u;
}

static void
drop_undos(struct sim_disk_page *p, uint64_t up_to_tick)
{
	struct sim_undo **link = &p->undos;

	while (*link && (*link)->tick > up_to_tick)
		link = &(*link)->older;
	while (*link) {
		struct sim_undo *u = *link;

		*link = u->older;
		free(u);
	}
}

/* What a discarded page holds: what it held, zeros, or anything. */
static void
discard_page(struct sim_disk *d, uint32_t page)
{
	uint8_t *bytes = d->bytes + (size_t)page * PAGE_BYTES;
	const uint32_t what = rng_below(&d->sim->rng, 3);

	keep_undo(d, page);
	if (what == 0)
		memset(bytes, 0, PAGE_BYTES);
	else if (what == 1)
		pattern_fill(bytes, SIM_JUNK_VERSION, (uint64_t)page * PAGE_BYTES, PAGE_BYTES);
	d->pages[page].is_allocated = false;
}

/* Carries out the first @n_bytes of it. */
static void
change_bytes(struct sim_disk *d, const struct backup_op *op, uint64_t n_bytes)
{
	uint32_t page, stop;

	op_pages(op, &page, &stop);
	for (uint64_t at = 0; page < stop && at < n_bytes; page++, at += PAGE_BYTES) {
		uint8_t *bytes = d->bytes + (size_t)page * PAGE_BYTES;
		const uint64_t n = n_bytes - at < PAGE_BYTES ? n_bytes - at : PAGE_BYTES;

		if (op->kind == BACKUP_OP_DISCARD) {
			discard_page(d, page);
			continue;
		}
		keep_undo(d, page);
		if (op->kind == BACKUP_OP_WRITE)
			memcpy(bytes, backup_op_page(op, at), n);
		else
			memset(bytes, 0, n);
		d->pages[page].is_allocated = op->kind == BACKUP_OP_WRITE;
	}
}

static bool
needs_space(const struct sim_disk *d, const struct backup_op *op)
{
	uint32_t page, stop;

	for (op_pages(op, &page, &stop); page < stop; page++)
		if (!d->pages[page].is_allocated)
			return true;
	return false;
}

static int
write_status(struct sim_disk *d, const struct backup_op *op)
{
	struct sim *sim = d->sim;

	if ((op->kind == BACKUP_OP_ZERO && !sim->plan.can_zero) ||
	    (op->kind == BACKUP_OP_DISCARD && !sim->plan.can_discard))
		return -EOPNOTSUPP;
	if (d->fail_writes_ns > sim_now(sim) &&
	    (sim->plan.is_backup_broken || rng_percent(&sim->rng, d->fail_percent))) {
		sim->counts[FAULT_DISK_WRITE]++;
		return d->write_error;
	}
	if (d->full_until_ns > sim_now(sim) && op->kind == BACKUP_OP_WRITE && needs_space(d, op)) {
		sim->counts[FAULT_DISK_FULL]++;
		return -ENOSPC;
	}
	return 0;
}

/* After @op failed nothing of @page on the backup counts: a part of it may be there. */
static bool
is_spoilt(const struct sim_disk *d, const struct backup_op *op, uint32_t page)
{
	const struct arena *a = &d->sim->devices[d->index].dev->arena;

	if (op->kind == BACKUP_OP_WRITE)
		return true;
	/* What has no other copy is still served from there. */
	return op->kind == BACKUP_OP_ZERO &&
	       (a->blocks[page / BLOCK_PAGES].remote & 1u << page % BLOCK_PAGES) != 0;
}

static int
carry_out_write(struct sim_disk *d, const struct backup_op *op)
{
	struct sim *sim = d->sim;
	const int status = write_status(d, op);
	uint32_t page, stop;

	if (status == -EOPNOTSUPP)
		return status;
	if (status == 0)
		change_bytes(d, op, op->length_bytes);
	else if (rng_percent(&sim->rng, 30))
		change_bytes(d, op, rng_below(&sim->rng, (uint32_t)op->length_bytes / 512) * 512);
	for (op_pages(op, &page, &stop); page < stop; page++) {
		struct sim_disk_page *p = &d->pages[page];
		const bool is_bad = status < 0 && is_spoilt(d, op, page);

		if (status < 0 || p->is_bad) {
			p->error_ns = sim_now(sim);
			d->error_ns = sim_now(sim);
		}
		d->n_bad += is_bad ? 1 : 0;
		d->n_bad -= p->is_bad ? 1 : 0;
		p->is_bad = is_bad;
	}
	return status;
}

static int
carry_out_read(struct sim_disk *d, const struct backup_op *op)
{
	struct sim *sim = d->sim;
	uint32_t page, stop;

	if (d->fail_reads_ns > sim_now(sim) && rng_percent(&sim->rng, d->fail_percent)) {
		sim->counts[FAULT_DISK_READ]++;
		for (op_pages(op, &page, &stop); page < stop; page++)
			d->pages[page].error_ns = sim_now(sim);
		memset(op->buf, 0xdb, op->length_bytes);
		return -EIO;
	}
	memcpy(op->buf, d->bytes + op->offset_bytes, op->length_bytes);
	return 0;
}

static int
carry_out_sync(struct sim_disk *d, uint64_t ticks)
{
	struct sim *sim = d->sim;

	if (d->fail_syncs_ns > sim_now(sim)) {
		sim->counts[FAULT_DISK_SYNC]++;
		d->sync_error_ns = sim_now(sim);
		return -EIO;
	}
	if (ticks > d->synced_at)
		d->synced_at = ticks;
	for (uint32_t i = 0; sim->plan.has_power && i < d->n_pages; i++)
		drop_undos(&d->pages[i], d->synced_at);
	return 0;
}

static void
op_cb(struct sim_event *ev)
{
	struct disk_op *o = container_of(ev, struct disk_op, ev);
	struct sim_disk *d = o->disk;
	struct backup_op *op = o->op;
	const uint64_t ticks = o->ticks;
	int status;

	if (d->stuck_until_ns > sim_now(d->sim)) {
		d->sim->counts[FAULT_DISK_STUCK]++;
		sim_clock_at(&d->sim->clock, ev, d->stuck_until_ns);
		return;
	}
	if (sim_host_is_late(d->host, ev))
		return;
	if (op->kind == BACKUP_OP_WRITE && sum_of(op) != o->sum)
		sim_fail(DEVICE_3, "the buffer of a backup write changed while it was under way");
	list_del(&o->node);
	free(o);
	d->ticks++;
	if (op->kind == BACKUP_OP_SYNC)
		status = carry_out_sync(d, ticks);
	else if (op->kind == BACKUP_OP_READ)
		status = carry_out_read(d, op);
	else
		status = carry_out_write(d, op);
	release(d, op);
	buffers_free(d, op);
	guard_enter();
	op->done(op, status);
	guard_leave();
	sim_host_touch(d->host);
}

static void
check_parts(const struct backup_op *op)
{
	uint64_t bytes = 0;

	assert(op->kind == BACKUP_OP_WRITE && op->n_parts > 1 && op->n_parts <= BACKUP_PARTS_MAX);
	for (uint32_t i = 0; i < op->n_parts; i++) {
		assert(op->parts[i].iov_len > 0 && op->parts[i].iov_len % PAGE_BYTES == 0 &&
		       op->parts[i].iov_len <= BLOCK_BYTES);
		bytes += op->parts[i].iov_len;
	}
	assert(bytes == op->length_bytes);
}

static void
check_op(const struct sim_disk *d, const struct backup_op *op)
{
	assert(op->done);
	assert(op->offset_bytes % PAGE_BYTES == 0 && op->length_bytes % PAGE_BYTES == 0);
	assert(op->offset_bytes + op->length_bytes <= d->size_bytes);
	assert(op->kind == BACKUP_OP_SYNC || op->length_bytes > 0);
	if (op->n_parts > 0)
		check_parts(op);
	else if (op->kind == BACKUP_OP_READ || op->kind == BACKUP_OP_WRITE)
		assert(op->buf && op->length_bytes <= BLOCK_BYTES);
}

static void
submit_cb(struct backup *b, struct backup_op *op)
{
	struct sim_disk *d = container_of(b, struct sim_disk, backup);
	struct sim *sim = d->sim;
	struct disk_op *o = guard_alloc(sizeof(*o));
	uint64_t ns = rng_between(&sim->rng, sim->plan.disk_ns / 8, sim->plan.disk_ns);

	check_op(d, op);
	claim(d, op);
	if (op->kind != BACKUP_OP_READ && op->kind != BACKUP_OP_WRITE)
		op->buf = NULL;
	buffers_use(d, op);
	o->ev.fire = op_cb;
	o->disk = d;
	o->op = op;
	o->ticks = d->ticks;
	if (op->kind == BACKUP_OP_WRITE) {
		o->sum = sum_of(op);
		oracle_backup_write(sim, d->index, op);
	}
	if (d->slow_until_ns > sim_now(sim)) {
		sim->counts[FAULT_DISK_SLOW]++;
		ns += rng_between(&sim->rng, 0, d->slow_ns);
	}
	list_add_tail(&d->ops, &o->node);
	sim_clock_at(&sim->clock, &o->ev, sim_now(sim) + ns);
}

static bool
next_data_cb(struct backup *b, uint64_t offset, uint64_t *ret_start, uint64_t *ret_end)
{
	const struct sim_disk *d = container_of(b, struct sim_disk, backup);

	for (uint32_t page = (uint32_t)(offset / PAGE_BYTES); page < d->n_pages; page++) {
		if (!d->pages[page].is_touched)
			continue;
		*ret_start = (uint64_t)page * PAGE_BYTES;
		*ret_end = *ret_start + PAGE_BYTES;
		return true;
	}
	return false;
}

static const struct backup_ops sim_backup_ops = {
	.submit = submit_cb,
	.next_data = next_data_cb,
};

void
sim_disk_reset(struct sim_disk *d, struct sim *sim, struct sim_host *host, uint32_t index,
	       uint64_t size_bytes)
{
	uint8_t *bytes = d->bytes;

	assert(size_bytes <= SIM_DISK_PAGES_MAX * PAGE_BYTES);
	if (!bytes)
		bytes = guard_alloc(SIM_DISK_PAGES_MAX * PAGE_BYTES);
	for (uint32_t i = 0; i < d->n_pages; i++)
		if (d->pages[i].is_touched)
			memset(bytes + (size_t)i * PAGE_BYTES, 0, PAGE_BYTES);
	memset(d, 0, sizeof(*d));
	d->backup.ops = &sim_backup_ops;
	d->sim = sim;
	d->host = host;
	d->index = index;
	d->size_bytes = size_bytes;
	d->n_pages = (uint32_t)(size_bytes / PAGE_BYTES);
	d->bytes = bytes;
	list_init(&d->ops);
}

static void
lose_unsynced(struct sim_disk *d)
{
	for (uint32_t i = 0; i < d->n_pages; i++) {
		struct sim_disk_page *p = &d->pages[i];

		while (p->undos && rng_percent(&d->sim->rng, 60)) {
			struct sim_undo *u = p->undos;

			memcpy(d->bytes + (size_t)i * PAGE_BYTES, u->bytes, PAGE_BYTES);
			p->undos = u->older;
			free(u);
		}
	}
}

void
sim_disk_crash(struct sim_disk *d, bool is_power)
{
	struct rng *r = &d->sim->rng;
	struct list *node;

	while ((node = list_pop_head(&d->ops)) != NULL) {
		struct disk_op *o = container_of(node, struct disk_op, node);
		const struct backup_op *op = o->op;
		const uint32_t how = rng_below(r, 3);

		sim_clock_cancel(&d->sim->clock, &o->ev);
		d->ticks++;
		if (op->kind != BACKUP_OP_SYNC && !is_read(op) &&
		    !(op->kind == BACKUP_OP_ZERO && !d->sim->plan.can_zero) &&
		    !(op->kind == BACKUP_OP_DISCARD && !d->sim->plan.can_discard)) {
			if (how == 0)
				change_bytes(d, op, op->length_bytes);
			else if (how == 1)
				change_bytes(d, op,
					     rng_below(r, (uint32_t)(op->length_bytes / 512)) *
						     512);
		}
		release(d, op);
		buffers_free(d, op);
		free(o);
	}
	if (is_power)
		lose_unsynced(d);
	sim_disk_settle(d);
}

void
sim_disk_settle(struct sim_disk *d)
{
	d->synced_at = d->ticks;
	d->n_bad = 0;
	for (uint32_t i = 0; i < d->n_pages; i++) {
		drop_undos(&d->pages[i], UINT64_MAX);
		d->pages[i].is_bad = false;
	}
}

void
sim_disk_heal(struct sim_disk *d)
{
	if (!d->sim->plan.is_backup_broken)
		d->fail_writes_ns = 0;
	d->fail_reads_ns = 0;
	d->fail_syncs_ns = 0;
	d->slow_until_ns = 0;
	d->full_until_ns = 0;
	if (d->stuck_until_ns > sim_now(d->sim))
		d->stuck_until_ns = 0;
}

void
sim_disk_end(struct sim_disk *d)
{
	struct list *node;

	while ((node = list_pop_head(&d->ops)) != NULL) {
		sim_clock_cancel(&d->sim->clock, &container_of(node, struct disk_op, node)->ev);
		free(container_of(node, struct disk_op, node));
	}
	for (uint32_t i = 0; i < d->n_pages; i++)
		drop_undos(&d->pages[i], UINT64_MAX);
}
