/* SPDX-License-Identifier: MIT */
/*
 * The core's turn: run what became ready, answer what is done, do what is due;
 * and the clean end.
 */
#include "slab/device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slab/core.h"

/* Entries run and answers given per advance; the rest waits for the next turn. */
#define ADVANCE_BUDGET 1024u

static struct slab_device *
device_of(struct backend *be)
{
	return container_of(be, struct slab_device, backend);
}

void
device_event(struct slab_device *d, enum slab_event_level level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->config.event(d->config.arg, level, text);
}

uint64_t
device_now(const struct slab_device *d)
{
	return d->config.now ? d->config.now(d->config.arg) : d->now_ns;
}

void
device_posted(const struct slab_device *d, struct backend_io *io)
{
	if (io->posted_ns == 0)
		io->posted_ns = device_now(d);
}

static struct backend_io *
backend_get_cb(struct backend *be, enum backend_kind kind, uint64_t offset, uint32_t length)
{
	return pieces_get(device_of(be), kind, offset, length);
}

static void
backend_submit_cb(struct backend *be, struct backend_io *io)
{
	device_of(be)->backup_queue.was_fed = true;
	switch (io->kind) {
	case BACKEND_READ:
		read_submit(container_of(io, struct piece, io));
		return;
	case BACKEND_WRITE:
		write_submit(container_of(io, struct piece, io));
		return;
	case BACKEND_TRIM:
	case BACKEND_ZERO:
		range_submit(container_of(io, struct range, io));
		return;
	case BACKEND_FLUSH:
		flush_submit(container_of(io, struct flush, io));
		return;
	}
}

static void
backend_put_cb(struct backend *be, struct backend_io *io)
{
	pieces_put(device_of(be), io);
}

static void
backend_set_resume_cb(struct backend *be, void (*resume)(void *arg), void *arg)
{
	struct slab_device *d = device_of(be);

	d->resume = resume;
	d->resume_arg = arg;
}

static bool
page_is_zero(const struct slab_device *d, uint64_t page)
{
	const uint32_t block = (uint32_t)(page / BLOCK_PAGES);
	const uint32_t bit = 1u << page % BLOCK_PAGES;
	const struct arena_block *b = &d->arena.blocks[block];

	if ((b->remote | b->backup) & bit)
		return false;
	return (order_unsafe_pages(&d->order, block, NULL) & bit) == 0;
}

static struct backend_extent
backend_extent_cb(struct backend *be, uint64_t offset_bytes, uint64_t length_bytes)
{
	const struct slab_device *d = device_of(be);
	const uint64_t first = offset_bytes >> PAGE_SHIFT;
	const uint64_t last = (offset_bytes + length_bytes - 1) >> PAGE_SHIFT;
	const uint64_t stop = last - first < 65536 ? last : first + 65535;
	const bool is_zero = page_is_zero(d, first);
	uint64_t page = first + 1, end;

	assert(length_bytes > 0);
	while (page <= stop && page_is_zero(d, page) == is_zero)
		page++;
	end = page << PAGE_SHIFT;
	if (end > offset_bytes + length_bytes)
		end = offset_bytes + length_bytes;
	return (struct backend_extent){end - offset_bytes, is_zero};
}

static const struct backend_ops device_backend_ops = {
	.get = backend_get_cb,
	.submit = backend_submit_cb,
	.put = backend_put_cb,
	.set_resume = backend_set_resume_cb,
	.extent = backend_extent_cb,
};

size_t
slab_device_arena_bytes(const struct slab_device_config *config)
{
	struct arena a;

	if (arena_layout(&a, NULL, config->size_bytes, config->slab_bytes, config->buffer_bytes) <
	    0)
		return 0;
	return a.total_bytes;
}

/* What the backup holds from before is where every page is. */
static void
page_map_from_backup(struct slab_device *d)
{
	uint64_t at = 0, start, end;

	while (at < d->config.size_bytes && backup_next_data(d->backup, at, &start, &end)) {
		if (end > d->config.size_bytes)
			end = d->config.size_bytes;
		for (at = start; at < end;) {
			const uint64_t block_end = ((at >> BLOCK_SHIFT) + 1) << BLOCK_SHIFT;
			const uint64_t stop = block_end < end ? block_end : end;

			d->arena.blocks[at >> BLOCK_SHIFT].backup |= block_mask(at, stop - at);
			at = stop;
		}
	}
}

static int
config_check(const struct slab_device_config *c)
{
	if (!c->arena || !c->name || strlen(c->name) >= CTL_DEVICE_NAME_BYTES || !c->entropy ||
	    !c->event || (c->n_portals > 0 && !c->portals))
		return -EINVAL;
	if (c->ack != SLAB_ACK_REMOTE && c->ack != SLAB_ACK_BOTH)
		return -EINVAL;
	if (c->backup_writes == 0 || c->backup_writes > BACKUP_WRITES_MAX ||
	    c->backup_delay_ns > BACKUP_DELAY_NS_MAX)
		return -EINVAL;
	if (c->choices == 0 || c->choices > PLACEMENT_CHOICES_MAX || c->query_timeout_ns == 0)
		return -EINVAL;
	if (c->period_ns == 0 || c->alpha <= 0 || c->alpha > 1 || c->hot_slab < 0 ||
	    c->cold_slab < 0)
		return -EINVAL;
	if (c->op_timeout_ns == 0 || c->connect_timeout_ns == 0 || c->ping_ns == 0 ||
	    c->retry_ns == 0 || c->retry_max_ns < c->retry_ns)
		return -EINVAL;
	if (c->refill_rate > SLAB_REFILL_RATE_MAX || c->migrate_rate > SLAB_REFILL_RATE_MAX ||
	    (c->migrate && c->migrate_rate == 0))
		return -EINVAL;
	return 0;
}

static void
device_zeros_init(struct slab_device *d)
{
	const uint32_t page = buffer_get(&d->pool, BUFFER_ORDERS - 1);

	assert(page != BUFFER_NONE);
	d->zeros = d->arena.buffers + (size_t)page * PAGE_BYTES;
	memset(d->zeros, 0, BLOCK_BYTES);
}

static int
device_runs_init(struct slab_device *d)
{
	d->runs = calloc(d->arena.n_slabs, sizeof(*d->runs));
	if (!d->runs)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->arena.n_slabs; i++) {
		list_init(&d->runs[i].fill_node);
		list_init(&d->runs[i].evict.node);
	}
	return 0;
}

int
slab_device_new(const struct slab_device_config *config, struct backup *backup,
		struct slab_device **ret_device)
{
	struct slab_device *d;
	uint64_t seed = 0;
	int r = config_check(config);

	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->config = *config;
	d->backup = backup;
	if (!backup) {
		d->config.hot_slab = 0;
		d->config.refill_rate = 0;
	}
	d->backend.ops = &device_backend_ops;
	d->backend.size_bytes = config->size_bytes;
	d->can_zero = true;
	config->entropy(config->arg, &seed, sizeof(seed));
	d->rng = rng_of(seed, 0);
	list_init(&d->ready);
	list_init(&d->done_pieces);
	list_init(&d->done_ranges);
	list_init(&d->done_flushes);
	list_init(&d->held_answers);
	list_init(&d->unsafe);
	list_init(&d->retry);
	list_init(&d->evicting);
	fill_init(&d->fill);
	homeless_init(d);

	r = arena_layout(&d->arena, config->arena, config->size_bytes, config->slab_bytes,
			 config->buffer_bytes);
	if (r < 0)
		goto err_free;
	*d->arena.header = (struct arena_header){
		.magic = ARENA_MAGIC,
		.version = ARENA_VERSION,
		.block_pages = BLOCK_PAGES,
		.size_bytes = config->size_bytes,
		.slab_bytes = config->slab_bytes,
		.buffer_bytes = config->buffer_bytes,
	};
	d->stats.slabs = d->arena.n_slabs;
	d->stats.page_map_bytes = (uint64_t)d->arena.n_blocks * sizeof(struct arena_block);
	d->stats.slab_table_bytes = (uint64_t)d->arena.n_slabs * sizeof(struct arena_slab);
	d->stats.buffer_bytes = config->buffer_bytes;
	r = device_runs_init(d);
	if (r < 0)
		goto err_free;
	r = pieces_init(d);
	if (r < 0)
		goto err_fini;
	r = backup_queue_init(d);
	if (r < 0)
		goto err_fini;
	r = migrations_init(d);
	if (r < 0)
		goto err_fini;
	device_zeros_init(d);
	r = membership_init(d);
	if (r < 0)
		goto err_fini;
	if (backup)
		page_map_from_backup(d);
	*ret_device = d;
	return 0;

err_fini:
	membership_fini(d);
	migrations_fini(d);
	backup_queue_fini(d);
	pieces_fini(d);
	free(d->runs);
err_free:
	free(d);
	return r;
}

struct slab_device *
slab_device_free(struct slab_device *d)
{
	if (!d)
		return NULL;
	membership_fini(d);
	migrations_fini(d);
	backup_queue_fini(d);
	pieces_fini(d);
	free(d->runs);
	free(d);
	return NULL;
}

struct backend *
slab_device_backend(struct slab_device *d)
{
	return &d->backend;
}

void
slab_device_buffers(struct slab_device *d, void **ret_base, size_t *ret_length_bytes)
{
	*ret_base = d->arena.buffers;
	*ret_length_bytes = (size_t)d->arena.n_buffer_pages * PAGE_BYTES;
}

static void
run_ready(struct slab_device *d, uint32_t *budget)
{
	struct list *node;

	while (*budget > 0 && (node = list_pop_head(&d->ready)) != NULL) {
		struct order_entry *e = container_of(node, struct order_entry, ready);

		(*budget)--;
		e->run(e);
	}
}

/*
 * io.done() may submit and put from inside.  Ranges first: when one failed, reads behind
 * it that saw the old bytes are answered after it.
 */
static void
give_answers(struct slab_device *d, uint32_t *budget)
{
	struct list *node;

	while (*budget > 0 && (node = list_pop_head(&d->done_ranges)) != NULL) {
		struct range *r = container_of(node, struct range, done_node);

		(*budget)--;
		r->io.done(&r->io, r->status);
	}
	while (*budget > 0 && (node = list_pop_head(&d->done_flushes)) != NULL) {
		struct flush *f = container_of(node, struct flush, done_node);

		(*budget)--;
		f->io.done(&f->io, f->status);
	}
	while (*budget > 0 && (node = list_pop_head(&d->done_pieces)) != NULL) {
		struct piece *p = container_of(node, struct piece, done_node);

		(*budget)--;
		p->io.done(&p->io, p->status);
	}
}

static bool
may_resume(const struct slab_device *d)
{
	return d->is_starved && d->has_room && d->resume;
}

static bool
has_work(const struct slab_device *d)
{
	return may_resume(d) || throttle_is_due(d) || backup_queue_is_due(d) ||
	       d->placements.is_due || !list_is_empty(&d->ready) ||
	       !list_is_empty(&d->done_pieces) || !list_is_empty(&d->done_ranges) ||
	       !list_is_empty(&d->done_flushes);
}

static void
stop_sync_done_cb(struct backup_op *op, int status)
{
	struct slab_device *d = container_of(op, struct slab_device, stop_op);

	backup_says(d, status, "flush");
	if (status < 0)
		d->stop_status = -EIO;
	d->stop_step = STOP_CLOSE;
}

static void
stop_drained(struct slab_device *d)
{
	d->stop_step = STOP_SYNC;
	d->stop_op = (struct backup_op){.kind = BACKUP_OP_SYNC, .done = stop_sync_done_cb};
	backup_submit(d->backup, &d->stop_op);
}

static void
stop_report_lost(struct slab_device *d, uint64_t n_pages)
{
	device_event(d, SLAB_EVENT_ERROR,
		     "stopping with %" PRIu64 " pages that the backup refused: they are lost",
		     n_pages);
	d->stop_status = -EIO;
}

/* Nobody has anything to bring anywhere. */
static void
stop_without_backup(struct slab_device *d)
{
	if (d->n_in_use > 0)
		return;
	device_event(d, SLAB_EVENT_NOTICE,
		     "stopping without a backup: %" PRIu64 " pages are gone with it, %" PRIu64
		     " were lost before",
		     d->stats.pages_degraded, d->stats.pages_lost);
	d->stop_step = STOP_CLOSE;
}

static void
stop_advance(struct slab_device *d)
{
	if (d->stop_step == STOP_DRAIN && !d->backup)
		stop_without_backup(d);
	switch (d->stop_step) {
	case STOP_DRAIN:
		if (!d->backup)
			return;
		if (d->n_in_use == 0 && d->stats.pages_degraded == 0) {
			/* A new start would read what the backup held before. */
			if (d->stats.pages_lost > 0)
				stop_report_lost(d, d->stats.pages_lost);
			stop_drained(d);
			return;
		}
		if (d->stop_retries < STOP_RETRIES_MAX)
			return;
		d->stop_lost_pages += repair_give_up(d);
		if (d->n_in_use > 0)
			return;
		stop_report_lost(d, d->stop_lost_pages + d->stats.pages_degraded +
					    d->stats.pages_lost);
		stop_drained(d);
		return;
	case STOP_CLOSE:
		if (!remotes_stop(d))
			return;
		d->stop_step = STOP_DONE;
		d->stopped(d->stopped_arg, d->stop_status);
		return;
	case STOP_NOT:
	case STOP_SYNC:
	case STOP_DONE:
		return;
	}
}

uint64_t
slab_device_advance(struct slab_device *d, uint64_t now_ns)
{
	uint32_t budget = ADVANCE_BUDGET;
	uint64_t next_ns, other_ns;

	throttle_advance(d, now_ns);
	d->now_ns = now_ns;
	run_ready(d, &budget);
	give_answers(d, &budget);
	if (may_resume(d)) {
		d->is_starved = false;
		d->resume(d->resume_arg);
	}
	next_ns = repair_advance(d, now_ns);
	other_ns = membership_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = activity_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = placements_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = homeless_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = migrate_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = evict_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = fill_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	other_ns = backup_queue_advance(d, now_ns);
	if (other_ns < next_ns)
		next_ns = other_ns;
	/* Last, so that it sees every operation and deadline that this turn began. */
	other_ns = remotes_advance(d, now_ns);
	if (has_work(d))
		return now_ns;
	stop_advance(d);
	return other_ns < next_ns ? other_ns : next_ns;
}

void
slab_device_stop(struct slab_device *d, void (*done)(void *arg, int status), void *arg)
{
	assert(d->stop_step == STOP_NOT);
	d->is_stopping = true;
	d->stop_step = STOP_DRAIN;
	d->stopped = done;
	d->stopped_arg = arg;
}

void
slab_device_get_stats(const struct slab_device *d, struct slab_device_stats *ret_stats)
{
	*ret_stats = d->stats;
	ret_stats->buffer_bytes_free = (uint64_t)pieces_free_pages(d) * PAGE_BYTES;
	ret_stats->writes_unsafe = d->n_unsafe;
	ret_stats->backup_writes_waiting = d->backup_queue.n_waiting;
	if (!d->backup)
		ret_stats->pages_degraded = 0;
}
