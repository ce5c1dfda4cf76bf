/* SPDX-License-Identifier: MIT */
/* The daemon as a whole: its slots for connections, its timers, its end. */
#include "daemon/daemon.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core.h"
#include "transport/transport.h"

/* Far below where now_ns + a timeout could wrap. */
#define TIMEOUT_NS_MAX (UINT64_C(1) << 62)

void
daemon_report(struct daemon *d, enum daemon_event event, const char *fmt, ...)
{
	char text[DAEMON_EVENT_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->config.event(d->config.event_arg, event, text);
}

static void
pool_touched_cb(void *arg)
{
	((struct daemon *)arg)->touched = true;
}

static void
pool_ready_cb(void *arg)
{
	struct daemon *d = arg;

	const uint32_t held = pool_held(d->pool);

	if (held == d->config.max_slabs)
		daemon_report(d, DAEMON_EVENT_POOL_READY, "pool: all %u slabs are filled", held);
	else
		daemon_report(d, DAEMON_EVENT_POOL_READY,
			      "pool: %u of %u slabs are filled, the machine has no memory for more",
			      held, d->config.max_slabs);
}

static void
pool_failed_cb(void *arg, enum slab_memory_request request, uint32_t slot, int status)
{
	struct daemon *d = arg;

	if (request == SLAB_MEMORY_FILL)
		daemon_report(d, DAEMON_EVENT_MEMORY_FAILED,
			      "pool: cannot fill slab %u of %u, will try again: %s", slot,
			      d->config.max_slabs, strerror(-status));
	else
		daemon_report(
			d, DAEMON_EVENT_MEMORY_FAILED, "pool: cannot %s slab %u, it is lost: %s",
			request == SLAB_MEMORY_ZERO ? "zero" : "drop", slot, strerror(-status));
}

static bool
config_is_valid(const struct daemon_config *config)
{
	return config->slab_bytes > 0 && config->max_slabs > 0 &&
	       config->max_slabs <= DAEMON_SLABS_MAX && config->max_slabs_client > 0 &&
	       config->beta_milli > 0 && config->beta_milli <= 1000 && config->max_clients > 0 &&
	       config->extra_choices <= DAEMON_EXTRA_CHOICES_MAX && config->evict_deadline_ns > 0 &&
	       config->evict_deadline_ns <= TIMEOUT_NS_MAX &&
	       config->max_clients <= DAEMON_CLIENTS_MAX && config->hello_timeout_ns > 0 &&
	       config->hello_timeout_ns <= TIMEOUT_NS_MAX && config->client_timeout_ns > 0 &&
	       config->client_timeout_ns <= TIMEOUT_NS_MAX &&
	       config->psk.length_bytes <= AUTH_PSK_BYTES_MAX && config->event &&
	       (config->psk.length_bytes == 0 || config->entropy);
}

int
daemon_new(const struct daemon_config *config, struct slab_memory *memory,
	   struct daemon **ret_daemon)
{
	struct pool_events events = {
		.touched = pool_touched_cb,
		.ready = pool_ready_cb,
		.failed = pool_failed_cb,
	};
	struct daemon *d;
	uint32_t slots;
	int r;

	assert(config && memory && ret_daemon);
	if (!config_is_valid(config))
		return -EINVAL;
	slots = config->max_clients + DAEMON_SPARE_CONNECTIONS;
	d = calloc(1, sizeof(*d) + slots * sizeof(d->slots[0]));
	if (!d)
		return -ENOMEM;
	events.arg = d;
	r = pool_new(config->max_slabs, memory, &events, &d->pool);
	if (r < 0) {
		free(d);
		return r;
	}
	d->config = *config;
	monitor_init(&d->monitor,
		     &(struct monitor_config){.slab_bytes = config->slab_bytes,
					      .headroom_bytes = config->headroom_bytes,
					      .beta_milli = config->beta_milli,
					      .psi_limit_centi = config->psi_limit_centi});
	eviction_init(&d->eviction, config->seed);
	d->touched = true;
	d->slot_count = slots;
	timers_init(&d->hello_timers, config->hello_timeout_ns);
	timers_init(&d->client_timers, config->client_timeout_ns);
	timers_init(&d->linger_timers, CLIENT_REFUSED_LINGER_NS);
	list_init(&d->connections);
	list_init(&d->free_slots);
	for (uint32_t i = 0; i < slots; i++) {
		d->slots[i].daemon = d;
		d->slots[i].index = i;
		list_init(&d->slots[i].slabs);
		timer_init(&d->slots[i].timer);
		list_add_tail(&d->free_slots, &d->slots[i].node);
	}
	*ret_daemon = d;
	return 0;
}

struct daemon *
daemon_free(struct daemon *d)
{
	if (!d)
		return NULL;
	assert(list_is_empty(&d->connections));
	(void)pool_free(d->pool);
	explicit_bzero(&d->config.psk, sizeof(d->config.psk));
	free(d);
	return NULL;
}

void
daemon_incoming(void *daemon, struct tp_conn *conn)
{
	struct daemon *d = daemon;

	d->touched = true;
	if (d->stopping) {
		tp_close(conn);
		return;
	}
	if (list_is_empty(&d->free_slots)) {
		daemon_report(d, DAEMON_EVENT_REJECTED, "client[%s]: not served (%u connections)",
			      tp_conn_name(conn), d->slot_count);
		tp_close(conn);
		return;
	}
	client_accept(container_of(d->free_slots.next, struct client, node), conn);
}

static void
begin_stop(struct daemon *d)
{
	struct list *n, *tmp;

	d->stopping = true;
	d->touched = true;
	list_foreach_safe (n, tmp, &d->connections) {
		client_end(container_of(n, struct client, node), "the daemon is stopping");
	}
	pool_stop(d->pool);
}

static void
advance_drain(struct daemon *d, uint64_t now_ns, uint64_t *next_ns)
{
	const uint32_t lent = pool_count(d->pool, POOL_SLAB_GRANTING) +
			      pool_count(d->pool, POOL_SLAB_GRANTED) +
			      pool_count(d->pool, POOL_SLAB_REVOKING);

	if (!d->is_draining || d->stopping)
		return;
	if (d->drain_ns == 0)
		d->drain_ns = now_ns + d->drain_timeout_ns;
	if (lent == 0 || d->drain_ns <= now_ns)
		begin_stop(d);
	else if (d->drain_ns < *next_ns)
		*next_ns = d->drain_ns;
}

static bool
is_stopped(const struct daemon *d)
{
	return d->stopping && list_is_empty(&d->connections) && pool_is_stopped(d->pool);
}

static void
expire_timers(struct timers *queue, uint64_t now_ns, uint64_t *next_ns)
{
	struct timer *t;

	while ((t = timers_due(queue, now_ns, next_ns)) != NULL)
		client_expire(container_of(t, struct client, timer));
}

/* Looks at every client, so it runs when a number can have changed, and not often. */
static void
push_free_mem(struct daemon *d, uint64_t now_ns, uint64_t *next_ns)
{
	const uint32_t ready = d->monitor.is_short ? 0 : pool_ready(d->pool);
	struct list *n, *tmp;

	if (ready == d->push_ready && !d->quotas_changed)
		return;
	if (now_ns < d->push_ns) {
		*next_ns = d->push_ns < *next_ns ? d->push_ns : *next_ns;
		return;
	}
	d->push_ready = ready;
	d->quotas_changed = false;
	list_foreach_safe (n, tmp, &d->connections) {
		if (client_push_free_mem(container_of(n, struct client, node)))
			d->push_ns = now_ns + CLIENT_PUSH_INTERVAL_NS;
	}
}

uint64_t
daemon_advance(struct daemon *d, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	void (*stopped)(void *arg);

	if (!d->touched && now_ns < d->next_ns)
		return d->next_ns;
	d->touched = false;
	advance_drain(d, now_ns, &next_ns);
	eviction_advance(d, now_ns, &next_ns);
	pool_advance(d->pool, now_ns, &next_ns);
	expire_timers(&d->hello_timers, now_ns, &next_ns);
	expire_timers(&d->client_timers, now_ns, &next_ns);
	expire_timers(&d->linger_timers, now_ns, &next_ns);
	push_free_mem(d, now_ns, &next_ns);
	d->next_ns = next_ns;
	stopped = d->stopped;
	if (stopped && is_stopped(d)) {
		d->stopped = NULL;
		stopped(d->stopped_arg);
	}
	return next_ns;
}

static void
report_shortage(struct daemon *d, bool was_short, uint32_t excess)
{
	const struct monitor *m = &d->monitor;

	if (m->is_short && !was_short)
		daemon_report(d, DAEMON_EVENT_SHORT,
			      "memory: %" PRIu64 " MiB available, the headroom is %" PRIu64
			      " MiB: %u slabs have to go",
			      m->available_bytes >> 20, m->headroom_bytes >> 20, excess);
	else if (was_short && !m->is_short)
		daemon_report(d, DAEMON_EVENT_RELIEVED,
			      "memory: %" PRIu64 " MiB available, enough again",
			      m->available_bytes >> 20);
}

void
daemon_host_memory(struct daemon *d, const struct daemon_memory *memory)
{
	const uint32_t lost = pool_count(d->pool, POOL_SLAB_LOST);
	const bool was_short = d->monitor.is_short;
	uint32_t target;
	const struct monitor_slabs slabs = {
		.max = d->config.max_slabs - lost,
		.held = pool_held(d->pool),
		.filling = pool_count(d->pool, POOL_SLAB_FILLING),
		.free = pool_count(d->pool, POOL_SLAB_FREE),
	};

	target = monitor_target(&d->monitor, memory, &slabs);
	d->touched = true;
	if (d->is_draining)
		return;
	pool_set_target(d->pool, target);
	report_shortage(d, was_short, slabs.held > target ? slabs.held - target : 0);
}

/*
 * What everything else uses, and what is lent now.  Slabs that nobody has do not
 * count, else every daemon whose pool has grown to the headroom would look equally full.
 * A daemon that knows nothing of its host says how much of what it has is lent.
 */
uint32_t
daemon_usage_permille(const struct daemon *d)
{
	const uint64_t lent = pool_count(d->pool, POOL_SLAB_GRANTING) +
			      pool_count(d->pool, POOL_SLAB_GRANTED) +
			      pool_count(d->pool, POOL_SLAB_REVOKING);
	uint64_t used = lent, total = d->config.max_slabs;

	if (d->monitor.has_sample) {
		used = d->monitor.others_bytes + lent * d->config.slab_bytes;
		total = d->monitor.total_bytes;
	}
	if (used >= total)
		return CTL_USAGE_PERMILLE_MAX;
	return (uint32_t)(used * CTL_USAGE_PERMILLE_MAX / total);
}

void
daemon_drain(struct daemon *d, uint64_t timeout_ns, void (*done)(void *arg), void *arg)
{
	assert(!d->stopping && !d->is_draining && done && timeout_ns <= TIMEOUT_NS_MAX);
	d->is_draining = true;
	d->drain_timeout_ns = timeout_ns;
	d->stopped = done;
	d->stopped_arg = arg;
	d->touched = true;
	pool_set_target(d->pool, 0);
}

void
daemon_stop(struct daemon *d, void (*done)(void *arg), void *arg)
{
	assert(done);
	if (d->stopping)
		return;
	if (!d->is_draining) {
		d->stopped = done;
		d->stopped_arg = arg;
	}
	begin_stop(d);
}

void
daemon_get_stats(const struct daemon *d, struct daemon_stats *ret_stats)
{
	*ret_stats = d->counters;
	ret_stats->slabs_max = d->config.max_slabs;
	ret_stats->slabs_free = pool_count(d->pool, POOL_SLAB_FREE);
	ret_stats->slabs_mapped = pool_count(d->pool, POOL_SLAB_GRANTED);
	ret_stats->slabs_empty = pool_count(d->pool, POOL_SLAB_EMPTY);
	ret_stats->slabs_lost = pool_count(d->pool, POOL_SLAB_LOST);
	ret_stats->slabs_pending = d->config.max_slabs - ret_stats->slabs_free -
				   ret_stats->slabs_mapped - ret_stats->slabs_empty -
				   ret_stats->slabs_lost;
	ret_stats->slabs_evicting = eviction_pending(d);
	ret_stats->slabs_target = pool_target(d->pool);
	ret_stats->has_memory = d->monitor.has_sample;
	ret_stats->is_short = d->monitor.is_short;
	ret_stats->memory_total_bytes = d->monitor.total_bytes;
	ret_stats->memory_available_bytes = d->monitor.available_bytes;
	ret_stats->memory_free_bytes = d->monitor.free_bytes;
	ret_stats->headroom_bytes = d->monitor.headroom_bytes;
	ret_stats->usage_permille = daemon_usage_permille(d);
}

bool
daemon_get_client(const struct daemon *d, uint32_t index, struct daemon_client_info *ret_info)
{
	const struct list *n;

	list_foreach (n, &d->connections) {
		const struct client *c = (const struct client *)(const void *)n;

		if (!c->has_joined || index-- > 0)
			continue;
		ret_info->conn_name = tp_conn_name(c->conn);
		ret_info->device = c->device;
		ret_info->slabs = c->slab_count;
		return true;
	}
	return false;
}
