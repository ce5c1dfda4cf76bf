/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "slab/core.h"

#define WORLD_SLAB_BYTES SLAB_BYTES_MIN
#define WORLD_BUFFER_BYTES SLAB_BUFFER_BYTES_MIN
#define WORLD_IOS_MAX 1100u
#define WORLD_EVENTS_MAX 256u

struct world {
	struct world_config config;
	struct fake_net *net;
	struct fake_backup *backup;
	struct tp *tp;
	struct fake_daemon daemons[WORLD_DAEMONS_MAX];
	struct slab_portal portals[WORLD_DAEMONS_MAX];
	struct slab_device *dev;
	struct backend *be;
	void *arena;
	struct oracle *oracle;
	uint64_t now_ns;
	uint64_t number;
	uint64_t version;
	struct world_io ios[WORLD_IOS_MAX];
	uint32_t n_ios; /* that ever were in use: they stand in front */
	bool is_backup_held;
	bool are_read_errors_allowed;
	bool is_stopped;
	int stop_status;
	uint32_t n_events[SLAB_EVENT_DEBUG + 1];
	char events[WORLD_EVENTS_MAX][192]; /* the newest */
	uint32_t n_events_all;
	uint32_t n_resumes;
	void (*on_resume)(struct world *w);
	struct slab_device_config device_config;
	bool is_distrusted;
	bool is_wrong; /* a read brought what it may not */
};

static void
entropy_cb(void *arg, void *buf, uint32_t length)
{
	struct world *w = arg;

	memset(buf, (int)(w->config.seed % 251 + 1), length);
}

/* WORLD_TRACE=1 in the environment shows what happened, for replaying a seed. */
static void
trace_io(const struct world_io *wio, const char *what)
{
	static const char *const kinds[] = {"?", "READ", "WRITE", "FLUSH", "TRIM", "ZERO"};

	if (getenv("WORLD_TRACE"))
		fprintf(stderr, "%s #%llu %s at %llu + %u flags %u version %llu status %d\n", what,
			(unsigned long long)wio->number, kinds[wio->io->kind],
			(unsigned long long)wio->io->offset_bytes, wio->io->length_bytes,
			wio->io->flags, (unsigned long long)wio->version, wio->status);
}

static void
event_cb(void *arg, enum slab_event_level level, const char *text)
{
	struct world *w = arg;

	w->n_events[level]++;
	(void)snprintf(w->events[w->n_events_all++ % WORLD_EVENTS_MAX], sizeof(w->events[0]), "%s",
		       text);
	if (getenv("WORLD_TRACE"))
		fprintf(stderr, "event %d: %s\n", level, text);
}

static uint64_t
now_cb(void *arg)
{
	return world_now(arg);
}

static void
resume_cb(void *arg)
{
	struct world *w = arg;
	void (*fn)(struct world * w) = w->on_resume;

	w->n_resumes++;
	w->on_resume = NULL;
	if (fn)
		fn(w);
}

static void
device_make(struct world *w)
{
	struct backup *backup = w->config.has_no_backup ? NULL : fake_backup_as_backup(w->backup);

	assert(slab_device_new(&w->device_config, backup, &w->dev) == 0);
	w->be = slab_device_backend(w->dev);
	backend_set_resume(w->be, resume_cb, w);
}

/* Zeroed without being touched, with a page behind it that nothing may touch. */
static void *
arena_map(size_t bytes)
{
	uint8_t *p = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert(p != MAP_FAILED);
	assert(mprotect(p + bytes, PAGE_BYTES, PROT_NONE) == 0);
	return p;
}

struct world *
world_new(const struct world_config *config)
{
	struct world *w = calloc(1, sizeof(*w));
	struct slab_device_config c = {
		.size_bytes = config->n_slabs * WORLD_SLAB_BYTES,
		.slab_bytes = WORLD_SLAB_BYTES,
		.buffer_bytes = WORLD_BUFFER_BYTES,
		.ack = config->ack ? config->ack : SLAB_ACK_REMOTE,
		.op_timeout_ns = 2 * NSEC_PER_SEC,
		.connect_timeout_ns = 2 * NSEC_PER_SEC,
		.ping_ns = 500 * NSEC_PER_MSEC,
		.hedge_ns = config->hedge_ns,
		.probe_ns = config->probe_ns,
		.control_timeout_ns = config->control_timeout_ns,
		.retry_ns = 100 * NSEC_PER_MSEC,
		.retry_max_ns = NSEC_PER_SEC,
		.refill_rate = config->refill_rate,
		.migrate = config->migrate_rate > 0,
		.migrate_rate = config->migrate_rate,
		.hot_slab = config->hot_slab,
		.alpha = 0.2,
		.period_ns = NSEC_PER_SEC,
		.cold_slab = config->cold_slab,
		.cold_periods = 5,
		.choices = config->choices ? config->choices : 2,
		.query_timeout_ns = 2 * NSEC_PER_SEC,
		.backup_writes = config->backup_writes ? config->backup_writes : 64,
		.backup_delay_ns = config->backup_delay_ns,
		.name = "test0",
		.portals = w->portals,
		.n_portals = config->n_portals ? config->n_portals : config->n_daemons,
		.max_portals = config->max_portals,
		.leave_timeout_ns = 2 * NSEC_PER_SEC,
		.entropy = entropy_cb,
		.now = now_cb,
		.event = event_cb,
		.arg = w,
	};

	assert(w);
	w->config = *config;
	w->now_ns = NSEC_PER_SEC;
	w->net = fake_net_new(config->seed);
	w->backup = fake_backup_new(c.size_bytes, config->can_zero, config->can_discard);
	w->oracle = oracle_new(c.size_bytes);
	w->tp = fake_tp_new(w->net);
	for (uint32_t i = 0; i < config->n_daemons; i++) {
		fake_daemon_init(&w->daemons[i], w->net, i, WORLD_SLAB_BYTES,
				 config->slabs_per_daemon, config->daemon_psk);
		w->portals[i] = (struct slab_portal){w->tp, w->daemons[i].address};
	}
	if (config->psk) {
		c.psk.length_bytes = strlen(config->psk);
		memcpy(c.psk.key, config->psk, c.psk.length_bytes);
	}
	w->arena = arena_map(slab_device_arena_bytes(&c));
	c.arena = w->arena;
	w->device_config = c;
	device_make(w);
	return w;
}

int
world_restart(struct world *w)
{
	const int status = world_stop(w);

	(void)fake_net_run(w->net);
	slab_device_free(w->dev);
	memset(w->arena, 0, slab_device_arena_bytes(&w->device_config));
	w->is_stopped = false;
	device_make(w);
	return status;
}

void
world_free(struct world *w)
{
	struct slab_device_stats s;

	if (!w->is_stopped)
		(void)world_stop(w);
	slab_device_get_stats(w->dev, &s);
	/* All but the zeros and the words of the probes. */
	assert(s.buffer_bytes_free + BLOCK_BYTES + (uint64_t)w->dev->n_health_pages * PAGE_BYTES ==
	       s.buffer_bytes);
	assert(w->dev->n_in_use == 0);
	for (uint32_t i = 0; i < w->dev->arena.n_buffer_pages; i++)
		assert(w->dev->arena.writes[i].seq == 0);
	(void)fake_net_run(w->net);
	slab_device_free(w->dev);
	for (uint32_t i = 0; i < w->config.n_daemons; i++)
		fake_daemon_fini(&w->daemons[i]);
	fake_tp_end(w->tp);
	fake_net_free(w->net);
	fake_backup_free(w->backup);
	oracle_free(w->oracle);
	assert(munmap(w->arena, slab_device_arena_bytes(&w->device_config) + PAGE_BYTES) == 0);
	free(w);
}

struct slab_device *
world_device(struct world *w)
{
	return w->dev;
}

struct fake_net *
world_net(struct world *w)
{
	return w->net;
}

struct fake_backup *
world_backup(struct world *w)
{
	return w->backup;
}

const struct slab_portal *
world_portals(const struct world *w)
{
	return w->portals;
}

struct fake_daemon *
world_daemon(struct world *w, uint32_t daemon)
{
	return &w->daemons[daemon];
}

uint64_t
world_now(const struct world *w)
{
	return w->now_ns;
}

void
world_pass(struct world *w, uint64_t ns)
{
	w->now_ns += ns;
}

void
world_advance(struct world *w)
{
	(void)slab_device_advance(w->dev, w->now_ns);
}

void
world_hold_backup(struct world *w, bool hold)
{
	w->is_backup_held = hold;
}

void
world_settle(struct world *w)
{
	bool moved = true;

	while (moved) {
		moved = slab_device_advance(w->dev, w->now_ns) <= w->now_ns;
		moved |= fake_net_run(w->net) > 0;
		if (!w->is_backup_held && fake_backup_pending(w->backup) > 0) {
			fake_backup_run(w->backup);
			moved = true;
		}
	}
	assert(!w->is_wrong);
}

void
world_run(struct world *w, uint64_t ns)
{
	const uint64_t until_ns = w->now_ns + ns;

	world_settle(w);
	while (w->now_ns < until_ns) {
		world_pass(w, 10 * NSEC_PER_MSEC);
		world_settle(w);
	}
}

static void
done_cb(struct backend_io *io, int status)
{
	struct world_io *wio = io->arg;
	struct world *w = wio->w;

	assert(!wio->is_done);
	wio->is_done = true;
	wio->status = status;
	trace_io(wio, "done");
	if (io->kind == BACKEND_READ && status == 0 && !w->is_distrusted &&
	    !oracle_allows(w->oracle, wio->number, io->data, io->offset_bytes, io->length_bytes))
		w->is_wrong = true; /* invariant 1 */
	if (io->kind == BACKEND_READ && status < 0 && !w->are_read_errors_allowed) {
		fprintf(stderr, "request %llu: read failed: %d\n", (unsigned long long)wio->number,
			status);
		w->is_wrong = true; /* invariant 7 */
	}
	if (io->kind != BACKEND_READ && io->kind != BACKEND_FLUSH && status < 0)
		oracle_failed(w->oracle, wio->number, io->offset_bytes, io->length_bytes);
}

struct world_io *
world_submit(struct world *w, enum backend_kind kind, uint32_t flags, uint64_t offset_bytes,
	     uint32_t length_bytes)
{
	struct backend_io *io = backend_get(w->be, kind, offset_bytes, length_bytes);
	struct world_io *wio = NULL;

	if (!io)
		return NULL;
	for (uint32_t i = 0; i < WORLD_IOS_MAX && !wio; i++)
		if (!w->ios[i].is_in_use)
			wio = &w->ios[i];
	assert(wio);
	if (wio == &w->ios[w->n_ios])
		w->n_ios++;
	*wio = (struct world_io){.w = w, .io = io, .number = ++w->number, .is_in_use = true};
	io->flags = flags;
	io->done = done_cb;
	io->arg = wio;
	if (kind == BACKEND_WRITE) {
		wio->version = ++w->version;
		for (uint32_t at = 0; at < length_bytes; at += SECTOR_BYTES)
			oracle_fill((uint8_t *)io->data + at, wio->version, offset_bytes + at);
	}
	if (kind != BACKEND_READ && kind != BACKEND_FLUSH)
		oracle_change(w->oracle, wio->number, wio->version, offset_bytes, length_bytes);
	if (flags & BACKEND_FAST_ZERO) /* may be refused at once, and then never was */
		oracle_failed(w->oracle, wio->number, offset_bytes, length_bytes);
	trace_io(wio, "submit");
	backend_submit(w->be, io);
	return wio;
}

void
world_put(struct world_io *wio)
{
	assert(wio->is_done && wio->is_in_use);
	backend_put(wio->w->be, wio->io);
	wio->is_in_use = false;
}

int
world_do(struct world *w, enum backend_kind kind, uint64_t offset_bytes, uint32_t length_bytes)
{
	struct world_io *wio = world_submit(w, kind, 0, offset_bytes, length_bytes);
	int status;

	assert(wio);
	world_settle(w);
	assert(wio->is_done);
	status = wio->status;
	world_put(wio);
	return status;
}

uint32_t
world_pending(const struct world *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n_ios; i++)
		n += w->ios[i].is_in_use && !w->ios[i].is_done;
	return n;
}

void
world_put_done(struct world *w)
{
	for (uint32_t i = 0; i < w->n_ios; i++)
		if (w->ios[i].is_in_use && w->ios[i].is_done)
			world_put(&w->ios[i]);
}

void
world_daemon_kill(struct world *w, uint32_t daemon, int reason)
{
	if (w->daemons[daemon].conn)
		fake_net_cut(w->daemons[daemon].conn, reason);
}

static void
stopped_cb(void *arg, int status)
{
	struct world *w = arg;

	w->is_stopped = true;
	w->stop_status = status;
}

void
world_stopped(struct world *w)
{
	w->is_stopped = true;
}

int
world_stop(struct world *w)
{
	world_settle(w);
	world_put_done(w);
	slab_device_stop(w->dev, stopped_cb, w);
	for (uint32_t i = 0; i < 1000 && !w->is_stopped; i++) {
		world_settle(w);
		world_pass(w, 100 * NSEC_PER_MSEC);
	}
	assert(w->is_stopped);
	return w->stop_status;
}

void
world_check_backup(struct world *w)
{
	const uint8_t *bytes = fake_backup_bytes(w->backup);

	for (uint64_t at = 0; at < w->be->size_bytes; at += SECTOR_BYTES)
		if (!oracle_is_zero(w->oracle, at))
			assert(oracle_allows(w->oracle, UINT64_MAX, bytes + at, at, SECTOR_BYTES));
}

/* A copy of @page that a read may take. */
static void
check_copy(struct world *w, uint32_t daemon, uint32_t block, uint32_t page)
{
	const struct arena *a = &w->dev->arena;
	const uint8_t *memory =
		fake_daemon_memory(&w->daemons[daemon], arena_slab_of_block(a, block));

	assert(memory);
	memory += (size_t)(block % a->slab_blocks) * BLOCK_BYTES + (size_t)page * PAGE_BYTES;
	assert(oracle_allows(w->oracle, UINT64_MAX, memory,
			     (uint64_t)block * BLOCK_BYTES + (uint64_t)page * PAGE_BYTES,
			     PAGE_BYTES)); /* invariant 2 */
}

void
world_check_remote(struct world *w)
{
	const struct arena *a = &w->dev->arena;

	for (uint32_t block = 0; block < a->n_blocks; block++) {
		const uint32_t slab = arena_slab_of_block(a, block);
		const struct migration *m = migration_of(w->dev, slab);
		uint32_t pages = slab_readable_pages(w->dev, block);

		for (; pages != 0; pages &= pages - 1) {
			const uint32_t page = (uint32_t)__builtin_ctz(pages);

			if (slab_at_home(w->dev, block) & 1u << page)
				check_copy(w, a->slabs[slab].daemon, block, page);
			if (m && m->at_old[block % a->slab_blocks] & 1u << page)
				check_copy(w, m->old.daemon, block, page);
		}
	}
}

static uint32_t
ops_in_flight(const struct slab_device *d, uint32_t slab, uint32_t generation)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->n_remotes; i++)
		for (struct list *pos = d->remotes[i].ops.next; pos != &d->remotes[i].ops;
		     pos = pos->next) {
			const struct piece *p = container_of(pos, struct piece, remote_node);

			n += piece_slab(p) == slab && p->generation == generation;
		}
	return n;
}

static uint32_t
unsafe_writes(const struct slab_device *d, uint32_t slab, uint32_t generation)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->n_pieces && generation != 0; i++)
		if (!list_is_linked(&d->pieces[i].free_node) &&
		    d->pieces[i].unsafe_generation == generation &&
		    piece_slab(&d->pieces[i]) == slab)
			n++;
	return n;
}

static void
check_migration(const struct slab_device *d, const struct migration *m)
{
	uint32_t n_unmoved = 0;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++) {
		const struct arena_block *b = &d->arena.blocks[m->slab * d->arena.slab_blocks + i];

		assert(((m->at_old[i] | m->at_new[i]) & ~b->remote) == 0);
		n_unmoved += (uint32_t)__builtin_popcount(b->remote & ~m->at_new[i]);
	}
	assert(m->n_unmoved == n_unmoved);
	if (m->is_old_lost)
		return;
	assert(m->n_ops == ops_in_flight(d, m->slab, m->old.generation));
	assert(m->n_unsafe == unsafe_writes(d, m->slab, m->old.generation));
}

static void
check_pages(const struct slab_device *d, uint32_t slab)
{
	const struct arena_slab *s = &d->arena.slabs[slab];
	uint32_t n_remote = 0, n_degraded = 0, n_lost = 0;

	for (uint32_t i = 0; i < d->arena.slab_blocks; i++) {
		const uint32_t block = slab * d->arena.slab_blocks + i;
		const struct arena_block *b = &d->arena.blocks[block];
		const uint32_t readable = slab_readable_pages(d, block);

		n_remote += (uint32_t)__builtin_popcount(b->remote);
		if (d->backup) {
			n_lost += (uint32_t)__builtin_popcount(b->remote & ~readable);
		} else {
			assert((b->remote & ~readable) == 0 && (b->remote & b->backup) == 0);
			n_lost += (uint32_t)__builtin_popcount(b->backup);
		}
		n_degraded += (uint32_t)__builtin_popcount(readable & ~b->backup &
							   ~order_acked_pages(&d->order, block));
	}
	assert(d->runs[slab].pages_remote == n_remote);
	assert(s->pages_lost == n_lost);
	assert(s->pages_degraded == n_degraded);
}

void
world_check_counters(const struct world *w)
{
	const struct slab_device *d = w->dev;

	for (uint32_t slab = 0; slab < d->arena.n_slabs; slab++) {
		const struct slab_run *run = &d->runs[slab];
		const uint32_t generation = d->arena.slabs[slab].generation;

		check_pages(d, slab);
		if (migration_of(d, slab))
			check_migration(d, migration_of(d, slab));
		assert(run->n_ops == ops_in_flight(d, slab, generation));
		assert(run->n_unsafe == unsafe_writes(d, slab, generation));
		if (d->n_in_use == 0)
			assert(run->n_unsafe == 0 && run->n_ops == 0);
	}
}

void
world_allow_read_errors(struct world *w)
{
	w->are_read_errors_allowed = true;
}

void
world_distrust(struct world *w)
{
	w->is_distrusted = true;
}

bool
world_is_distrusted(const struct world *w)
{
	return w->is_distrusted;
}

struct slab_device_stats
world_stats(const struct world *w)
{
	struct slab_device_stats s;

	slab_device_get_stats(w->dev, &s);
	return s;
}

uint32_t
world_events(const struct world *w, enum slab_event_level level)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i <= (uint32_t)level; i++)
		n += w->n_events[i];
	return n;
}

uint32_t
world_said(const struct world *w, const char *text)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n_events_all && i < WORLD_EVENTS_MAX; i++)
		n += strstr(w->events[i], text) ? 1 : 0;
	return n;
}

uint32_t
world_resumes(const struct world *w)
{
	return w->n_resumes;
}

void
world_on_resume(struct world *w, void (*fn)(struct world *w))
{
	w->on_resume = fn;
}

void
world_assert_right(const struct world *w)
{
	assert(!w->is_wrong);
}
