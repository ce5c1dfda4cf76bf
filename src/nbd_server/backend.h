/* SPDX-License-Identifier: MIT */
/*
 * backend.h - what the NBD side asks of whatever holds the bytes.
 *
 * Interface owned by nbd_server; slab/ implements it and main.c joins the two.
 * Every call and every completion runs on the loop thread.
 *
 * The server cuts each client request into pieces and moves each piece through
 *
 *   backend_get() -> fill io->data (WRITE) -> backend_submit() -> done()
 *                 -> read io->data (READ)  -> backend_put()
 *
 * Pieces are ordered by backend_submit(): two pieces that touch the same page
 * take effect in the order of their submission, whatever connection they came from.
 */
#ifndef NBD_SERVER_BACKEND_H
#define NBD_SERVER_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/page.h"

enum backend_kind {
	BACKEND_READ = 1,
	BACKEND_WRITE,
	BACKEND_FLUSH, /* every write that was done() before the submit is durable at done() */
	BACKEND_TRIM,  /* the range reads as zeros afterwards; space given back where possible */
	BACKEND_ZERO,  /* the range reads as zeros afterwards, also after a restart */
};

/* Flags of a piece. */
#define BACKEND_FUA (1u << 0)	    /* WRITE, TRIM, ZERO: durable at done() */
#define BACKEND_NO_HOLE (1u << 1)   /* ZERO: keep the space allocated on the backup */
#define BACKEND_FAST_ZERO (1u << 2) /* ZERO: -EOPNOTSUPP rather than writing zeros */

/* Longest TRIM or ZERO piece, bytes. */
#define BACKEND_RANGE_BYTES_MAX (32u * 1024u * 1024u)

struct backend_io;
/* Runs exactly once for each submitted piece and never from inside
 * backend_submit().  @status: 0 or -errno (-EIO, -ENOSPC, -EOPNOTSUPP for FAST_ZERO). */
typedef void backend_done_fn(struct backend_io *io, int status);

/* Owned by the backend; lent to the server from get to put. */
struct backend_io {
	enum backend_kind kind;
	uint32_t flags;
	uint64_t offset_bytes;
	uint32_t length_bytes;
	/* READ, WRITE: @length_bytes of DMA-able memory; of a READ it may be another at done().
	 * Else NULL. */
	void *data;
	/* The backend's: when it first asked a daemon or the disk for it; 0: it had not to. */
	uint64_t posted_ns;
	backend_done_fn *done; /* the server sets it before submit */
	void *arg;	       /* the server's */
};

/* One run of bytes in the same state, for NBD_CMD_BLOCK_STATUS. */
struct backend_extent {
	uint64_t length_bytes;
	bool is_hole_zero; /* never written, or trimmed: reads as zeros */
};

struct backend {
	const struct backend_ops *ops;
	uint64_t size_bytes; /* multiple of PAGE_BYTES; constant */
};

struct backend_ops {
	/*
	 * Shape of a piece: READ and WRITE either whole pages inside one block
	 * (offset and length multiples of PAGE_BYTES, no block border crossed), or
	 * any bytes inside one page.  TRIM, ZERO: whole pages, at most
	 * BACKEND_RANGE_BYTES_MAX.  FLUSH: offset and length 0.  In range of the device.
	 *
	 * Returns NULL when there is no memory or no slot now: the server stops
	 * reading requests and waits for backend's resume() (backend_set_resume()).
	 */
	struct backend_io *(*get)(struct backend *be, enum backend_kind kind, uint64_t offset_bytes,
				  uint32_t length_bytes);
	void (*submit)(struct backend *be, struct backend_io *io);
	/* After done(), or instead of submit.  A buffer that is still on its way to
	 * the backup is kept by the backend, the server need not care. */
	void (*put)(struct backend *be, struct backend_io *io);
	/* @resume runs, from the loop and never from inside a call, after a NULL of
	 * get() when memory or slots came back. */
	void (*set_resume)(struct backend *be, void (*resume)(void *arg), void *arg);
	/* The state of the bytes at @offset_bytes (any alignment), up to at most
	 * @length_bytes; looks at no more than 64 Ki pages a call.  Length > 0 always. */
	struct backend_extent (*extent)(struct backend *be, uint64_t offset_bytes,
					uint64_t length_bytes);
};

static inline struct backend_io *
backend_get(struct backend *be, enum backend_kind kind, uint64_t offset_bytes,
	    uint32_t length_bytes)
{
	return be->ops->get(be, kind, offset_bytes, length_bytes);
}

static inline void
backend_submit(struct backend *be, struct backend_io *io)
{
	be->ops->submit(be, io);
}

static inline void
backend_put(struct backend *be, struct backend_io *io)
{
	be->ops->put(be, io);
}

static inline void
backend_set_resume(struct backend *be, void (*resume)(void *arg), void *arg)
{
	be->ops->set_resume(be, resume, arg);
}

static inline struct backend_extent
backend_extent(struct backend *be, uint64_t offset_bytes, uint64_t length_bytes)
{
	return be->ops->extent(be, offset_bytes, length_bytes);
}

#endif /* NBD_SERVER_BACKEND_H */
