/* SPDX-License-Identifier: MIT */
/*
 * One enter per loop turn instead of one per op is most of what the disk costs
 * the loop; the completion queue cannot overflow because no more than its half is
 * ever in flight.
 */
#include "backup/ring.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "backup/op_step.h"
#include "common/log.h"
#include "common/page.h"
#include "common/probe.h"

/* Linux 6.12: discard a block device without a thread of the kernel waiting for it. */
#define RING_BLOCK_CMD_DISCARD _IO(0x12, 0)

#define COMPLETIONS_PER_TURN 64
#define REFUSALS_PER_TURN 64
/* Of the depth, at most this much and at most a quarter. */
#define RANGES_IN_FLIGHT_MAX 4u
#define RETRY_SECONDS 0.001
#define RETRIES_MAX 10000
/* The kernel takes at most 1 GiB in one registered buffer. */
#define REGISTER_SHIFT 30
#define REGISTERS_MAX 64

static bool
is_range(const struct backup_op *op)
{
	return op->kind == BACKUP_OP_DISCARD || op->kind == BACKUP_OP_ZERO;
}

static struct ring_lane *
lane_of(struct ring *ring, const struct backup_op *op)
{
	if (is_range(op))
		return &ring->ranges;
	return op->kind == BACKUP_OP_READ ? &ring->reads : &ring->writes;
}

static bool
is_refused(const struct ring *ring, const struct backup_op *op)
{
	return (op->kind == BACKUP_OP_DISCARD && !ring->target->can_discard) ||
	       (op->kind == BACKUP_OP_ZERO && !ring->target->can_zero);
}

/* Index of the registered buffer that holds all of [buf, buf + length), or -1. */
static int
registered_index(const struct ring *ring, const char *buf, uint64_t length_bytes)
{
	uint64_t start, last;

	if (!ring->is_registered || buf < ring->area || buf >= ring->area + ring->area_bytes)
		return -1;
	start = (uint64_t)(buf - ring->area);
	last = start + length_bytes - 1;
	if (last >= ring->area_bytes || start >> REGISTER_SHIFT != last >> REGISTER_SHIFT)
		return -1;
	return (int)(start >> REGISTER_SHIFT);
}

static void
prep_transfer(const struct ring *ring, struct io_uring_sqe *sqe, const struct backup_op *op)
{
	uint32_t length = (uint32_t)(op->length_bytes - op->transferred_bytes);
	uint64_t offset = op->offset_bytes + op->transferred_bytes;
	char *buf;
	int index;

	if (op->n_parts > 0) {
		io_uring_prep_writev(sqe, ring->target->fd, op->parts, op->n_parts, offset);
		return;
	}
	buf = (char *)op->buf + op->transferred_bytes;
	index = registered_index(ring, buf, length);
	if (op->kind == BACKUP_OP_READ) {
		if (index >= 0)
			io_uring_prep_read_fixed(sqe, ring->target->fd, buf, length, offset, index);
		else
			io_uring_prep_read(sqe, ring->target->fd, buf, length, offset);
	} else {
		if (index >= 0)
			io_uring_prep_write_fixed(sqe, ring->target->fd, buf, length, offset,
						  index);
		else
			io_uring_prep_write(sqe, ring->target->fd, buf, length, offset);
	}
}

static void
prep_discard_cmd(const struct ring *ring, struct io_uring_sqe *sqe, const struct backup_op *op)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, ring->target->fd,
			 (const void *)(uintptr_t)op->offset_bytes, 0, 0);
	sqe->cmd_op = RING_BLOCK_CMD_DISCARD;
	sqe->addr3 = op->length_bytes;
}

/* On a block device: the device's own write-zeroes, or -EOPNOTSUPP; never a
 * kernel thread that writes pages of zeros. */
static void
prep_punch(const struct ring *ring, struct io_uring_sqe *sqe, const struct backup_op *op)
{
	io_uring_prep_fallocate(sqe, ring->target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(int64_t)op->offset_bytes, (int64_t)op->length_bytes);
}

static void
prep_op(const struct ring *ring, struct io_uring_sqe *sqe, struct backup_op *op)
{
	switch (op->kind) {
	case BACKUP_OP_READ:
	case BACKUP_OP_WRITE:
		prep_transfer(ring, sqe, op);
		break;
	case BACKUP_OP_SYNC:
		io_uring_prep_fsync(sqe, ring->target->fd, IORING_FSYNC_DATASYNC);
		break;
	case BACKUP_OP_DISCARD:
		if (ring->has_discard_cmd)
			prep_discard_cmd(ring, sqe, op);
		else
			prep_punch(ring, sqe, op);
		break;
	case BACKUP_OP_ZERO:
		prep_punch(ring, sqe, op);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

static void
push_op(struct ring *ring, struct backup_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	assert(sqe && ring->in_flight < ring->depth);
	prep_op(ring, sqe, op);
	ring->in_flight++;
	lane_of(ring, op)->in_flight++;
}

static void
refuse_later(struct ring *ring, struct backup_op *op)
{
	list_add_tail(&ring->refused, &op->node);
	defer_start(&ring->refuse_defer);
}

static void
fill_from(struct ring *ring, struct ring_lane *lane)
{
	struct list *node;

	while (lane->in_flight < lane->credit && ring->in_flight < ring->depth &&
	       (node = list_pop_head(&lane->queue))) {
		struct backup_op *op = container_of(node, struct backup_op, node);

		if (is_refused(ring, op)) {
			refuse_later(ring, op);
		} else {
			ring->waiting--;
			push_op(ring, op);
		}
	}
}

static void
fill_ring(struct ring *ring)
{
	fill_from(ring, &ring->ranges);
	fill_from(ring, &ring->reads);
	fill_from(ring, &ring->writes);
}

static void
enter_kernel(struct ring *ring)
{
	int r = io_uring_submit(&ring->uring);

	if (r < 0 && r != -EINTR && !ring->submit_failing) {
		(void)log_err_errno(-r, "backup[%s]: cannot submit to io_uring, trying again",
				    ring->target->path);
		ring->submit_failing = true;
	}
	if (r >= 0)
		ring->submit_failing = false;
	/* Entries that it left behind stay in the ring; only somebody must come back. */
	if (io_uring_sq_ready(&ring->uring) > 0 && !ev_is_active(&ring->retry_timer))
		ev_timer_again(ring->loop, &ring->retry_timer);
}

static void
flush_cb(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct ring *ring = container_of(w, struct ring, flush_watcher);

	(void)loop;
	(void)revents;
	fill_ring(ring);
	if (io_uring_sq_ready(&ring->uring) > 0)
		enter_kernel(ring);
}

static void
retry_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct ring *ring = container_of(w, struct ring, retry_timer);
	struct list *node;

	(void)revents;
	/* The flush watcher of the next turn does the rest. */
	ev_timer_stop(loop, w);
	while ((node = list_pop_head(&ring->delayed)))
		list_add_tail(&lane_of(ring, container_of(node, struct backup_op, node))->queue,
			      node);
}

static void
op_ended(struct ring *ring, struct backup_op *op, int status)
{
	PROBE3(backup_completed, op, op->kind, status);
	if (status == 0)
		histogram_add(&ring->times[op->kind],
			      turn_clock_now(ring->clock) - op->submitted_ns);
	op->done(op, status);
}

static void
refuse_cb(void *arg)
{
	struct ring *ring = arg;
	struct list *node;

	for (unsigned int i = 0; i < REFUSALS_PER_TURN; i++) {
		node = list_pop_head(&ring->refused);
		if (!node)
			return;
		ring->waiting--;
		op_ended(ring, container_of(node, struct backup_op, node), -EOPNOTSUPP);
	}
	defer_start(&ring->refuse_defer);
}

/* Returns whether the op goes round again, in another way. */
static bool
learn_unsupported(struct ring *ring, const struct backup_op *op)
{
	struct backup_target *t = ring->target;
	bool *can = op->kind == BACKUP_OP_DISCARD ? &t->can_discard : &t->can_zero;

	if (op->kind == BACKUP_OP_DISCARD && ring->has_discard_cmd) {
		ring->has_discard_cmd = false;
		return true;
	}
	if (*can)
		log_warn("backup[%s]: cannot %s: not asked for again", t->path,
			 op->kind == BACKUP_OP_DISCARD ? "discard" : "zero a range at once");
	*can = false;
	return false;
}

static void
wait_on(struct ring *ring, struct list *l, struct backup_op *op)
{
	ring->waiting++;
	list_add_tail(l, &op->node);
}

static void
complete(struct ring *ring, struct backup_op *op, int32_t res)
{
	enum op_step step;
	int status = 0;

	ring->in_flight--;
	lane_of(ring, op)->in_flight--;
	if (is_range(op) && res == -EOPNOTSUPP && learn_unsupported(ring, op)) {
		wait_on(ring, &ring->ranges.queue, op);
		return;
	}
	step = op_step(op, res, &status);
	if (step == OP_STEP_RETRY && ++ring->retries > RETRIES_MAX) {
		step = OP_STEP_DONE;
		status = res;
	}
	if (step != OP_STEP_RETRY)
		ring->retries = 0;
	switch (step) {
	case OP_STEP_DONE:
		op_ended(ring, op, status);
		break;
	case OP_STEP_CONTINUE:
		wait_on(ring, &lane_of(ring, op)->queue, op);
		break;
	case OP_STEP_RETRY:
		wait_on(ring, &ring->delayed, op);
		if (!ev_is_active(&ring->retry_timer))
			ev_timer_again(ring->loop, &ring->retry_timer);
		break;
	}
}

/*
 * A completion posts itself when this thread enters or leaves the kernel, which
 * ends epoll_wait() with EINTR: looking at the queue after every poll costs two
 * loads and saves the second epoll_wait() that would report the descriptor.
 */
static void
reap_cb(struct ev_loop *loop, ev_check *w, int revents)
{
	struct ring *ring = container_of(w, struct ring, reap_watcher);
	struct io_uring_cqe *cqes[COMPLETIONS_PER_TURN];
	struct backup_op *ops[COMPLETIONS_PER_TURN];
	int32_t results[COMPLETIONS_PER_TURN];
	unsigned int n;

	(void)loop;
	(void)revents;
	n = io_uring_peek_batch_cqe(&ring->uring, cqes, COMPLETIONS_PER_TURN);
	for (unsigned int i = 0; i < n; i++) {
		ops[i] = io_uring_cqe_get_data(cqes[i]);
		results[i] = cqes[i]->res;
	}
	io_uring_cq_advance(&ring->uring, n);
	for (unsigned int i = 0; i < n; i++)
		complete(ring, ops[i], results[i]);
}

/* Readable while completions are left over, so that the poll does not wait; reap_cb() has them. */
static void
wake_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

/*
 * Best first.  Not DEFER_TASKRUN: epoll does not hear of completions that wait for
 * the thread to ask (seen on 6.18), unless an eventfd is written and read for each.
 */
static int
create_uring(struct ring *ring)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int r = -EINVAL;

	for (size_t i = 0; r == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++)
		r = io_uring_queue_init(ring->depth, &ring->uring, flags[i]);
	if (r == -EPERM)
		return log_err_errno(EPERM,
				     "backup[%s]: io_uring is not allowed here, see sysctl "
				     "kernel.io_uring_disabled",
				     ring->target->path);
	if (r < 0)
		return log_err_errno(-r, "backup[%s]: cannot create an io_uring of %u entries",
				     ring->target->path, ring->depth);
	return 0;
}

/*
 * The kernel makes its objects for requests when more are in flight than ever before,
 * and keeps them: as many as there can be are made here, by requests that do nothing.
 */
static int
make_requests(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	int r;

	for (uint32_t i = 0; i < ring->depth; i++)
		io_uring_prep_nop(io_uring_get_sqe(&ring->uring));
	r = io_uring_submit_and_wait(&ring->uring, ring->depth);
	for (uint32_t i = 0; r >= 0 && i < ring->depth; i++) {
		r = io_uring_wait_cqe(&ring->uring, &cqe);
		if (r == 0)
			io_uring_cqe_seen(&ring->uring, cqe);
	}
	return r < 0 ? log_err_errno(-r, "backup[%s]: cannot use its io_uring", ring->target->path)
		     : 0;
}

static void
register_area(struct ring *ring)
{
	struct iovec parts[REGISTERS_MAX];
	unsigned int n = 0;
	int r;

	for (size_t at = 0; at < ring->area_bytes && n < REGISTERS_MAX; n++) {
		size_t left = ring->area_bytes - at;
		size_t most = (size_t)1 << REGISTER_SHIFT;

		parts[n].iov_base = ring->area + at;
		parts[n].iov_len = left < most ? left : most;
		at += parts[n].iov_len;
	}
	if (n == 0)
		return;
	r = io_uring_register_buffers(&ring->uring, parts, n);
	ring->is_registered = r == 0;
	/* What has no registered buffer is beyond the area for registered_index(). */
	if ((uint64_t)n << REGISTER_SHIFT < ring->area_bytes)
		ring->area_bytes = (size_t)n << REGISTER_SHIFT;
	if (r < 0)
		log_warn("backup[%s]: cannot register %zu bytes of buffers (%s; RLIMIT_MEMLOCK?): "
			 "each transfer maps its pages",
			 ring->target->path, ring->area_bytes, strerror(-r));
}

static void
lanes_init(struct ring *ring)
{
	const uint32_t quarter = ring->depth / 4;

	list_init(&ring->ranges.queue);
	list_init(&ring->reads.queue);
	list_init(&ring->writes.queue);
	ring->ranges.credit = quarter < RANGES_IN_FLIGHT_MAX ? quarter : RANGES_IN_FLIGHT_MAX;
	if (ring->ranges.credit == 0)
		ring->ranges.credit = 1;
	ring->reads.credit = ring->depth - quarter;
	ring->writes.credit = ring->depth - quarter;
}

int
ring_open(struct ring *ring, struct ev_loop *loop, struct turn_clock *clock,
	  struct backup_target *target, void *area, size_t area_bytes, uint32_t depth)
{
	int r;

	memset(ring, 0, sizeof(*ring));
	ring->loop = loop;
	ring->target = target;
	ring->clock = clock;
	ring->area = area;
	ring->area_bytes = area ? area_bytes : 0;
	ring->depth = depth;
	ring->has_discard_cmd = target->is_block_device;
	lanes_init(ring);
	list_init(&ring->delayed);
	list_init(&ring->refused);
	r = create_uring(ring);
	if (r < 0)
		return r;
	r = make_requests(ring);
	if (r < 0) {
		io_uring_queue_exit(&ring->uring);
		return r;
	}
	/* The file is not registered: a ring lets go of its registered files some time
	 * after the process is gone, and its successor would find the lock taken. */
	register_area(ring);
	ev_prepare_init(&ring->flush_watcher, flush_cb);
	ev_set_priority(&ring->flush_watcher, LOOP_PRI_DISK);
	ev_prepare_start(loop, &ring->flush_watcher);
	ev_check_init(&ring->reap_watcher, reap_cb);
	ev_check_start(loop, &ring->reap_watcher);
	ev_io_init(&ring->wake_watcher, wake_cb, ring->uring.ring_fd, EV_READ);
	ev_io_start(loop, &ring->wake_watcher);
	ev_timer_init(&ring->retry_timer, retry_cb, 0., RETRY_SECONDS);
	defer_init(&ring->refuse_defer, loop, refuse_cb, ring);
	return 0;
}

void
ring_close(struct ring *ring)
{
	assert(ring->in_flight == 0 && ring->waiting == 0);
	ev_prepare_stop(ring->loop, &ring->flush_watcher);
	ev_check_stop(ring->loop, &ring->reap_watcher);
	ev_io_stop(ring->loop, &ring->wake_watcher);
	ev_timer_stop(ring->loop, &ring->retry_timer);
	defer_stop(&ring->refuse_defer);
	io_uring_queue_exit(&ring->uring);
}

void
ring_submit(struct ring *ring, struct backup_op *op)
{
	assert(op->done && op->offset_bytes % PAGE_BYTES == 0 &&
	       op->length_bytes % PAGE_BYTES == 0);
	assert(op->kind == BACKUP_OP_SYNC ||
	       (op->length_bytes > 0 && op->offset_bytes < ring->target->size_bytes &&
		op->length_bytes <= ring->target->size_bytes - op->offset_bytes));
	assert(op->n_parts == 0 || op->kind == BACKUP_OP_WRITE);
	assert(op->n_parts <= BACKUP_PARTS_MAX);
	op->transferred_bytes = 0;
	op->submitted_ns = turn_clock_now(ring->clock);
	PROBE4(backup_submitted, op, op->kind, op->offset_bytes, op->length_bytes);
	if (is_refused(ring, op)) {
		ring->waiting++;
		refuse_later(ring, op);
	} else {
		wait_on(ring, &lane_of(ring, op)->queue, op);
	}
}
