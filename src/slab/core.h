/* SPDX-License-Identifier: MIT */
/*
 * core.h - the device core's state, seen only inside src/slab.
 *
 * Who owns what:
 *   device.c      the loop of the core: advance, stop, statistics
 *   pieces.c      the pools; get and put of pieces and buffers
 *   read_path.c   where a page's newest copy is, and fetching it; promotion
 *   write_path.c  the two copies of a write, its answer, its buffer
 *   backup_queue.c  writes that wait until the backup takes more
 *   supersede.c   writes that need not get to the backup any more
 *   range_path.c  TRIM and ZERO
 *   flush_path.c  the order of writes, flushes and durability
 *   slab_table.c  every transition of a slab's state
 *   slab_homes.c  where a slab's pages are, also while it moves
 *   activity.c    how much each slab is used, and so which are mapped
 *   placement.c   which daemon a slab is mapped on
 *   remote.c      every transition of a daemon's session
 *   remote_queue.c  which daemons a turn looks at
 *   membership.c  which daemons there are: joining, leaving
 *   health.c      how a daemon that is up is doing; probes of its memory
 *   hedge.c       reads that a daemon is slow to answer
 *   throttle.c    answers that are held back while the backup is behind
 *   repair.c      degraded pages and backup retries
 *   lost.c        pages that are lost, where there is no backup
 *   homeless.c    writes that no daemon and no backup takes
 *   evict.c       giving a slab back to its daemon
 *   migrate.c     moving it to another one instead
 *   fill.c        pages that are copied to remote memory in the background
 */
#ifndef SLAB_CORE_H
#define SLAB_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/histogram.h"
#include "common/list.h"
#include "common/page.h"
#include "common/probe.h"
#include "common/rng.h"
#include "nbd_server/backend.h"
#include "slab/activity.h"
#include "slab/arena.h"
#include "slab/backup.h"
#include "slab/backup_queue.h"
#include "slab/buffer_pool.h"
#include "slab/core_timer.h"
#include "slab/device.h"
#include "slab/evict.h"
#include "slab/fill.h"
#include "slab/health.h"
#include "slab/hedge.h"
#include "slab/homeless.h"
#include "slab/migrate.h"
#include "slab/page_order.h"
#include "slab/placement.h"
#include "slab/remote_queue.h"
#include "slab/throttle.h"
#include "transport/transport.h"
#include "wire/ctl.h"

#define RANGE_BLOCKS_MAX (BACKEND_RANGE_BYTES_MAX / BLOCK_BYTES + 1)
#define RANGES_MAX 16u
#define FLUSHES_MAX 256u
/* Of the buffer pool, kept for reads: writes wait for the backup, reads need not. */
#define READ_RESERVE_DIVISOR 8u
/* MAPs that one daemon has not answered; well below what a connection queues. */
#define MAPS_PENDING_MAX 16u
/* An operation waits this many op_timeouts at most, however well those before it go. */
#define OP_AGE_TIMEOUTS 16u
/* A MAP is answered within this many op_timeouts: it queues behind pages, and is not urgent. */
#define MAP_ANSWER_TIMEOUTS 4u
/* Between two tries to bring pages to a backup that failed. */
#define BACKUP_RETRY_NS (1 * NSEC_PER_SEC)
/* At stop: tries before pages are given up, loudly. */
#define STOP_RETRIES_MAX 5u
/* Transports of one device. */
#define DEVICE_TPS_MAX 4u

/* A write that neither copy took is tried again this often while a slab is being mapped. */
#define WRITE_TRIES_MAX 3u

/* The backup half of a write. */
enum write_backup {
	WRITE_BACKUP_WAITING = 0, /* for its turn on the page */
	WRITE_BACKUP_QUEUED,	  /* until the backup takes more */
	WRITE_BACKUP_STARTED,
	WRITE_BACKUP_OK,
	WRITE_BACKUP_FAILED,
	WRITE_BACKUP_ENDED, /* nothing more will be written */
};

/* Place in the order of writes and flushes; see flush_path.c. */
struct unsafe_node {
	struct list node;
	bool is_flush;
	uint64_t place; /* rises along the list */
};

/* One READ or WRITE of pages inside one block, or one repair of the same shape. */
struct piece {
	struct backend_io io; /* first: what the server holds */
	struct slab_device *dev;
	struct order_entry order;
	struct unsafe_node unsafe; /* WRITE: until the backup has it */
	struct list free_node;
	struct list done_node; /* waiting for its io.done() */
	struct list wait_node; /* in backup_queue, retry or homeless */
	uint64_t queue_place;  /* there */

	uint8_t *pages;	      /* first page of order.mask */
	uint32_t buffer_page; /* index in the pool */
	uint8_t buffer_order;
	uint8_t first_page; /* in the block */
	uint8_t n_pages;
	bool is_repair;
	bool is_fill;
	bool is_alone;	     /* WRITE: joined others on the backup, and that operation failed */
	bool is_answer_held; /* answered, but nobody knows yet; see throttle.h */
	bool is_urgent;	     /* WRITE in backup_queue: somebody waits for it */

	struct list hedge_node; /* remote->reads */
	struct piece *hedge;	/* READ: reads from the backup what remote is slow with */
	struct piece *hedge_of; /* of a hedge: the read that may need its buffer */
	bool is_outrun;		/* the hedge was first: remote_op is not waited for */
	bool is_hedge_late;	/* of a hedge: remote_op was first */
	bool is_waiting_for_hedge;

	uint32_t missing;    /* pages that the read phase has not got yet */
	uint32_t promotable; /* pages that were read from elsewhere than the slab's home */
	int status;	     /* of the answer */

	bool is_held;	 /* the server has it (get..put) */
	bool is_reading; /* in the read phase */
	bool is_started; /* WRITE: past waiting and fetching */
	bool is_answered;
	bool is_main_done;
	bool is_kept;	       /* WRITE: counted in n_kept */
	bool has_remote;       /* WRITE: its remote copy was completed, in p->generation */
	uint8_t n_tries;       /* WRITE: after both copies failed, before the answer */
	uint32_t prior_remote; /* WRITE to an EVICTING slab: pages that it had before */
	uint32_t prior_generation;
	uint64_t wait_until_ns; /* in backup_queue or homeless: at the latest */
	enum write_backup backup;
	int backup_status; /* of WRITE_BACKUP_FAILED */

	/* The remote operation in flight; remote_busy until its done(). */
	struct tp_op remote_op;
	struct remote *remote;
	struct list remote_node; /* remote->ops, by time of posting */
	uint64_t posted_ns;	 /* 0: not stamped yet */
	uint32_t remote_mask;
	uint32_t generation;	    /* of the slab's mapping when posted */
	uint32_t unsafe_generation; /* WRITE: the mapping in whose n_unsafe it is counted, or 0 */
	bool remote_busy;

	struct backup_op backup_op;
	uint32_t backup_mask;
	bool backup_busy;
};

/* One TRIM or ZERO of up to BACKEND_RANGE_BYTES_MAX. */
struct range {
	struct backend_io io;
	struct slab_device *dev;
	struct list free_node;
	struct list done_node;
	struct unsafe_node unsafe;
	struct backup_op backup_op;
	uint64_t zeroed_bytes; /* of the slow way: written so far */
	uint32_t n_entries;
	uint32_t n_blocked; /* entries that still wait */
	int status;
	struct order_entry entries[RANGE_BLOCKS_MAX];
};

struct flush {
	struct backend_io io;
	struct slab_device *dev;
	struct list free_node;
	struct list done_node;
	struct unsafe_node unsafe;
	struct backup_op backup_op;
	int status;
};

enum remote_state {
	REMOTE_FREE = 0, /* no portal */
	REMOTE_IDLE,	 /* not connected; retry timer armed unless stopping */
	REMOTE_CONNECTING,
	REMOTE_HELLO, /* HELLO sent */
	REMOTE_AUTH,  /* AUTH sent */
	REMOTE_UP,
	REMOTE_CLOSING, /* failed or stopping; waiting for down() */
};

/* One portal: a daemon and the session with it. */
struct remote {
	struct slab_device *dev;
	struct tp *tp;
	char address[SLAB_ADDRESS_BYTES_MAX];
	struct tp_region *buffers; /* the pool, registered with @tp */
	uint32_t index;
	enum remote_state state;
	bool is_leaving; /* its portal was taken away: FREE after the session's end */
	bool was_leave_reported;
	struct core_timer leave_timer; /* while leaving: until its slabs have to be back */
	uint32_t leave_slab;	       /* where the search for them goes on */
	struct tp_conn *conn;	       /* NULL in IDLE */
	struct list ops;	       /* pieces with a remote op in flight, oldest first */
	struct list reads;	       /* those of them that may be hedged */
	uint32_t slabs_free;
	uint32_t usage_permille; /* of its host's memory, as last said */
	uint32_t slabs_mapped;
	uint32_t maps_pending;
	uint64_t retry_ns;	/* next backoff */
	int last_error;		/* -errno or 0 */
	uint32_t last_reason;	/* of the REFUSED that ended the session, or 0 */
	bool was_reported_down; /* said once per change */
	bool is_ping_pending;
	uint64_t ping_ns;      /* when it was sent */
	bool is_map_overdue;   /* the next PONG decides */
	bool is_map_excused;   /* ... has come once: the daemon may just have woken up */
	bool is_free_doubtful; /* slabs_free was counted here since it was told */
	struct remote_health health;
	struct core_timer ping_timer; /* while a PING waits for its answer */
	struct core_timer map_timer;  /* while a MAP does */
	struct core_timer step_timer; /* connect deadline, retry, or next ping, by state */
	struct histogram *times;      /* of its READs, and behind it of its WRITEs */
	uint64_t head_ns;	      /* since when ops' first is the oldest; 0: not stamped yet */
	struct list touched_node;     /* remote_queue.c's, as the next two */
	uint64_t due_ns;
	uint32_t due_place; /* in the heap; 0: not in it */
	uint8_t hello[CTL_MESSAGE_BYTES_MAX];
	size_t hello_bytes;
};

/* The buffers are registered once with each transport, and stay so. */
struct device_tp {
	struct tp *tp; /* NULL: none */
	struct tp_region *buffers;
};

/* A portal that the device was last told to have. */
struct member {
	struct tp *tp;
	char address[SLAB_ADDRESS_BYTES_MAX];
};

enum stop_step {
	STOP_NOT = 0,
	STOP_DRAIN, /* writes on their way to the backup, degraded pages */
	STOP_SYNC,
	STOP_CLOSE, /* daemons */
	STOP_DONE,
};

/* What is known of a slab while the process runs; what a restart needs is in the arena. */
struct slab_run {
	/* Of its newest mapping; what is left of older ones does not count. */
	uint32_t n_ops;	   /* remote operations in flight to it */
	uint32_t n_unsafe; /* writes that need it until the backup has them */

	uint32_t pages_remote; /* remote bits of its blocks */
	struct slab_evict evict;
	struct migration *migration; /* or NULL */

	struct list fill_node; /* fill.slabs */
	struct fill_place fill_place;
	bool has_filled; /* in this pass through it */
	bool is_fill_waiting;
	struct slab_activity activity;
	uint32_t generation;	/* of the newest MAP */
	uint32_t n_cold;	/* periods that it has been cold, mapped */
	bool is_trimmed;	/* a TRIM or ZERO took its last remote page */
	uint32_t silent_period; /* in which placing it met with silence, plus 1; 0: none */
};

struct slab_device {
	struct backend backend; /* first: what the server holds */
	struct slab_device_config config;
	struct backup *backup; /* NULL: none */
	struct arena arena;
	struct buffer_pool pool;      /* from the arena's first buffer page on */
	struct buffer_pool read_pool; /* the pages behind it, for reads only */
	struct page_order order;
	struct backup_queue backup_queue;
	struct slab_device_stats stats;
	uint64_t now_ns; /* of the last advance */

	struct slab_run *runs; /* by slab */
	struct activity activity;
	struct placements placements;
	struct rng rng;
	struct piece *pieces;
	struct range *ranges;
	struct flush *flushes;
	struct remote *remotes;		/* twice max_portals: those that leave are still there */
	struct histogram *remote_times; /* two of each */
	struct remote_queue remote_queue;
	uint32_t n_remotes; /* the last one in use, plus 1 */
	uint32_t n_leaving;
	struct member *members;
	uint32_t n_members;
	struct device_tp tps[DEVICE_TPS_MAX];
	struct core_timer leave_look_timer;
	struct list free_pieces;
	struct list free_ranges;
	struct list free_flushes;

	struct list ready;	 /* order entries to run */
	struct list done_pieces; /* to answer */
	struct list done_ranges;
	struct list done_flushes;
	struct list held_answers; /* pieces that will be among done_pieces; throttle.c's */
	bool is_throttled;	  /* there were some at the last advance */
	struct list unsafe;	  /* writes not on the backup, and flushes, in order */
	uint32_t n_unsafe;	  /* writes among them */
	uint32_t n_flushes;	  /* and flushes */
	uint64_t unsafe_place;	  /* the newest */
	struct list retry;	  /* pieces whose backup write failed and that have no other copy */
	uint32_t n_kept; /* writes that left the order of flushes without being on the backup */
	struct list homeless; /* pieces without a backup that wait for their slab */
	struct core_timer homeless_timer;
	uint64_t homeless_since_ns; /* one waits, and no slab was mapped or lost; homeless.c */
	struct list evicting;	    /* slab_evict.node */
	struct migration migrations[MIGRATIONS_MAX];
	bool is_evict_due; /* one of these has begun or ended since they were looked at */
	struct fill fill;
	struct core_timer retry_timer;
	uint32_t repair_block;	   /* where the search for degraded pages goes on */
	uint32_t n_repairs;	   /* repair pieces in flight */
	bool backup_is_failing;	   /* its last write failed */
	bool was_backup_reported;  /* said once per change */
	uint64_t backup_failed_ns; /* when it failed last */
	bool can_zero;		   /* the backup has not refused ZERO */
	void *zeros;		   /* one block of zeros inside the pool */
	uint8_t *health_words;	   /* inside the pool, one of each remote */
	uint32_t n_health_pages;
	uint32_t n_hedges; /* reading from the backup */

	uint32_t n_pieces;
	uint32_t n_free_pieces;
	uint32_t n_in_use; /* pieces, ranges and flushes not on a free list */
	bool is_starved;   /* get() gave NULL since the last resume() */
	bool has_room;	   /* something was freed since */
	void (*resume)(void *arg);
	void *resume_arg;

	bool is_stopping; /* no new mapping */
	enum stop_step stop_step;
	uint32_t stop_retries;
	uint64_t stop_lost_pages;
	int stop_status;
	struct backup_op stop_op;
	void (*stopped)(void *arg, int status);
	void *stopped_arg;
};

/* device.c */
/* For measuring; deadlines are fixed at an advance, but for homeless.c's. */
uint64_t device_now(const struct slab_device *d);
/* A daemon or the backup is asked for (a part of) @io. */
void device_posted(const struct slab_device *d, struct backend_io *io);
void device_event(struct slab_device *d, enum slab_event_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* pieces.c */
int pieces_init(struct slab_device *d);
void pieces_fini(struct slab_device *d);
struct backend_io *pieces_get(struct slab_device *d, enum backend_kind kind, uint64_t offset_bytes,
			      uint32_t length_bytes);
void pieces_put(struct slab_device *d, struct backend_io *io);
/* Returns @p to the pools when nothing holds it any more (invariant 3). */
void piece_free_if_idle(struct piece *p);
/* Queues the answer; io.done() runs from the next advance.  Once per piece. */
void piece_answer(struct piece *p, int status);
void range_answer(struct range *r, int status);
void range_free(struct range *r);
void flush_answer(struct flush *f, int status);
void flush_free(struct flush *f);
/* A piece that no server holds, for repair and fill; NULL when none is free. */
struct piece *piece_get_internal(struct slab_device *d, uint32_t block, uint32_t mask);
struct arena_write *piece_arena_write(const struct piece *p);
/* The pages @mask of @p, which are one run, in its buffer. */
void *piece_run_buf(const struct piece *p, uint32_t mask);
uint32_t piece_slab(const struct piece *p);
/* Of its first page, on the device. */
uint64_t piece_page_offset(const struct piece *p);
/* Pages of the buffer pool that are free, for writes and for reads. */
uint32_t pieces_free_pages(const struct slab_device *d);
/* The pages of [@offset_bytes, + @length_bytes), which lie in one block, as its mask. */
uint32_t block_mask(uint64_t offset_bytes, uint64_t length_bytes);
/* The lowest run of adjacent pages in @mask; 0 for 0. */
uint32_t first_run(uint32_t mask);

/* read_path.c */
void read_submit(struct piece *p);
/* Fetches p->missing into the buffer, then calls read_phase_done(). */
void read_fetch(struct piece *p);
void read_remote_done(struct piece *p, int status);
void read_backup_done(struct piece *p, int status);
/* The pages @mask came from the backup before remote had them. */
void read_hedge_won(struct piece *p, uint32_t mask);
/* The hedge of @p, which had lost, has ended. */
void read_hedge_over(struct piece *p);

/* write_path.c */
void write_submit(struct piece *p);
/* Whether the answer waits for the backup's copy, as far as is known now. */
bool write_is_urgent(const struct piece *p);
/* The read phase of a partial write has ended. */
void write_fetched(struct piece *p, int status);
void write_remote_done(struct piece *p, int status);
void write_backup_done(struct piece *p, int status);
/* Starts the copies that are missing again after a failure. */
void write_retry(struct piece *p);
/* The slab of @p, which has no backup, is mapped now ... */
void write_rehome(struct piece *p);
/* ... or will not be: the answer. */
void write_give_up(struct piece *p, int status);
/* The backup has it, or never will: the last step of every write. */
void write_end(struct piece *p);
/* @p has begun to replace its pages: describes it in the arena. */
void write_record(struct piece *p);
/* The backup refuses @p for now: flushes fail rather than wait for it. */
void write_set_kept(struct piece *p);
/* Those that wait for the kept write @p must not wait without end. */
void write_unblock_later(struct piece *p, int status);

/* supersede.c */
/* The write @p has its remote copy: the backup copies of earlier ones that it replaces are needless. */
void supersede_earlier(struct piece *p);

/* range_path.c */
void range_submit(struct range *r);

/* flush_path.c */
void flush_submit(struct flush *f);
void unsafe_add(struct slab_device *d, struct unsafe_node *n, bool is_flush);
void unsafe_remove(struct slab_device *d, struct unsafe_node *n);
/* @newer takes the place of @older, which leaves; unless its own is before that. */
void unsafe_replace(struct slab_device *d, struct unsafe_node *older, struct unsafe_node *newer);
/* Every flush that waits has to cover @n, which replaces what they cannot get any more. */
void unsafe_to_front(struct slab_device *d, struct unsafe_node *n);
/* Makes what the backup has durable, then p's answer. */
void piece_sync(struct piece *p);
void range_sync(struct range *r);

/* slab_homes.c: the only writers of arena_block.remote */
struct slab_run *slab_run_of_block(struct slab_device *d, uint32_t block);
/* The pages @mask of @block have a remote copy, in the mapping @generation ... */
void slab_set_remote(struct slab_device *d, uint32_t block, uint32_t mask, uint32_t generation);
/* ... or have none (any more). */
void slab_clear_remote(struct slab_device *d, uint32_t block, uint32_t mask);
/* Pages of @block that a daemon has. */
uint32_t slab_readable_pages(const struct slab_device *d, uint32_t block);
/* Pages that the slab's home, its new one while it moves, has not: a copy would be of use. */
uint32_t slab_promotable_pages(const struct slab_device *d, uint32_t block);
/* Of a slab on the move: pages that only the old home has. */
uint32_t slab_unmoved_pages(const struct slab_device *d, uint32_t block);
/* Pages that are read from the slab's home if they are remote; the others from the old one. */
uint32_t slab_at_home(const struct slab_device *d, uint32_t block);
/* Where an operation on the pages @mask, all of one home, goes. */
struct slab_home slab_home_of(const struct slab_device *d, uint32_t block, uint32_t mask,
			      enum tp_op_kind kind);
/* Transitions of a slab with two homes.  @home: the new one. */
void slab_migrating(struct slab_device *d, struct migration *m, const struct slab_home *home);
void slab_migrated(struct slab_device *d, struct migration *m);
/* Clears the remote bits of pages that the backup has and the new home has not. */
void slab_drop_unmoved(struct slab_device *d, struct migration *m);
/* One of the homes is gone, the other one is the home; returns how many pages are lost. */
uint32_t slab_old_home_lost(struct slab_device *d, struct migration *m);
uint32_t slab_new_home_lost(struct slab_device *d, struct migration *m);
/* Pages of @block were trimmed or zeroed. */
void slab_trimmed(struct slab_device *d, uint32_t block);
/* A remote operation of @p to its slab begins, or has ended. */
void slab_op_begins(struct piece *p, enum tp_op_kind kind);
void slab_op_ended(struct piece *p);
/* The write @p needs its remote copy no more: the backup has it, or never will. */
void slab_write_safe(struct piece *p);
/* Whether an operation on the mapping @generation that has succeeded says something of it now. */
bool slab_holds(const struct slab_device *d, uint32_t slab, uint32_t generation);
/* The write @p needs what the slab has until the backup has @p. */
void slab_write_unsafe(struct piece *p);

/* lost.c: pages of which no copy is left, of a device without a backup */
void lost_mark(struct slab_device *d, uint32_t block, uint32_t mask);
/* Every remote page of @slab. */
void lost_mark_slab(struct slab_device *d, uint32_t slab);
/* They are written, trimmed or found again.  Returns those that were lost. */
uint32_t lost_clear(struct slab_device *d, uint32_t block, uint32_t mask);

/* slab_table.c: the only writers of arena_slab.state, with slab_homes.c */
/* Maps it if it is hot and that is possible. */
void slab_want(struct slab_device *d, uint32_t slab);
/* Writes and promotions go to it. */
bool slab_is_mapped(const struct slab_device *d, uint32_t slab);
/* A daemon has pages of it, see slab_readable_pages(): MAPPED, MIGRATING or EVICTING. */
bool slab_is_readable(const struct slab_device *d, uint32_t slab);
/* Another mapping is its home. */
void slab_set_home(struct slab_device *d, uint32_t slab, const struct slab_home *home);
/* Whether an MR_INFO describes a slab's memory. */
bool slab_info_fits(const struct slab_device *d, const struct ctl_mr_info *info);
/* For a new MAP of @slab; never 0. */
uint32_t slab_next_generation(struct slab_device *d, uint32_t slab);
/* MAPPED -> EVICTING. */
void slab_evicting(struct slab_device *d, uint32_t slab);
/* Clears the remote bits of pages that the backup has ... */
void slab_read_from_backup(struct slab_device *d, uint32_t slab);
/* ... and of those in buffers on their way to it. */
void slab_stop_reading(struct slab_device *d, uint32_t slab);
/* EVICTING -> UNMAPPED: nothing is there any more. */
void slab_release(struct slab_device *d, uint32_t slab);
/* EVICTING -> UNMAPPED or FAILED: the daemon takes it as it is. */
void slab_forfeit(struct slab_device *d, uint32_t slab);
/* Clears the remote bits of a slab whose memory is gone; what only it had is lost. */
void slab_unmap_lost(struct slab_device *d, uint32_t slab);
void slab_report_lost(struct slab_device *d, uint64_t n_pages, const struct remote *r,
		      const char *what);
/* @r is lost: none of its slabs is remote any more. */
void slabs_unmap_remote(struct slab_device *d, struct remote *r);
/* Pages that a write or trim is about to replace: forget that they were degraded or lost.
 * True when any was. */
bool slab_forget_pages(struct slab_device *d, uint32_t block, uint32_t mask, uint32_t unsafe);
/* Pages whose only copy is remote because the backup failed, or because there is none. */
void slab_degrade_pages(struct slab_device *d, uint32_t block, uint32_t mask);
void slab_mend_pages(struct slab_device *d, uint32_t block, uint32_t mask);
/* Pages of which no copy is left.  With a backup the slab is neither MAPPED nor MAPPING unless @mask
 * is 0. */
void slab_lose_pages(struct slab_device *d, uint32_t block, uint32_t mask);

/* membership.c */
int membership_init(struct slab_device *d);
void membership_fini(struct slab_device *d);
uint64_t membership_advance(struct slab_device *d, uint64_t now_ns);
/* The session of @r, which leaves, has ended. */
void membership_left(struct remote *r);

/* remote.c */
/* A FREE one becomes IDLE and connects at the next advance. */
void remote_open(struct remote *r);
/* Ends the session without a fault of the daemon; down() follows, if there is one. */
void remote_close(struct remote *r);
uint64_t remotes_advance(struct slab_device *d, uint64_t now_ns);
/* 0, -EAGAIN: the queue is full; any other failure ends the session. */
int remote_try_send(struct remote *r, const struct ctl_msg *msg);
/* Whether @r can be asked for a slab. */
bool remote_may_map(const struct remote *r);
/* Sends QUERY_MEM; when that fails the session ends. */
void remote_query(struct remote *r, uint32_t request_id);
/* Sends MAP; false when it could not. */
bool remote_map(struct remote *r, uint32_t slab, uint32_t generation);
/* Posts p->remote_op for the pages @mask, one run, of a mapped slab. */
void remote_post(struct piece *p, enum tp_op_kind kind, uint32_t mask);
/* Ends the session: its slabs are unmapped at once, a new try comes later.  @error: -errno. */
void remote_fail(struct remote *r, int error, const char *what);
/* Closes all; true when all are down. */
bool remotes_stop(struct slab_device *d);

/* repair.c */
uint64_t repair_advance(struct slab_device *d, uint64_t now_ns);
/* The write of @p to the backup failed and there is no other copy: keep the buffer, try again. */
void repair_keep(struct piece *p);
/* The read phase of a repair has ended. */
void repair_fetched(struct piece *p, int status);
/* At stop: gives up the buffers that no backup took; returns the number of their pages. */
uint64_t repair_give_up(struct slab_device *d);
/* Keeps count of the backup's errors and says it when it begins or ceases to fail. */
void backup_says(struct slab_device *d, int status, const char *what);

#endif /* SLAB_CORE_H */
