/* SPDX-License-Identifier: MIT */
/*
 * Grants are a table per connection.  Revoking is immediate: the loop is what
 * touches the memory, so when tp_revoke() returns nothing does any more, and
 * only the callback waits for the next turn.
 */
#include "transport/tcp_grant.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#include "transport/tcp_conn.h"
#include "transport/tcp_rx.h"
#include "transport/tcp_tx.h"

#define INDEX_BITS 16u
#define ENTRIES_MAX (1u << INDEX_BITS)
#define ENTRIES_FIRST 64u
#define EVENTS_PER_TURN 64

struct tcp_grant_entry {
	struct tp_grant *grant; /* NULL: free */
	uint32_t next_free;	/* index + 1; 0: none */
	uint16_t salt;		/* of the last use */
};

static int
grow(struct tcp_grants *g)
{
	uint32_t size = g->size ? g->size * 2 : ENTRIES_FIRST;
	struct tcp_grant_entry *entries;
	uint32_t i;

	if (g->size == ENTRIES_MAX)
		return -ENOMEM;
	entries = realloc(g->entries, size * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (i = g->size; i < size; i++)
		entries[i] = (struct tcp_grant_entry){.next_free = i + 1 < size ? i + 2 : 0};
	g->free_head = g->size + 1; /* the list was empty */
	g->entries = entries;
	g->size = size;
	return 0;
}

/* Two uses of one entry in a row never get the same salt, and none gets 0. */
static uint16_t
next_salt(uint16_t last, uint16_t random)
{
	uint16_t salt = random;

	while (salt == 0 || salt == last)
		salt++;
	return salt;
}

static void
schedule_event(struct tp_grant *grant, tp_grant_fn *fn, void *arg)
{
	grant->event = fn;
	grant->event_arg = arg;
	list_add_tail(&grant->conn->grant_events, &grant->event_node);
	defer_start(&grant->conn->work);
}

int
tcp_grant_new(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	      struct tp_grant **ret_grant)
{
	struct tcp_grants *g = &conn->grants;
	struct {
		uint64_t addr;
		uint16_t salt;
	} random;
	struct tcp_grant_entry *entry;
	struct tp_grant *grant;
	uint32_t index;

	if (conn->is_client || !region->lend)
		return -EINVAL;
	if (conn->state != TCP_CONN_UP)
		return -ENOTCONN;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	if (!g->free_head && grow(g) < 0)
		return -ENOMEM;
	grant = calloc(1, sizeof(*grant));
	if (!grant)
		return -ENOMEM;

	index = g->free_head - 1;
	entry = &g->entries[index];
	g->free_head = entry->next_free;
	entry->grant = grant;
	entry->salt = next_salt(entry->salt, random.salt);
	grant->base.tp = conn->base.tp;
	grant->conn = conn;
	grant->region = region;
	/* 47 bits and page aligned, as an address of ours would be. */
	grant->addr = (random.addr & UINT64_C(0x7fffffffffff)) & ~UINT64_C(4095);
	grant->rkey = index | (uint32_t)entry->salt << INDEX_BITS;
	list_init(&grant->event_node);
	atomic_fetch_add(&region->grants, 1);
	schedule_event(grant, granted, arg);
	*ret_grant = grant;
	return 0;
}

void
tcp_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	assert(grant->region);
	*ret_remote = (struct tp_remote){
		.addr = grant->addr,
		.length_bytes = grant->region->length_bytes,
		.rkey = grant->rkey,
	};
}

int
tcp_grant_find(struct tp_conn *conn, const struct frame *frame, struct tp_grant **ret_grant,
	       uint8_t **ret_mem)
{
	uint32_t index = frame->rkey & (ENTRIES_MAX - 1);
	struct tp_grant *grant;
	uint64_t offset;

	if (index >= conn->grants.size)
		return -EACCES;
	grant = conn->grants.entries[index].grant;
	if (!grant || grant->rkey != frame->rkey || frame->addr < grant->addr)
		return -EACCES;
	if (frame->kind == FRAME_WRITE && grant->region->lend == TP_LEND_READ)
		return -EACCES;
	offset = frame->addr - grant->addr;
	if (offset > grant->region->length_bytes ||
	    frame->length_bytes > grant->region->length_bytes - offset)
		return -EACCES;
	*ret_grant = grant;
	*ret_mem = grant->region->mem + offset;
	return 0;
}

/* Out of the table; the grant itself lives until its last event has run. */
static void
detach(struct tp_conn *conn, struct tp_grant *grant)
{
	uint32_t index = grant->rkey & (ENTRIES_MAX - 1);

	conn->grants.entries[index].grant = NULL;
	conn->grants.entries[index].next_free = conn->grants.free_head;
	conn->grants.free_head = index + 1;
	atomic_fetch_sub(&grant->region->grants, 1);
	grant->region = NULL;
}

void
tcp_grant_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg)
{
	struct tp_conn *conn = grant->conn;

	assert(grant->region && !list_is_linked(&grant->event_node));
	if (conn->state != TCP_CONN_ENDING) {
		tcp_rx_forget_grant(conn, grant);
		if (grant->answers > 0 && tcp_tx_forget_grant(conn, grant))
			tcp_conn_linger(conn);
	}
	detach(conn, grant);
	schedule_event(grant, revoked, arg);
}

bool
tcp_grant_run_events(struct tp_conn *conn)
{
	int i;

	for (i = 0; i < EVENTS_PER_TURN; i++) {
		struct list *node;
		struct tp_grant *grant;
		bool is_revoked;

		if (conn->state == TCP_CONN_ENDING)
			return false;
		node = list_pop_head(&conn->grant_events);
		if (!node)
			return false;
		grant = container_of(node, struct tp_grant, event_node);
		is_revoked = !grant->region;
		grant->event(grant->event_arg, grant, 0);
		if (is_revoked)
			free(grant);
	}
	return !list_is_empty(&conn->grant_events);
}

void
tcp_grant_free_all(struct tp_conn *conn)
{
	struct list *node;
	uint32_t i;

	for (i = 0; i < conn->grants.size; i++) {
		struct tp_grant *grant = conn->grants.entries[i].grant;

		if (!grant)
			continue;
		list_del(&grant->event_node);
		detach(conn, grant);
		free(grant);
	}
	while ((node = list_pop_head(&conn->grant_events)))
		free(container_of(node, struct tp_grant, event_node));
	free(conn->grants.entries);
	conn->grants = (struct tcp_grants){0};
}
