/* SPDX-License-Identifier: MIT */
/*
 * A slab is lent and taken back here.
 *
 *   MAP -> pool_take() -> tp_grant() -> granted() -> MR_INFO
 *   UNMAP -> tp_revoke() -> revoked() -> pool_reclaim() -> UNMAPPED
 *   eviction -> tp_revoke() -> revoked() -> pool_reclaim()
 *
 * UNMAP before granted() waits for it: MR_INFO still goes out, then UNMAPPED.  A
 * revocation that fails leaves the slab with the client until down().  Between
 * tp_close() and down() the callbacks may come or not; they only note the state.
 */
#include "daemon/lending.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "daemon/core.h"
#include "daemon/eviction.h"
#include "transport/transport.h"

static void
give_back(struct client *c, struct pool_slab *s)
{
	assert(c->slab_count > 0);
	eviction_forget(s);
	list_del(&s->node);
	c->slab_count--;
	c->daemon->quotas_changed = true;
	pool_reclaim(c->daemon->pool, s);
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct pool_slab *s = arg;
	struct client *c = s->client;
	struct ctl_msg answer = {
		.type = CTL_UNMAPPED,
		.request_id = s->unmap_request_id,
		.u.unmap = {.slab = s->slab, .generation = s->generation},
	};

	assert(s->grant == grant);
	(void)grant;
	c->daemon->touched = true;
	if (status < 0) {
		client_end(c, "cannot revoke slab %u: %s", s->slab, strerror(-status));
		return;
	}
	give_back(c, s);
	if (answer.request_id == 0) /* evicted: the client has said DONE, or nothing */
		return;
	c->daemon->counters.unmaps_total++;
	client_send(c, &answer);
}

static void
revoke(struct client *c, struct pool_slab *s)
{
	eviction_forget(s);
	pool_revoking(c->daemon->pool, s);
	tp_revoke(s->grant, revoked_cb, s);
}

void
lending_evict(struct client *c, struct pool_slab *s)
{
	c->daemon->counters.evictions_total++;
	revoke(c, s);
}

static void
send_mr_info(struct client *c, const struct pool_slab *s)
{
	struct ctl_msg answer = {.type = CTL_MR_INFO, .request_id = s->map_request_id};
	struct tp_remote remote;

	tp_grant_remote(s->grant, &remote);
	answer.u.mr_info.slab = s->slab;
	answer.u.mr_info.generation = s->generation;
	answer.u.mr_info.addr = remote.addr;
	answer.u.mr_info.length_bytes = remote.length_bytes;
	answer.u.mr_info.rkey = remote.rkey;
	c->daemon->counters.maps_total++;
	client_send(c, &answer);
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct pool_slab *s = arg;
	struct client *c = s->client;
	uint32_t request_id = s->map_request_id;
	uint32_t unmap_request_id = s->unmap_request_id;
	uint32_t slab = s->slab;

	assert(s->grant == grant);
	(void)grant;
	c->daemon->touched = true;
	if (status < 0) {
		/* The bind was posted, so the memory counts as touched. */
		give_back(c, s);
		client_refuse(c, request_id, CTL_REASON_NO_MEMORY, "cannot grant the slab: %s",
			      strerror(-status));
		if (unmap_request_id)
			client_refuse(c, unmap_request_id, CTL_REASON_BAD_SLAB,
				      "slab %u was not granted", slab);
		return;
	}
	pool_granted(c->daemon->pool, s);
	if (c->state != CLIENT_SERVING)
		return;
	send_mr_info(c, s);
	if (unmap_request_id && c->state == CLIENT_SERVING)
		revoke(c, s);
}

static void
report_quota(struct client *c)
{
	if (!c->is_quota_told)
		daemon_report(c->daemon, DAEMON_EVENT_MISBEHAVED,
			      "client[%s]: asks for more than its %u slabs; said once",
			      tp_conn_name(c->conn), c->daemon->config.max_slabs_client);
	c->is_quota_told = true;
}

/* Whether @msg, a MAP, cannot be granted whatever the pool has; the client has been told. */
static bool
refuse_map(struct client *c, const struct ctl_msg *msg)
{
	struct daemon *d = c->daemon;
	const struct pool_slab *s = pool_find(d->pool, c->index, msg->u.map.slab);

	if (d->is_draining) {
		client_refuse(c, msg->request_id, CTL_REASON_STOPPING, "the daemon is stopping");
		return true;
	}
	if (s && s->state == POOL_SLAB_REVOKING && !s->unmap_request_id) {
		client_refuse(c, msg->request_id, CTL_REASON_NO_MEMORY,
			      "slab %u is on its way back", msg->u.map.slab);
		return true;
	}
	if (s) {
		client_refuse(c, msg->request_id, CTL_REASON_BAD_SLAB, "slab %u is mapped already",
			      msg->u.map.slab);
		return true;
	}
	if (c->slab_count >= d->config.max_slabs_client) {
		report_quota(c);
		client_refuse(c, msg->request_id, CTL_REASON_QUOTA, "%u slabs is all a client gets",
			      d->config.max_slabs_client);
		return true;
	}
	if (d->monitor.is_short) {
		client_refuse(c, msg->request_id, CTL_REASON_NO_MEMORY,
			      "the machine is short of memory itself");
		return true;
	}
	return false;
}

void
lending_map(struct client *c, const struct ctl_msg *msg)
{
	struct daemon *d = c->daemon;
	struct tp_region *region;
	struct pool_slab *s;
	int r;

	if (msg->u.map.generation == 0) {
		client_protocol_error(c, "MAP of slab %u with generation 0", msg->u.map.slab);
		return;
	}
	if (refuse_map(c, msg))
		return;
	s = pool_take(d->pool, c, c->index, msg->u.map.slab, msg->u.map.generation);
	if (!s) {
		client_refuse(c, msg->request_id, CTL_REASON_NO_MEMORY, "%u of %u slabs are lent",
			      pool_count(d->pool, POOL_SLAB_GRANTED), d->config.max_slabs);
		return;
	}
	s->map_request_id = msg->request_id;
	region = pool_region(d->pool, s, tp_of(c->conn));
	r = region ? tp_grant(c->conn, region, granted_cb, s, &s->grant) : -ENODEV;
	if (r < 0) {
		pool_untake(d->pool, s);
		client_refuse(c, msg->request_id, CTL_REASON_NO_MEMORY, "cannot grant a slab: %s",
			      strerror(-r));
		return;
	}
	list_add_tail(&c->slabs, &s->node);
	c->slab_count++;
	d->quotas_changed = true;
}

void
lending_unmap(struct client *c, const struct ctl_msg *msg)
{
	struct pool_slab *s = pool_find(c->daemon->pool, c->index, msg->u.unmap.slab);

	if (!s || s->generation != msg->u.unmap.generation || s->unmap_request_id) {
		client_refuse(c, msg->request_id, CTL_REASON_BAD_SLAB,
			      "slab %u generation %u is not mapped", msg->u.unmap.slab,
			      msg->u.unmap.generation);
		return;
	}
	s->unmap_request_id = msg->request_id;
	if (s->state == POOL_SLAB_GRANTED)
		revoke(c, s);
}

uint32_t
lending_free_slabs(const struct client *c)
{
	const struct daemon *d = c->daemon;
	uint32_t free_slabs = d->monitor.is_short ? 0 : pool_ready(d->pool);
	uint32_t quota = d->config.max_slabs_client - c->slab_count;

	return free_slabs < quota ? free_slabs : quota;
}

uint32_t
lending_reclaim_all(struct client *c)
{
	uint32_t count = c->slab_count;

	while (!list_is_empty(&c->slabs))
		give_back(c, container_of(c->slabs.next, struct pool_slab, node));
	assert(c->slab_count == 0);
	return count;
}
