/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/guard.h"
#include "wire/ctl.h"
#include "world.h"

#define PING_NS (30 * NSEC_PER_SEC)
/* 64 and 256 MiB a second at the scale of everything. */
#define REFILL_RATE (64 * GIB_BYTES / 1024)
#define MIGRATE_RATE (256 * GIB_BYTES / 1024)
#define OP_TIMEOUT_NS (2 * NSEC_PER_SEC)
/* Allocating, zeroing and registering a GiB; zeroing; giving back. */
#define FILL_NS (400 * NSEC_PER_MSEC)
#define ZERO_NS (100 * NSEC_PER_MSEC)
#define DROP_NS (20 * NSEC_PER_MSEC)
/* With --wide: devices that know every daemon. */
#define WIDE_DEVICES 4u
#define DISK_NS (1 * NSEC_PER_MSEC)

static struct machine *
of_backup(struct backup *b)
{
	return container_of(b, struct machine, backup);
}

static bool
is_of_placement(uint32_t type)
{
	return type == CTL_QUERY_MEM || type == CTL_FREE_MEM || type == CTL_MAP ||
	       type == CTL_MR_INFO || type == CTL_REFUSED;
}

static uint32_t
n_asked(const struct host *h)
{
	return h->n_sent[CTL_QUERY_MEM] + h->n_sent[CTL_MAP];
}

/* --- the disk --- */

/* What came since the disk began is done with it: a disk with a cache and a deep queue. */
static void
disk_cb(struct sim_event *ev)
{
	struct machine *m = container_of(ev, struct machine, disk_ev);
	struct list done, *node;

	list_init(&done);
	list_splice_tail(&done, &m->disk_ops);
	guard_enter();
	while ((node = list_pop_head(&done)) != NULL) {
		struct backup_op *op = container_of(node, struct backup_op, node);

		op->done(op, 0);
	}
	guard_leave();
	host_touch(&m->device_host);
}

static void
disk_submit(struct backup *b, struct backup_op *op)
{
	struct machine *m = of_backup(b);

	list_add_tail(&m->disk_ops, &op->node);
	if (!sim_event_is_queued(&m->disk_ev))
		net_after(m->world, &m->disk_ev, DISK_NS / 2, 2 * DISK_NS);
}

static bool
disk_next_data(struct backup *b, uint64_t offset, uint64_t *ret_start, uint64_t *ret_end)
{
	(void)b;
	(void)offset;
	(void)ret_start;
	(void)ret_end;
	return false;
}

static const struct backup_ops disk_ops = {.submit = disk_submit, .next_data = disk_next_data};

/* --- the memory that is lent --- */

static void
memory_cb(struct sim_event *ev)
{
	struct memory_slot *s = container_of(ev, struct memory_slot, ev);
	struct machine *m = s->machine;
	const uint32_t slot = (uint32_t)(s - m->slots);
	int r = 0;

	if (s->request == SLAB_MEMORY_FILL) {
		r = tp_region_register(&m->daemon_host.tp, NET_BYTES_NONE, GIB_BYTES, TP_LEND,
				       &s->region);
	} else if (s->request == SLAB_MEMORY_DROP) {
		r = tp_region_release(s->region);
		s->region = NULL;
		m->n_filled--;
	}
	assert(r == 0);
	guard_enter();
	m->memory_done(m->memory_arg, s->request, slot, r);
	guard_leave();
	host_touch(&m->daemon_host);
}

static void
memory_start(struct slab_memory *memory, enum slab_memory_request request, uint32_t slot)
{
	static const uint64_t ns[] = {
		[SLAB_MEMORY_FILL] = FILL_NS,
		[SLAB_MEMORY_ZERO] = ZERO_NS,
		[SLAB_MEMORY_DROP] = DROP_NS,
	};
	struct machine *m = container_of(memory, struct machine, memory);
	struct memory_slot *s = &m->slots[slot];
	struct sim_clock *clock = &m->world->clock;

	s->request = request;
	m->n_filled += request == SLAB_MEMORY_FILL;
	sim_clock_at(clock, &s->ev,
		     clock->now_ns + rng_between(&m->world->rng, ns[request] / 2, ns[request]));
}

static struct tp_region *
memory_region(struct slab_memory *memory, uint32_t slot, struct tp *tp)
{
	(void)tp;
	return container_of(memory, struct machine, memory)->slots[slot].region;
}

static void
memory_set_done(struct slab_memory *memory, slab_memory_done_fn *done, void *arg)
{
	struct machine *m = container_of(memory, struct machine, memory);

	m->memory_done = done;
	m->memory_arg = arg;
}

static const struct slab_memory_ops memory_ops = {
	.start = memory_start,
	.region = memory_region,
	.set_done = memory_set_done,
};

/* --- the daemon --- */

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	struct machine *m = arg;
	uint8_t *bytes = buf;

	for (uint32_t i = 0; i < length_bytes; i++)
		bytes[i] = (uint8_t)rng_next(&m->world->rng);
}

static void
daemon_event_cb(void *arg, enum daemon_event event, const char *text)
{
	(void)arg;
	(void)event;
	(void)text;
}

static uint64_t
daemon_turn(struct host *h)
{
	struct machine *m = container_of(h, struct machine, daemon_host);
	struct world *w = h->world;
	const uint64_t start_ns = cpu_now_ns();
	uint64_t next_ns;

	guard_enter();
	next_ns = daemon_advance(m->daemon, w->clock.now_ns);
	guard_leave();
	measure_turn(&w->measure, MEASURE_DAEMON, cpu_now_ns() - start_ns);
	return next_ns;
}

static void
daemon_heard(struct host *h, uint32_t type, uint64_t cpu_ns)
{
	if (type == CTL_QUERY_MEM || type == CTL_MAP)
		measure_placement_cpu(&h->world->measure, MEASURE_DAEMON, cpu_ns);
}

static void
daemon_init(struct machine *m)
{
	struct world *w = m->world;
	const uint32_t n_clients = 2 * w->opt.n_portals + 16;
	const struct daemon_config c = {
		.slab_bytes = GIB_BYTES,
		.max_slabs = LENT_GIB_MAX,
		.max_slabs_client = LENT_GIB_MAX,
		.headroom_bytes = HEADROOM_GIB * GIB_BYTES,
		.beta_milli = 200,
		.psi_limit_centi = 1000,
		.extra_choices = 2,
		.evict_deadline_ns = 1500 * NSEC_PER_MSEC,
		.seed = w->opt.seed + m->index,
		.max_clients = n_clients < w->opt.n_machines ? n_clients : w->opt.n_machines,
		.hello_timeout_ns = 2 * NSEC_PER_SEC,
		.client_timeout_ns = 4 * PING_NS,
		.epoch = rng_next(&w->rng),
		.entropy = entropy_cb,
		.entropy_arg = m,
		.event = daemon_event_cb,
	};
	struct tp_listener *listener;
	int r;

	host_init(&m->daemon_host, w, m->index, daemon_turn);
	m->daemon_host.heard = daemon_heard;
	m->memory.ops = &memory_ops;
	for (uint32_t i = 0; i < LENT_GIB_MAX; i++) {
		m->slots[i].machine = m;
		m->slots[i].ev.fire = memory_cb;
	}
	r = daemon_new(&c, &m->memory, &m->daemon);
	assert(r == 0);
	r = tp_listen(&m->daemon_host.tp, "0", daemon_incoming, m->daemon, &listener);
	assert(r == 0);
	(void)r;
	host_touch(&m->daemon_host);
}

void
machine_tell_memory(struct machine *m)
{
	const double left = MACHINE_GIB - m->used_gib - m->n_filled;
	const struct daemon_memory memory = {
		.total_bytes = MACHINE_GIB * GIB_BYTES,
		.available_bytes = left > 0 ? (uint64_t)(left * (double)GIB_BYTES) : 0,
	};

	guard_enter();
	daemon_host_memory(m->daemon, &memory);
	guard_leave();
	host_touch(&m->daemon_host);
}

uint32_t
machine_slabs_lent(const struct machine *m)
{
	struct daemon_stats stats;

	daemon_get_stats(m->daemon, &stats);
	return stats.slabs_mapped;
}

/* --- the device --- */

static void
device_event_cb(void *arg, enum slab_event_level level, const char *text)
{
	(void)arg;
	(void)level;
	(void)text;
}

static enum measure_side
side_of(const struct machine *m)
{
	return m->is_wide ? MEASURE_WIDE : MEASURE_DEVICE;
}

/* When its slabs began to be placed, and how long it took. */
static void
watch_placements(struct machine *m)
{
	const uint64_t now_ns = m->world->clock.now_ns;

	m->n_mapping = 0;
	for (uint32_t i = 0; i < DEVICE_SLABS; i++) {
		const uint32_t state = m->arena.slabs[i].state;
		uint64_t *since_ns = &m->mapping_since_ns[i];

		if (state == SLAB_STATE_MAPPING) {
			if (*since_ns == 0)
				*since_ns = now_ns;
			m->n_mapping++;
			continue;
		}
		if (state == SLAB_STATE_MAPPED && *since_ns != 0)
			measure_placement(&m->world->measure, side_of(m), now_ns - *since_ns);
		*since_ns = 0;
	}
}

static uint64_t
device_turn(struct host *h)
{
	struct machine *m = container_of(h, struct machine, device_host);
	struct world *w = h->world;
	const uint64_t start_ns = cpu_now_ns();
	uint64_t next_ns, cpu_ns;

	guard_enter();
	next_ns = slab_device_advance(m->device, w->clock.now_ns);
	guard_leave();
	cpu_ns = cpu_now_ns() - start_ns;
	measure_turn(&w->measure, side_of(m), cpu_ns);
	if (m->is_placing || n_asked(h) != m->n_asked) {
		measure_placement_cpu(&w->measure, side_of(m), cpu_ns);
		watch_placements(m);
	}
	m->n_asked = n_asked(h);
	m->is_placing = false;
	return next_ns;
}

static void
device_heard(struct host *h, uint32_t type, uint64_t cpu_ns)
{
	struct machine *m = container_of(h, struct machine, device_host);

	if (m->n_mapping == 0 || !is_of_placement(type))
		return;
	measure_placement_cpu(&h->world->measure, side_of(m), cpu_ns);
	watch_placements(m);
	m->is_placing = true;
}

/* Other machines, each at most once; the caller's to free. */
static struct slab_portal *
portals_choose(struct machine *m, uint32_t n)
{
	struct world *w = m->world;
	const uint32_t n_others = w->opt.n_machines - 1;
	uint8_t *is_taken = guard_alloc(n_others);
	struct slab_portal *portals = guard_alloc(n * sizeof(*portals));

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = n == n_others ? i : rng_below(&w->rng, n_others);

		while (is_taken[at])
			at = (at + 1) % n_others;
		is_taken[at] = 1;
		at += at >= m->index;
		portals[i].tp = &m->device_host.tp;
		portals[i].address = w->machines[at].address;
	}
	free(is_taken);
	return portals;
}

static void *
arena_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(p != MAP_FAILED);
	return p;
}

static void
device_init(struct machine *m)
{
	struct world *w = m->world;
	struct slab_device_config c = {
		.size_bytes = DEVICE_SLABS * GIB_BYTES,
		.slab_bytes = GIB_BYTES,
		.buffer_bytes = SLAB_BUFFER_BYTES_MIN,
		.ack = SLAB_ACK_REMOTE,
		.op_timeout_ns = OP_TIMEOUT_NS,
		.connect_timeout_ns = OP_TIMEOUT_NS,
		.ping_ns = PING_NS,
		.retry_ns = NSEC_PER_SEC / 2,
		.retry_max_ns = 10 * NSEC_PER_SEC,
		.refill_rate = REFILL_RATE,
		.migrate = true,
		.migrate_rate = MIGRATE_RATE,
		.choices = w->opt.choices,
		.query_timeout_ns = OP_TIMEOUT_NS,
		.backup_writes = 64,
		.hot_slab = 20, /* with alpha and the period the paper's */
		.alpha = 0.2,
		.period_ns = NSEC_PER_SEC,
		.name = "swap0",
		.entropy = entropy_cb,
		.event = device_event_cb,
		.arg = m,
	};
	struct slab_portal *portals;
	void *buffers;
	size_t buffers_bytes;
	uint64_t start_ns;
	int r;

	host_init(&m->device_host, w, m->index, device_turn);
	m->device_host.heard = device_heard;
	m->backup.ops = &disk_ops;
	m->disk_ev.fire = disk_cb;
	list_init(&m->disk_ops);
	m->is_wide = m->index < WIDE_DEVICES && w->opt.is_wide;
	c.n_portals = m->is_wide ? w->opt.n_machines - 1 : w->opt.n_portals;
	portals = portals_choose(m, c.n_portals);
	c.portals = portals;
	c.arena = arena_map(slab_device_arena_bytes(&c));
	r = arena_layout(&m->arena, c.arena, c.size_bytes, c.slab_bytes, c.buffer_bytes);
	assert(r == 0);
	start_ns = cpu_now_ns();
	r = slab_device_new(&c, &m->backup, &m->device);
	assert(r == 0);
	if (m->is_wide)
		w->measure.wide_start_ns = cpu_now_ns() - start_ns;
	free(portals);
	(void)r;
	m->be = slab_device_backend(m->device);
	/* Zeros up to now and never looked at: their memory is the kernel's again. */
	slab_device_buffers(m->device, &buffers, &buffers_bytes);
	(void)madvise(buffers, buffers_bytes, MADV_DONTNEED);
	host_touch(&m->device_host);
}

bool
machine_io(struct machine *m, enum backend_kind kind, uint64_t offset_bytes, uint32_t n_bytes,
	   backend_done_fn *done)
{
	struct backend_io *io = backend_get(m->be, kind, offset_bytes, n_bytes);

	if (!io)
		return false;
	io->flags = 0;
	io->done = done;
	io->arg = m;
	guard_enter();
	backend_submit(m->be, io);
	guard_leave();
	host_touch(&m->device_host);
	return true;
}

void
machine_init(struct machine *m, struct world *w, uint32_t index)
{
	m->world = w;
	m->index = index;
	list_init(&m->containers);
	daemon_init(m);
	device_init(m);
}
