/* SPDX-License-Identifier: MIT */
/*
 * transport.h - what both cores ask of a network.
 *
 * The consumer (src/slab, src/daemon, the simulator's checks) sees only this
 * header; src/transport/tcp.c, src/rdma and tests/sim implement it.
 *
 * Threads.  Every call and every callback runs on the loop thread, except
 * tp_region_register() and tp_region_release(), which may block and may run on
 * the helper thread.  Time is monotonic nanoseconds.
 *
 * Callbacks are never run from inside a tp_*() call, with one exception that
 * is said there (none so far): an implementation defers them to the loop.
 * A callback may call any tp_*() function, tp_close() of its own connection too.
 *
 * Connection life:
 *
 *   client: tp_connect() -> [ up() -> message()*, op done()* ] -> down()
 *   daemon: incoming() [ tp_accept() or tp_close() ] -> message()* -> down()
 *
 * down() is the last callback of a connection, runs exactly once for each
 * connection that tp_connect() or incoming() produced, whoever ended it, and
 * the implementation frees the connection when it returns.  Before down() runs
 *   - every posted op has had its done(), and no access to its buffer can
 *     happen any more,
 *   - every grant made on the connection is revoked: no remote access through
 *     it can reach the memory any more, and its granted()/revoked() callbacks
 *     have all run or never will.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

/* Largest control message, bytes. */
#define TP_MESSAGE_BYTES_MAX 512u
/* Control messages that a connection keeps while the peer cannot take them. */
#define TP_SEND_QUEUE_MAX 64u
/* Longest op, bytes: one block. */
#define TP_OP_BYTES_MAX (128u * 1024u)
/* Room for tp_conn_name(): "rdma:[ipv6%scope]:port#serial", "shm:/path#serial". */
#define TP_NAME_BYTES_MAX 136u

struct tp;	    /* one transport of this process, e.g. "tcp"; see tcp.h, rdma.h for new/free */
struct tp_conn;	    /* one connection; opaque */
struct tp_listener; /* opaque */
struct tp_region;   /* memory the transport may move bytes to and from; opaque */
struct tp_grant;    /* one region lent to one connection; opaque */

/* What the peer needs to reach a granted region; travels in MR_INFO. */
struct tp_remote {
	uint64_t addr;	       /* address of the region's first byte, in the grant's terms */
	uint64_t length_bytes; /* of the region */
	uint32_t rkey;
};

/* Who but this process may reach a region. */
enum tp_lend {
	TP_LEND_NOT = 0, /* nobody: local buffers of ops */
	TP_LEND,	 /* peers with a grant, to read and write: a slab */
	TP_LEND_READ,	 /* peers with a grant, to read; a WRITE ends the peer's connection.  What
		       * is changed after the registration they may see or not */
};

enum tp_op_kind {
	TP_OP_READ = 1, /* remote -> buf */
	TP_OP_WRITE,	/* buf -> remote */
};

struct tp_op;
/*
 * Runs exactly once for each tp_post(), in any order between ops.
 * @status: 0; -ECANCELED (connection went down or is being closed first);
 * -ETIMEDOUT, -EACCES, -EIO (this op failed; the connection is going down).
 * After a failure the remote bytes of a WRITE are indeterminate.
 */
typedef void tp_op_done_fn(struct tp_op *op, int status);

/* Lives in the caller's memory; the transport's from tp_post() to done(). */
struct tp_op {
	enum tp_op_kind kind;
	uint32_t length_bytes;	  /* 1..TP_OP_BYTES_MAX */
	struct tp_region *region; /* registered memory that holds @buf */
	void *buf;
	uint64_t remote_addr; /* tp_remote.addr + offset */
	uint32_t rkey;
	tp_op_done_fn *done;

	struct list node;	/* the transport's: its queue */
	struct tp_conn *conn;	/* the transport's */
	uint64_t transport_u64; /* the transport's */
};

struct tp_conn_events {
	/* Client only: the connection is made, messages and ops may be sent. */
	void (*up)(void *arg);
	/* One whole control message.  @msg is borrowed until return. */
	void (*message)(void *arg, const void *msg, size_t length_bytes);
	/* The end; see above.  @reason: 0 (tp_close() here, or an orderly close by
	 * the peer), else -errno: -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET, -EPROTO, ... */
	void (*down)(void *arg, int reason);
};

/* A connection arrived.  The callee calls tp_accept() or tp_close() before it returns. */
typedef void tp_incoming_fn(void *arg, struct tp_conn *conn);
/* The bind or unbind of a grant has ended.  @status 0 or -errno. */
typedef void tp_grant_fn(void *arg, struct tp_grant *grant, int status);

struct tp_ops {
	const char *name; /* the prefix of addresses: "tcp", "rdma" */

	int (*connect)(struct tp *tp, const char *address, uint64_t timeout_ns,
		       const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
	int (*listen)(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
		      struct tp_listener **ret_listener);
	void (*listener_address)(const struct tp_listener *listener, char *buf, size_t size);
	void (*listener_close)(struct tp_listener *listener);
	void (*accept)(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
	void (*close)(struct tp_conn *conn);
	const char *(*conn_name)(const struct tp_conn *conn);
	int (*send)(struct tp_conn *conn, const void *msg, size_t length_bytes);
	void (*post)(struct tp_conn *conn, struct tp_op *op);
	int (*region_register)(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
			       struct tp_region **ret_region);
	int (*region_release)(struct tp_region *region);
	int (*grant)(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted,
		     void *arg, struct tp_grant **ret_grant);
	void (*grant_remote)(const struct tp_grant *grant, struct tp_remote *ret_remote);
	void (*revoke)(struct tp_grant *grant, tp_grant_fn *revoked, void *arg);
	void (*shutdown)(struct tp *tp, void (*done)(void *arg), void *arg);
	void (*free)(struct tp *tp);

	/* All four or none; see tp_memory_new(). */
	int (*memory_new)(struct tp *tp, size_t length_bytes, bool huge, void **ret_base);
	void (*memory_free)(struct tp *tp, void *base);
	bool (*region_is_spent)(const struct tp_region *region);
	uint64_t (*memory_held)(struct tp *tp);
};

/* Every implementation's instance, connection, listener, region and grant
 * begins with its base, so that the calls below find the table. */
struct tp {
	const struct tp_ops *ops;
};
struct tp_base {
	struct tp *tp;
};

/*
 * tp_connect - start a connection to @address ("host:port", "[v6]:port"; numeric
 * host, no name service is asked).
 *
 * Returns 0 (up() or down() follows; *@ret_conn is valid until down() returns),
 * -EINVAL (address), -ENODEV (no such device), -ENOMEM.  @timeout_ns covers
 * everything up to up(); after it down(-ETIMEDOUT).
 */
static inline int
tp_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
	   const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn)
{
	return tp->ops->connect(tp, address, timeout_ns, events, arg, ret_conn);
}

/*
 * tp_listen - accept connections at @address; port 0 picks a free one.
 * Returns 0, -EINVAL, -EADDRINUSE, -EADDRNOTAVAIL, -ENODEV, -EACCES, -ENOMEM.
 */
static inline int
tp_listen(struct tp *tp, const char *address, tp_incoming_fn *incoming, void *arg,
	  struct tp_listener **ret_listener)
{
	return tp->ops->listen(tp, address, incoming, arg, ret_listener);
}

static inline struct tp *
tp_of(const void *object)
{
	return ((const struct tp_base *)object)->tp;
}

/* The address really bound, "tcp:127.0.0.1:41234", for logs and tests. */
static inline void
tp_listener_address(const struct tp_listener *listener, char *buf, size_t size)
{
	tp_of(listener)->ops->listener_address(listener, buf, size);
}

/* No incoming() after return; accepted connections live on.  Frees @listener. */
static inline void
tp_listener_close(struct tp_listener *listener)
{
	tp_of(listener)->ops->listener_close(listener);
}

/* Daemon: take the connection that incoming() brought; @events->up is not used. */
static inline void
tp_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg)
{
	tp_of(conn)->ops->accept(conn, events, arg);
}

/*
 * tp_close - end @conn: nothing more is sent, ops in flight get their done()
 * with -ECANCELED (or their real result), then down().  Closing twice is
 * harmless.  For a connection refused inside incoming() no down() follows.
 */
static inline void
tp_close(struct tp_conn *conn)
{
	tp_of(conn)->ops->close(conn);
}

/* "tcp:10.0.0.2:9400#3": static until down() returns. */
static inline const char *
tp_conn_name(const struct tp_conn *conn)
{
	return tp_of(conn)->ops->conn_name(conn);
}

/*
 * tp_send - queue one control message (copied); they arrive whole and in order.
 * Returns 0, -EAGAIN (TP_SEND_QUEUE_MAX waiting: the peer takes none),
 * -ENOTCONN (closing or not up), -EMSGSIZE.
 */
static inline int
tp_send(struct tp_conn *conn, const void *msg, size_t length_bytes)
{
	return tp_of(conn)->ops->send(conn, msg, length_bytes);
}

/*
 * tp_post - start a one-sided READ or WRITE.  Never refuses: ops that do not fit
 * the hardware queue wait in order inside the transport, at no cost in memory
 * (op->node).  On a connection that is closing done(-ECANCELED) follows.
 * Ops may complete in any order; two ops on the same remote bytes are ordered
 * only when the second is posted after the done() of the first.
 */
static inline void
tp_post(struct tp_conn *conn, struct tp_op *op)
{
	tp_of(conn)->ops->post(conn, op);
}

/*
 * tp_region_register - let the transport reach [@base, @base + @length_bytes).
 * The memory stays the caller's and must outlive the region.
 * Any thread; may take milliseconds per GiB.  Returns 0, -ENOMEM (also over
 * RLIMIT_MEMLOCK), -EINVAL, -ENODEV.
 */
static inline int
tp_region_register(struct tp *tp, void *base, size_t length_bytes, enum tp_lend lend,
		   struct tp_region **ret_region)
{
	return tp->ops->region_register(tp, base, length_bytes, lend, ret_region);
}

/* Any thread.  Returns 0 (freed), -EBUSY (a grant is alive) or another -errno:
 * then the memory must never be reused, the device may still reach it. */
static inline int
tp_region_release(struct tp_region *region)
{
	return tp_of(region)->ops->region_release(region);
}

/*
 * tp_grant - let the peer of @conn, and nobody else, read and, unless it is
 * TP_LEND_READ, write @region.
 * Returns 0 (granted() follows, unless down() comes first), -ENOTCONN, -ENOMEM,
 * -EINVAL (region not registered with lend).  If granted() reports an error the
 * grant is freed when it returns.
 */
static inline int
tp_grant(struct tp_conn *conn, struct tp_region *region, tp_grant_fn *granted, void *arg,
	 struct tp_grant **ret_grant)
{
	return tp_of(conn)->ops->grant(conn, region, granted, arg, ret_grant);
}

/* Valid after granted() with status 0. */
static inline void
tp_grant_remote(const struct tp_grant *grant, struct tp_remote *ret_remote)
{
	tp_of(grant)->ops->grant_remote(grant, ret_remote);
}

/*
 * tp_revoke - take @grant back (granted() has run).  revoked(0) means: no access
 * through it can reach the memory any more; the grant is freed when revoked()
 * returns.  On an error the transport has begun to close the connection, and
 * down() means the same.  Accesses by the peer after revocation fail and end its
 * connection only.
 */
static inline void
tp_revoke(struct tp_grant *grant, tp_grant_fn *revoked, void *arg)
{
	tp_of(grant)->ops->revoke(grant, revoked, arg);
}

/*
 * Some transports (shm) lend memory in a way that they cannot take back: a peer that
 * does not answer keeps its pages.  They have three rules for memory of TP_LEND.  It comes
 * from tp_memory_new(), and is registered whole.  After a grant its region is spent:
 * revoked() and down() mean that no access changes what is lent to others, because the
 * memory must not be; it is to be freed, a new one takes its place.  And what such peers
 * keep is counted by tp_memory_held().
 */
static inline bool
tp_has_memory(const struct tp *tp)
{
	return tp->ops->memory_new != NULL;
}

/*
 * tp_memory_new - zeroed memory that @tp can lend, every page of it present; other
 * transports may register it too.  @huge: of the machine's reserved huge pages, if
 * there are enough.  Any thread.  Returns 0, -EINVAL, or -ENOMEM, -EMFILE.
 */
static inline int
tp_memory_new(struct tp *tp, size_t length_bytes, bool huge, void **ret_base)
{
	return tp->ops->memory_new(tp, length_bytes, huge, ret_base);
}

/* No region has it any more.  Any thread. */
static inline void
tp_memory_free(struct tp *tp, void *base)
{
	tp->ops->memory_free(tp, base);
}

/* Whether its memory is to be freed, not lent again.  Any thread. */
static inline bool
tp_region_is_spent(const struct tp_region *region)
{
	const struct tp *tp = tp_of(region);

	return tp_has_memory(tp) && tp->ops->region_is_spent(region);
}

/* Bytes of freed memory that peers which are gone for us may still keep.  Any thread. */
static inline uint64_t
tp_memory_held(struct tp *tp)
{
	return tp_has_memory(tp) ? tp->ops->memory_held(tp) : 0;
}

/* Closes every connection and listener; done() after the last down(). */
static inline void
tp_shutdown(struct tp *tp, void (*done)(void *arg), void *arg)
{
	tp->ops->shutdown(tp, done, arg);
}

/* After shutdown's done() and with no region left.  NULL is a no-op.  Returns NULL. */
static inline struct tp *
tp_free(struct tp *tp)
{
	if (tp)
		tp->ops->free(tp);
	return NULL;
}

#endif /* TRANSPORT_TRANSPORT_H */
