/* SPDX-License-Identifier: MIT */
/*
 * pool.h - the slabs a daemon has, and what may be done with each.
 *
 *   EMPTY -> FILLING -> FREE -> GRANTING -> GRANTED -> REVOKING -> DIRTY -> ZEROING -> FREE
 *
 * GRANTING also goes back to FREE (never reachable by anybody) and, like GRANTED,
 * straight to DIRTY (the connection is down).  FREE and DIRTY go to DROPPING and
 * EMPTY while more slabs hold memory than the target allows.  LOST is the end for memory that could not be zeroed
 * or dropped.  Only FREE slabs are handed out, and only a finished FILL or ZERO
 * makes a slab FREE: nobody reads what another client wrote.
 *
 * Every transition is made in pool.c.  Memory requests go out here too, a few at
 * a time: slabs to drop, then slabs to zero, then slabs to fill.
 */
#ifndef DAEMON_POOL_H
#define DAEMON_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "daemon/eviction.h"
#include "daemon/slab_memory.h"

struct client;
struct pool;
struct tp_grant;

/* Memory requests outstanding at a time. */
#define POOL_REQUESTS_MAX 2u

enum pool_slab_state {
	POOL_SLAB_EMPTY = 1, /* no memory */
	POOL_SLAB_FILLING,   /* waits for FILL */
	POOL_SLAB_FREE,	     /* zeroed, reachable by nobody */
	POOL_SLAB_GRANTING,  /* waits for granted() */
	POOL_SLAB_GRANTED,   /* the client may reach it */
	POOL_SLAB_REVOKING,  /* waits for revoked() or down() */
	POOL_SLAB_DIRTY,     /* reachable by nobody, waits for its turn */
	POOL_SLAB_ZEROING,   /* waits for ZERO */
	POOL_SLAB_DROPPING,  /* waits for DROP */
	POOL_SLAB_LOST,
	POOL_SLAB_STATES,
};

struct pool_slab {
	struct list node; /* its client's list while it has a client, else the pool's */
	enum pool_slab_state state;
	uint32_t slot;
	/* The mapping: the client's words for it, while it has a client. */
	struct client *client;
	uint32_t client_index;
	uint32_t slab;
	uint32_t generation;
	struct pool_slab *hash_next;
	/* lending.c's */
	struct tp_grant *grant;
	uint32_t map_request_id;
	uint32_t unmap_request_id; /* 0: nobody asked */
	/* eviction.c's, while a batch has it */
	struct eviction_batch *evict_batch;
	struct list evict_node;
	enum eviction_step evict_step;
	uint32_t evict_request_id; /* not answered yet; 0: none */
	uint64_t milli_activity;
	/* pool.c's: where it stands among the drawable ones */
	uint32_t draw_index;
};

struct pool_events {
	void *arg;
	/* Something changed: advance soon. */
	void (*touched)(void *arg);
	/* As many slabs have been filled as the target allows; once. */
	void (*ready)(void *arg);
	void (*failed)(void *arg, enum slab_memory_request request, uint32_t slot, int status);
};

/* @slots slabs, all EMPTY; @memory and what @events points to outlive the pool.  -ENOMEM. */
int pool_new(uint32_t slots, struct slab_memory *memory, const struct pool_events *events,
	     struct pool **ret_pool);
/* No request is outstanding.  NULL is a no-op.  Returns NULL. */
struct pool *pool_free(struct pool *p);

/* Starts what may start; lowers *@next_ns to when it must be called again. */
void pool_advance(struct pool *p, uint64_t now_ns, uint64_t *next_ns);

/* How many slabs may hold memory; at first all. */
void pool_set_target(struct pool *p, uint32_t target);
uint32_t pool_target(const struct pool *p);
/* Slabs that hold memory: all but EMPTY and LOST. */
uint32_t pool_held(const struct pool *p);
/* Slabs that hold memory beyond the target and are not being dropped yet. */
uint32_t pool_excess(const struct pool *p);
/* Slabs that pool_take() can give: FREE ones that need not go. */
uint32_t pool_ready(const struct pool *p);

/*
 * pool_take - FREE -> GRANTING, for @slab of @client.  NULL: none is ready.
 * @client_index tells clients apart together with nothing else; the pair with
 * @slab is not in the pool.  The slab's node is unlinked: the client's to use.
 */
struct pool_slab *pool_take(struct pool *p, struct client *client, uint32_t client_index,
			    uint32_t slab, uint32_t generation);
/* The slab that @client_index knows as @slab, or NULL. */
struct pool_slab *pool_find(const struct pool *p, uint32_t client_index, uint32_t slab);
/* GRANTING -> FREE: it never became reachable. */
void pool_untake(struct pool *p, struct pool_slab *s);
/* GRANTING -> GRANTED. */
void pool_granted(struct pool *p, struct pool_slab *s);
/* GRANTED -> REVOKING. */
void pool_revoking(struct pool *p, struct pool_slab *s);
/* GRANTING, GRANTED, REVOKING -> DIRTY: nobody can reach it any more. */
void pool_reclaim(struct pool *p, struct pool_slab *s);

/* GRANTED slabs that can be drawn for eviction: all that have not been. */
uint32_t pool_drawable(const struct pool *p);
/* The @nth of them, in no order; from now on it is none of them, until pool_undraw(). */
struct pool_slab *pool_draw(struct pool *p, uint32_t nth);
/* @s is GRANTED and has been drawn. */
void pool_undraw(struct pool *p, struct pool_slab *s);

/* From now on the target is 0. */
void pool_stop(struct pool *p);
/* Stopping, and every slab is EMPTY or LOST. */
bool pool_is_stopped(const struct pool *p);

uint32_t pool_count(const struct pool *p, enum pool_slab_state state);
struct tp_region *pool_region(const struct pool *p, const struct pool_slab *s, struct tp *tp);

#endif /* DAEMON_POOL_H */
