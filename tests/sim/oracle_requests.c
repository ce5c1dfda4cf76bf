/* SPDX-License-Identifier: MIT */
/* Answers: what a read may bring, what may fail, and what has to be on the backup by then. */
#include <errno.h>
#include <inttypes.h>

#include "sim/fail.h"
#include "sim/guard.h"
#include "sim/oracle.h"
#include "sim/world.h"
#include "slab/core.h"

static uint32_t
page_of(uint64_t offset_bytes)
{
	return (uint32_t)(offset_bytes / PAGE_BYTES);
}

void
oracle_submitted(struct sim_request *r)
{
	struct sim_device_host *dh = r->device;
	const struct backend_io *io = r->io;

	r->submitted_ns = sim_now(dh->host.sim);
	r->kept_total = dh->dev->stats.writes_kept_total - dh->dev->n_kept;
	r->done_seq = dh->pages.done_seq;
	r->ticks = dh->disk.ticks;
	if (io->kind == BACKEND_READ || io->kind == BACKEND_FLUSH)
		return;
	r->changes = pages_change(&dh->pages, io->kind, r->number, r->version, io->offset_bytes,
				  io->length_bytes, &r->n_changes);
}

static void
check_read(const struct sim_request *r)
{
	const struct backend_io *io = r->io;
	const struct page_query q = {.rule = RULE_READ, .number = r->number};
	uint64_t at = io->offset_bytes;
	const uint64_t end = at + io->length_bytes;
	const uint8_t *bytes = io->data;

	while (at < end) {
		const uint32_t from = (uint32_t)(at % PAGE_BYTES);
		const uint64_t left = end - at;
		const uint32_t n = left < PAGE_BYTES - from ? (uint32_t)left : PAGE_BYTES - from;

		if (!pages_allow(&r->device->pages, page_of(at), from, from + n, bytes - from, &q))
			sim_fail(DEVICE_1,
				 "device %u: read %" PRIu64 " of page %u brought what it may not",
				 r->device->index, r->number, page_of(at));
		at += n;
		bytes += n;
	}
}

static bool
was_kept(const struct sim_request *r)
{
	const struct slab_device *d = r->device->dev;

	return d->stats.writes_kept_total > r->kept_total;
}

/* The pages whose trouble on the disk can be @r's. */
static void
pages_before(const struct sim_request *r, uint32_t *ret_first, uint32_t *ret_last)
{
	const struct backend_io *io = r->io;

	*ret_first = page_of(io->offset_bytes);
	*ret_last = page_of(io->offset_bytes + io->length_bytes - 1);
	if (io->kind == BACKEND_READ || !was_kept(r))
		return;
	/* It may wait behind what waits behind a write of other pages of the block. */
	*ret_first -= *ret_first % BLOCK_PAGES;
	*ret_last |= BLOCK_PAGES - 1;
}

/* An operation on one of the pages failed since the request came, or fails still. */
static bool
has_disk_trouble(const struct sim_request *r)
{
	const struct sim_disk *d = &r->device->disk;
	const struct backend_io *io = r->io;
	uint32_t first, last;

	if (io->kind == BACKEND_FLUSH || (io->flags & BACKEND_FUA))
		if (d->sync_error_ns >= r->submitted_ns)
			return true;
	if (io->kind == BACKEND_FLUSH)
		return d->n_bad > 0 || d->error_ns >= r->submitted_ns || was_kept(r);
	pages_before(r, &first, &last);
	for (uint32_t page = first; page <= last; page++)
		if (d->pages[page].is_bad || d->pages[page].error_ns >= r->submitted_ns)
			return true;
	return false;
}

/* No slab was mapped for so long though a write waited, @r or one that came before. */
static bool
is_patience_spent(const struct sim_request *r, uint64_t least_ns)
{
	struct sim_device_host *dh = r->device;

	for (struct list *node = dh->requests.next; node != &dh->requests; node = node->next) {
		const struct sim_request *o = container_of(node, struct sim_request, node);
		const uint64_t from_ns =
			o->submitted_ns > dh->mapped_ns ? o->submitted_ns : dh->mapped_ns;

		if (o->io->kind == BACKEND_WRITE && (!o->is_done || o->status == -ENOSPC) &&
		    from_ns < dh->waited_since_ns)
			dh->waited_since_ns = from_ns;
	}
	return sim_now(dh->host.sim) - dh->waited_since_ns >= least_ns;
}

static bool
has_waited_in_vain(const struct sim_request *r)
{
	const struct sim *sim = r->device->host.sim;
	const uint64_t least_ns = MAP_ANSWER_TIMEOUTS * sim->plan.op_timeout_ns;

	return is_patience_spent(r, least_ns) || sim_now(sim) - r->submitted_ns >= 2 * least_ns;
}

/* Where there is no backup: a page of a daemon that is lost, or no daemon for a page. */
static bool
is_without_copy(const struct sim_request *r)
{
	const struct backend_io *io = r->io;
	struct sim *sim = r->device->host.sim;
	bool may_be_lost = false;

	if (!sim->plan.has_no_backup)
		return false;
	if (io->kind == BACKEND_WRITE && r->status == -ENOSPC) {
		sim->sights[SIGHT_NO_HOME]++;
		return has_waited_in_vain(r);
	}
	for (uint64_t at = io->offset_bytes; at < io->offset_bytes + io->length_bytes;
	     at = (at / PAGE_BYTES + 1) * PAGE_BYTES)
		may_be_lost |= oracle_may_be_lost(r->device, page_of(at), r->submitted_ns);
	return r->status == -EIO && may_be_lost &&
	       (io->kind == BACKEND_READ ||
		(io->kind == BACKEND_WRITE && io->length_bytes < PAGE_BYTES));
}

static void
check_error(const struct sim_request *r)
{
	const struct backend_io *io = r->io;

	if (is_without_copy(r))
		return;

	if (r->status == -EOPNOTSUPP && io->kind == BACKEND_ZERO && (io->flags & BACKEND_FAST_ZERO))
		return;
	if (r->status == -EOPNOTSUPP || r->status == -ECANCELED || !has_disk_trouble(r))
		sim_fail(DEVICE_7,
			 "device %u: %s %" PRIu64 " at page %u failed with %d, and no copy of it "
			 "was out of reach",
			 r->device->index, io->kind == BACKEND_READ ? "read" : "request", r->number,
			 page_of(io->offset_bytes), r->status);
}

/* @page has to be on the backup up to what @q says is promised. */
static void
check_on_backup(struct sim_device_host *dh, uint32_t page, const struct page_query *q,
		const char *why)
{
	const struct sim_disk *d = &dh->disk;

	if (dh->host.sim->plan.has_no_backup)
		return;
	if (pages_allow(&dh->pages, page, 0, PAGE_BYTES, d->bytes + (size_t)page * PAGE_BYTES, q))
		return;
	sim_fail(d->pages[page].error_ns > 0 ? DEVICE_6 : DEVICE_DURABLE,
		 "device %u: page %u is not on the backup, %s", dh->index, page, why);
}

/* A write that was done before tick @ticks is not durable though a SYNC should have made it so. */
static void
check_synced(struct sim_device_host *dh, uint32_t page, uint64_t ticks)
{
	const struct sim_disk_page *p = &dh->disk.pages[page];

	if (dh->host.sim->plan.has_no_backup)
		return;
	if (p->written_at <= ticks && p->written_at > dh->disk.synced_at)
		sim_fail(DEVICE_DURABLE, "device %u: page %u is on the backup but was not synced",
			 dh->index, page);
}

static void
check_flush(struct sim_request *r)
{
	struct sim_device_host *dh = r->device;
	struct sim_pages *sp = &dh->pages;
	const struct page_query q = {.rule = RULE_DURABLE, .synced_seq = r->done_seq};

	if (r->done_seq > sp->synced_seq)
		sp->synced_seq = r->done_seq;
	while (sp->n_checked < sp->n_done && sp->done[sp->n_checked]->done_seq <= r->done_seq) {
		const struct change *c = sp->done[sp->n_checked++];

		if (c->kind == BACKEND_TRIM)
			continue;
		check_on_backup(dh, c->page, &q, "and a FLUSH after its answer was answered");
		check_synced(dh, c->page, r->ticks);
	}
}

static bool
is_refused(const struct sim_request *r)
{
	uint32_t first, last;

	pages_before(r, &first, &last);
	for (uint32_t page = first; page <= last; page++)
		if (r->device->disk.pages[page].is_bad)
			return true;
	return false;
}

static void
check_change(struct sim_request *r)
{
	struct sim_device_host *dh = r->device;
	const struct backend_io *io = r->io;
	const bool is_fua = (io->flags & BACKEND_FUA) != 0;
	const bool is_both = io->kind == BACKEND_WRITE && dh->host.sim->plan.ack == SLAB_ACK_BOTH;
	const struct page_query q = {.rule = RULE_DURABLE, .with_self = true};

	pages_done(&dh->pages, r->changes, r->n_changes, r->status == 0);
	for (uint32_t i = 0; r->status == 0 && i < r->n_changes; i++) {
		struct change *c = &r->changes[i];

		/* With ack = both what the backup refuses, or what stands behind such a write,
		 * is degraded, and answered. */
		c->is_durable = is_fua || (is_both && !is_refused(r));
		if (c->is_durable && io->kind != BACKEND_TRIM)
			check_on_backup(dh, c->page, &q,
					is_fua ? "and its FUA was answered"
					       : "and was answered with ack = both");
		if (is_fua && io->kind != BACKEND_TRIM && dh->pages.pages[c->page].newest == c)
			check_synced(dh, c->page, UINT64_MAX);
		oracle_copies_of(dh, c->page);
	}
}

void
oracle_answered(struct sim_request *r)
{
	struct sim_device_host *dh = r->device;
	const struct backend_io *io = r->io;

	if (r->status < 0)
		check_error(r);
	if (io->kind == BACKEND_READ && r->status == 0)
		check_read(r);
	else if (io->kind == BACKEND_FLUSH && r->status == 0)
		check_flush(r);
	else if (r->changes)
		check_change(r);
	if (r->status == 0 && (io->kind == BACKEND_FLUSH || (io->flags & BACKEND_FUA)) &&
	    dh->crash_at_ack)
		dh->must_crash = true;
}

void
oracle_extent(struct sim_device_host *dh, uint64_t offset_bytes, uint64_t length_bytes)
{
	const struct backend_extent e = backend_extent(dh->be, offset_bytes, length_bytes);
	static const uint8_t zeros[PAGE_BYTES];
	const struct page_query q = {.rule = RULE_NEWEST};

	if (e.length_bytes == 0 || e.length_bytes > length_bytes)
		sim_fail(CONTRACT, "an extent of %" PRIu64 " bytes of %" PRIu64, e.length_bytes,
			 length_bytes);
	for (uint64_t at = offset_bytes; e.is_hole_zero && at < offset_bytes + e.length_bytes;
	     at = (at / PAGE_BYTES + 1) * PAGE_BYTES)
		if (!pages_allow(&dh->pages, page_of(at), 0, PAGE_BYTES, zeros, &q))
			sim_fail(DEVICE_1, "device %u: page %u is said to be zeros and is not",
				 dh->index, page_of(at));
}

static void
judge_backup(struct sim_device_host *dh, const struct page_query *q, const char *why)
{
	for (uint32_t page = 0; page < dh->disk.n_pages; page++) {
		const struct page_history *h = &dh->pages.pages[page];

		if (!h->newest && !dh->disk.pages[page].is_touched)
			continue;
		check_on_backup(dh, page, q, why);
		pages_set_base(&dh->pages, page, dh->disk.bytes + (size_t)page * PAGE_BYTES);
	}
	dh->pages.n_done = 0;
	dh->pages.n_checked = 0;
}

void
oracle_crashed(struct sim_device_host *dh, bool is_power)
{
	struct page_query q = {.rule = RULE_DURABLE, .synced_seq = dh->pages.synced_seq};

	/* ack = both promises nothing of the disk's own cache. */
	q.with_self = !is_power || dh->host.sim->plan.ack != SLAB_ACK_BOTH;
	judge_backup(dh, &q, "after a crash of the server, as was promised");
}

void
oracle_stopped(struct sim_device_host *dh, int status)
{
	struct page_query q = {.rule = RULE_DURABLE, .synced_seq = dh->pages.synced_seq};

	if (status != 0 && dh->host.sim->plan.has_no_backup)
		sim_fail(DEVICE_6, "device %u has no backup and its stop failed", dh->index);
	q.with_self = true;
	if (status == 0)
		q.synced_seq = dh->pages.done_seq;
	judge_backup(dh, &q, "after an orderly stop");
}
