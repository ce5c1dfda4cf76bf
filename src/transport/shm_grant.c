/* SPDX-License-Identifier: MIT */
/*
 * A region is spent as soon as its descriptor may have reached the peer: from then on
 * the peer can keep it mapped whatever it answers.
 */
#include "transport/shm_grant.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/alloc_scope.h"
#include "transport/shm_conn.h"
#include "transport/shm_memory.h"
#include "transport/shm_packet.h"
#include "transport/shm_table.h"

#define EVENTS_PER_TURN 64

static void
schedule_event(struct tp_grant *grant)
{
	list_add_tail(&grant->conn->grant_events, &grant->event_node);
	defer_start(&grant->conn->work);
}

/* An entry for a new grant, out of the list of free ones. */
static int
take_entry(struct shm_table *t, uint32_t *ret_index)
{
	const uint32_t before = t->size;
	uint32_t i;
	int r;

	if (!t->free_head) {
		r = shm_table_grow(t, before + 1);
		if (r < 0)
			return r;
		for (i = before; i < t->size; i++)
			t->entries[i].next_free = i + 1 < t->size ? i + 2 : 0;
		t->free_head = before + 1;
	}
	*ret_index = t->free_head - 1;
	t->free_head = t->entries[*ret_index].next_free;
	return 0;
}

static void
detach(struct tp_grant *grant)
{
	struct shm_table *t = &grant->conn->table;
	const uint32_t index = shm_table_index(grant->rkey);

	t->entries[index].grant = NULL;
	t->entries[index].next_free = t->free_head;
	t->free_head = index + 1;
	atomic_fetch_sub(&grant->region->grants, 1);
	grant->region = NULL;
}

int
shm_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	      struct tp_grant **ret_grant)
{
	struct tp_grant *grant;
	struct shm_entry *entry;
	uint32_t index;
	int r;

	if (conn->is_client || region->lend == TP_LEND_NOT || shm_region_is_spent(region))
		return -EINVAL;
	if (region->lend == TP_LEND && atomic_load(&region->grants) > 0)
		return -EINVAL;
	if (conn->state != SHM_CONN_UP)
		return -ENOTCONN;
	alloc_scope_enter();
	grant = calloc(1, sizeof(*grant));
	alloc_scope_leave();
	if (!grant)
		return -ENOMEM;
	r = take_entry(&conn->table, &index);
	if (r < 0) {
		free(grant);
		return r;
	}
	entry = &conn->table.entries[index];
	/* Never 0, and another one than the last time. */
	entry->rkey = index | (entry->rkey & ~(SHM_TABLE_ENTRIES_MAX - 1));
	entry->rkey += SHM_TABLE_ENTRIES_MAX;
	if (entry->rkey < SHM_TABLE_ENTRIES_MAX)
		entry->rkey += SHM_TABLE_ENTRIES_MAX;
	entry->grant = grant;
	grant->base.tp = conn->base.tp;
	grant->conn = conn;
	grant->region = region;
	grant->rkey = entry->rkey;
	grant->event = granted;
	grant->event_arg = arg;
	list_init(&grant->event_node);
	list_add_tail(&conn->to_grant, &grant->node);
	atomic_fetch_add(&region->grants, 1);
	shm_packet_schedule(conn);
	*ret_grant = grant;
	return 0;
}

void
shm_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	assert(grant->region);
	*ret_remote = (struct tp_remote){
		.addr = SHM_GRANT_ADDR,
		.length_bytes = grant->region->length_bytes,
		.rkey = grant->rkey,
	};
}

void
shm_grant_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg)
{
	struct tp_conn *conn = grant->conn;

	assert(grant->region && !list_is_linked(&grant->node) &&
	       !list_is_linked(&grant->event_node));
	grant->event = revoked;
	grant->event_arg = arg;
	list_add_tail(&conn->to_revoke, &grant->node);
	shm_packet_schedule(conn);
}

static struct tp_grant *
first(const struct list *l)
{
	return list_is_empty(l) ? NULL : container_of(l->next, struct tp_grant, node);
}

bool
shm_grant_next(struct tp_conn *conn, struct shm_frame *ret_frame, int *ret_fd)
{
	struct tp_grant *grant = first(&conn->to_grant);

	if (!grant)
		return false;
	if (grant->region->lend == TP_LEND)
		atomic_store(&grant->region->is_spent, true);
	*ret_frame = (struct shm_frame){
		.kind = SHM_FRAME_GRANT,
		.rkey = grant->rkey,
		.value = grant->region->length_bytes,
	};
	*ret_fd = grant->region->fd;
	return true;
}

void
shm_grant_sent(struct tp_conn *conn, int status)
{
	struct tp_grant *grant = first(&conn->to_grant);

	list_del(&grant->node);
	grant->status = status;
	grant->is_sent = status == 0;
	if (status < 0)
		detach(grant);
	schedule_event(grant);
}

bool
shm_grant_next_revoke(struct tp_conn *conn, struct shm_frame *ret_frame)
{
	struct tp_grant *grant = first(&conn->to_revoke);

	if (!grant)
		return false;
	*ret_frame = (struct shm_frame){.kind = SHM_FRAME_REVOKE, .rkey = grant->rkey};
	return true;
}

/* One timer for all: it is set for the oldest. */
static void
set_revoke_timer(struct tp_conn *conn)
{
	const struct tp_grant *oldest = first(&conn->revoking);
	struct ev_loop *loop = conn->shm->loop;
	double left;

	ev_timer_stop(loop, &conn->revoke);
	if (!oldest)
		return;
	ev_now_update(loop);
	left = oldest->revoke_sent_at + conn->shm->limits.revoke_ms / 1e3 - ev_now(loop);
	ev_timer_set(&conn->revoke, left > 0. ? left : 0., 0.);
	ev_timer_start(loop, &conn->revoke);
}

void
shm_grant_revoke_sent(struct tp_conn *conn)
{
	struct tp_grant *grant = first(&conn->to_revoke);

	list_del(&grant->node);
	list_add_tail(&conn->revoking, &grant->node);
	ev_now_update(conn->shm->loop);
	grant->revoke_sent_at = ev_now(conn->shm->loop);
	if (first(&conn->revoking) == grant)
		set_revoke_timer(conn);
}

void
shm_grant_answered(struct tp_conn *conn, uint32_t rkey)
{
	struct shm_entry *entry = shm_table_at(&conn->table, rkey);
	struct tp_grant *grant = entry ? entry->grant : NULL;
	struct list *node;

	/* Only what was asked for: it waits among the revoking ones. */
	list_foreach (node, &conn->revoking) {
		if (!grant || grant->rkey != rkey)
			break;
		if (node != &grant->node)
			continue;
		list_del(&grant->node);
		set_revoke_timer(conn);
		detach(grant);
		schedule_event(grant);
		return;
	}
	shm_conn_violation(conn, "REVOKED of what was not revoked");
}

bool
shm_grants_run_events(struct tp_conn *conn)
{
	int i;

	for (i = 0; i < EVENTS_PER_TURN; i++) {
		struct list *node;
		struct tp_grant *grant;
		bool is_over;

		if (conn->state == SHM_CONN_ENDING)
			return false;
		node = list_pop_head(&conn->grant_events);
		if (!node)
			return false;
		grant = container_of(node, struct tp_grant, event_node);
		is_over = !grant->region;
		grant->event(grant->event_arg, grant, grant->status);
		if (is_over)
			free(grant);
	}
	return !list_is_empty(&conn->grant_events);
}

uint64_t
shm_grants_held_bytes(const struct tp_conn *conn)
{
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < conn->table.size; i++) {
		const struct tp_grant *grant = conn->table.entries[i].grant;

		if (grant && grant->is_sent && grant->region->lend == TP_LEND)
			bytes += grant->region->length_bytes;
	}
	return bytes;
}

void
shm_grants_free_all(struct tp_conn *conn)
{
	struct list *node;
	uint32_t i;

	for (i = 0; i < conn->table.size; i++) {
		struct tp_grant *grant = conn->table.entries[i].grant;

		if (!grant)
			continue;
		list_del(&grant->node);
		list_del(&grant->event_node);
		detach(grant);
		free(grant);
	}
	while ((node = list_pop_head(&conn->grant_events)))
		free(container_of(node, struct tp_grant, event_node));
}
