/* SPDX-License-Identifier: MIT */
/*
 * The session with each daemon; no other file changes its state.
 *
 *   IDLE -(retry timer)-> CONNECTING -(up)-> HELLO -(CHALLENGE)-> AUTH
 *   HELLO or AUTH -(WELCOME)-> UP
 *   any but IDLE -(any failure)-> CLOSING -(down)-> IDLE
 *   FREE -(portal added)-> IDLE; IDLE -(portal removed)-> FREE
 *
 * Failure modes: no connection, no answer in time, a refusal, a message that
 * does not fit, a failed operation, an operation without completion in time.
 * Each ends this session only: its slabs are unmapped at once, its operations end
 * by the transport's down(), and a new try follows after a growing pause.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "slab/core.h"

/* Request ids: MAP uses slab + 1, UNMAP that with a bit of its own, QUERY_MEM has the two top bits
 * and a number; these have the first one. */
#define PING_ID UINT32_C(0x80000001)
#define HELLO_ID UINT32_C(0x80000002)
/* Of no placement. */
#define REFRESH_ID UINT32_C(0xc0000000)

static uint64_t
map_timeout_ns(const struct remote *r)
{
	return MAP_ANSWER_TIMEOUTS * r->dev->config.op_timeout_ns;
}

static void
remote_set_idle(struct remote *r)
{
	const struct slab_device_config *c = &r->dev->config;

	r->state = REMOTE_IDLE;
	r->conn = NULL;
	core_timer_arm(&r->step_timer, r->retry_ns);
	r->retry_ns = r->retry_ns * 2 < c->retry_max_ns ? r->retry_ns * 2 : c->retry_max_ns;
}

/* Says that the daemon is not used, once per change.  @reason: of its refusal, or 0. */
static void
report_down(struct remote *r, int error, uint32_t reason, const char *what)
{
	if (r->was_reported_down && r->last_error == error && r->last_reason == reason)
		return;
	r->was_reported_down = true;
	r->last_error = error;
	r->last_reason = reason;
	if (r->slabs_mapped > 0)
		device_event(r->dev, SLAB_EVENT_WARN,
			     "daemon %s: %s: %s; its %u slabs are %s, trying to reconnect",
			     r->address, what, strerror(-error), r->slabs_mapped,
			     r->dev->backup ? "served from the backup" : "lost");
	else
		device_event(r->dev, SLAB_EVENT_WARN, "daemon %s: %s: %s; trying again", r->address,
			     what, strerror(-error));
}

static void
timers_stop(struct remote *r)
{
	core_timer_stop(&r->step_timer);
	core_timer_stop(&r->ping_timer);
	core_timer_stop(&r->map_timer);
	health_end(r);
}

void
remote_open(struct remote *r)
{
	r->state = REMOTE_IDLE;
	r->retry_ns = r->dev->config.retry_ns;
	list_init(&r->ops);
	list_init(&r->reads);
	list_init(&r->touched_node);
	core_timer_arm(&r->step_timer, 0);
	remote_touch(r);
}

void
remote_close(struct remote *r)
{
	if (r->state == REMOTE_IDLE || r->state == REMOTE_CLOSING)
		return;
	r->state = REMOTE_CLOSING;
	timers_stop(r);
	slabs_unmap_remote(r->dev, r);
	r->slabs_free = 0;
	r->maps_pending = 0;
	r->is_map_overdue = false;
	r->is_map_excused = false;
	r->is_ping_pending = false;
	r->is_free_doubtful = false;
	tp_close(r->conn);
}

static void
remote_end(struct remote *r, int error, uint32_t reason, const char *what)
{
	if (r->state == REMOTE_IDLE || r->state == REMOTE_CLOSING)
		return;
	report_down(r, error, reason, what);
	if (r->state == REMOTE_UP)
		r->dev->stats.remote_failures++;
	remote_close(r);
}

void
remote_fail(struct remote *r, int error, const char *what)
{
	remote_end(r, error, 0, what);
}

int
remote_try_send(struct remote *r, const struct ctl_msg *msg)
{
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	const size_t n = ctl_encode(msg, buf);
	const int s = tp_send(r->conn, buf, n);

	remote_touch(r); /* for the deadline of the answer */
	if (s < 0 && s != -EAGAIN)
		remote_fail(r, s, "cannot send");
	return s;
}

static bool
remote_send(struct remote *r, const struct ctl_msg *msg)
{
	const int s = remote_try_send(r, msg);

	if (s == -EAGAIN)
		remote_fail(r, s, "cannot send");
	return s == 0;
}

static void
send_hello(struct remote *r)
{
	const struct slab_device_config *c = &r->dev->config;
	struct ctl_msg msg = {.type = CTL_HELLO, .request_id = HELLO_ID};
	int s;

	memcpy(msg.u.hello.client_id, c->client_id, sizeof(msg.u.hello.client_id));
	memcpy(msg.u.hello.device, c->name, strlen(c->name));
	msg.u.hello.slab_bytes = c->slab_bytes;
	c->entropy(c->arg, msg.u.hello.nonce, sizeof(msg.u.hello.nonce));
	r->hello_bytes = ctl_encode(&msg, r->hello);
	s = tp_send(r->conn, r->hello, r->hello_bytes);
	if (s < 0)
		remote_fail(r, s, "cannot send");
}

static void
on_challenge(struct remote *r, const struct ctl_challenge *challenge)
{
	const struct auth_psk *psk = &r->dev->config.psk;
	struct ctl_msg msg = {.type = CTL_AUTH, .request_id = HELLO_ID};
	uint8_t proof[CTL_PROOF_BYTES];

	if (psk->length_bytes == 0) {
		remote_fail(r, -EACCES, "it asks for a psk and psk_file is not set");
		return;
	}
	auth_proof(psk, AUTH_DAEMON, r->hello, r->hello_bytes, challenge->nonce, proof);
	if (!auth_proof_equal(proof, challenge->proof)) {
		remote_fail(r, -EACCES, "its psk differs from ours");
		return;
	}
	auth_proof(psk, AUTH_CLIENT, r->hello, r->hello_bytes, challenge->nonce, msg.u.auth.proof);
	r->state = REMOTE_AUTH;
	(void)remote_send(r, &msg);
}

static void
on_welcome(struct remote *r, const struct ctl_welcome *welcome)
{
	const struct slab_device_config *c = &r->dev->config;

	if (c->psk.length_bytes > 0 && r->state != REMOTE_AUTH) {
		remote_fail(r, -EACCES, "it did not prove the psk");
		return;
	}
	if (welcome->slab_bytes != c->slab_bytes) {
		remote_fail(r, -EPROTO, "its slab size differs from ours");
		return;
	}
	r->state = REMOTE_UP;
	r->slabs_free = welcome->free_slabs;
	placement_hope(r->dev);
	r->was_reported_down = false;
	r->last_error = 0;
	core_timer_arm(&r->step_timer, c->ping_ns);
	health_begin(r, welcome);
	device_event(r->dev, SLAB_EVENT_NOTICE, "daemon %s: connected, %u of %u slabs free",
		     r->address, welcome->free_slabs, welcome->total_slabs);
}

static void
map_timer_arm(struct remote *r)
{
	r->is_map_overdue = false;
	r->is_map_excused = false;
	core_timer_arm(&r->map_timer, map_timeout_ns(r));
}

/* The next answer has its own time; PONGs do not count, else a MAP could wait for ever. */
static void
map_answered(struct remote *r)
{
	placement_hope(r->dev);
	if (--r->maps_pending == 0)
		core_timer_stop(&r->map_timer);
	else
		map_timer_arm(r);
}

static void
on_refused(struct remote *r, const struct ctl_msg *msg)
{
	const uint32_t reason = msg->u.refused.reason;

	if (r->state != REMOTE_UP) {
		char what[CTL_TEXT_BYTES + 64];

		(void)snprintf(what, sizeof(what), "it refused us: %s (%s)",
			       ctl_reason_name(reason), msg->u.refused.text);
		remote_end(r, reason == CTL_REASON_AUTH ? -EACCES : -ECONNREFUSED, reason, what);
		return;
	}
	if (evict_unmapped(r, msg->request_id))
		return;
	if (msg->request_id == 0 || !placement_refused(r, msg->request_id - 1)) {
		remote_fail(r, -EPROTO, "it refused what was not asked");
		return;
	}
	map_answered(r);
	r->slabs_free = 0;
	r->is_free_doubtful = true;
}

/* PONG came, and no answer to a MAP that is overdue. */
static void
map_overdue(struct remote *r)
{
	if (r->is_map_excused) {
		remote_fail(r, -ETIMEDOUT, "no answer to MAP in time");
		return;
	}
	map_timer_arm(r);
	r->is_map_excused = true;
	core_timer_arm(&r->map_timer, r->dev->config.op_timeout_ns);
}

static void
on_free_mem(struct remote *r, const struct ctl_msg *msg)
{
	r->slabs_free = msg->u.free_mem.free_slabs;
	r->is_free_doubtful = false;
	r->usage_permille = msg->u.free_mem.usage_permille;
	if (r->slabs_free > 0)
		placement_hope(r->dev);
	if (msg->request_id != 0 && !placement_answered(r, msg->request_id, &msg->u.free_mem))
		remote_fail(r, -EPROTO, "FREE_MEM does not fit what was asked");
}

static void
on_pong(struct remote *r)
{
	if (!r->is_ping_pending) {
		remote_fail(r, -EPROTO, "PONG without PING");
		return;
	}
	r->is_ping_pending = false;
	core_timer_stop(&r->ping_timer);
	health_pong(r);
	/* Not at WELCOME: one that fails right after it is tried with growing pauses too. */
	r->retry_ns = r->dev->config.retry_ns;
	/* FREE_MEM comes unasked only when the number is another one than the last that was told. */
	if (r->slabs_free == 0 && r->is_free_doubtful) {
		r->is_free_doubtful = false;
		remote_query(r, REFRESH_ID);
	}
	if (r->is_map_overdue)
		map_overdue(r);
}

static void
on_asked(struct remote *r, const struct ctl_msg *msg)
{
	/* An EVICT with id 0 would be taken for our own wish, and answered by UNMAP. */
	if (msg->request_id == 0)
		remote_fail(r, -EPROTO, "a request without request id");
	else if (msg->type == CTL_EVICT)
		evict_asked(r, msg);
	else
		evict_check_activity(r, msg);
}

static void
on_message_up(struct remote *r, const struct ctl_msg *msg)
{
	switch (msg->type) {
	case CTL_FREE_MEM:
		on_free_mem(r, msg);
		return;
	case CTL_MR_INFO:
		if (msg->request_id != msg->u.mr_info.slab + 1 ||
		    !placement_mapped(r, &msg->u.mr_info)) {
			remote_fail(r, -EPROTO, "MR_INFO does not fit what was asked");
			return;
		}
		map_answered(r);
		return;
	case CTL_REFUSED:
		on_refused(r, msg);
		return;
	case CTL_UNMAPPED:
		if (!evict_unmapped(r, msg->request_id))
			remote_fail(r, -EPROTO, "UNMAPPED does not fit what was asked");
		return;
	case CTL_CHECK_ACTIVITY:
	case CTL_EVICT:
		on_asked(r, msg);
		return;
	case CTL_PONG:
		on_pong(r);
		return;
	default:
		remote_fail(r, -EPROTO, "a message that does not fit the session");
		return;
	}
}

static void
remote_message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct remote *r = arg;
	struct ctl_msg msg;
	const int s = ctl_decode(bytes, length_bytes, &msg);

	remote_touch(r);
	if (r->state == REMOTE_CLOSING)
		return;
	if (s < 0) {
		remote_fail(r, s, "a message that cannot be decoded");
		return;
	}
	if (r->state == REMOTE_UP) {
		on_message_up(r, &msg);
		return;
	}
	if (msg.type == CTL_REFUSED)
		on_refused(r, &msg);
	else if (msg.type == CTL_CHALLENGE && r->state == REMOTE_HELLO)
		on_challenge(r, &msg.u.challenge);
	else if (msg.type == CTL_WELCOME)
		on_welcome(r, &msg.u.welcome);
	else
		remote_fail(r, -EPROTO, "a message that does not fit the session");
}

static void
remote_up_cb(void *arg)
{
	struct remote *r = arg;

	remote_touch(r);
	if (r->state != REMOTE_CONNECTING)
		return; /* given up meanwhile */
	r->state = REMOTE_HELLO;
	send_hello(r);
}

static void
remote_down_cb(void *arg, int reason)
{
	struct remote *r = arg;

	remote_fail(r, reason < 0 ? reason : -ECONNRESET,
		    r->state == REMOTE_CONNECTING ? "cannot connect" : "connection lost");
	assert(list_is_empty(&r->ops) && !r->health.is_probing);
	remote_set_idle(r);
	remote_touch(r);
	if (r->is_leaving)
		membership_left(r);
}

static const struct tp_conn_events remote_events = {
	.up = remote_up_cb,
	.message = remote_message_cb,
	.down = remote_down_cb,
};

static void
remote_connect(struct remote *r)
{
	const uint64_t timeout_ns = r->dev->config.connect_timeout_ns;
	const int s = tp_connect(r->tp, r->address, timeout_ns, &remote_events, r, &r->conn);

	if (s < 0) {
		report_down(r, s, 0, "cannot connect");
		remote_set_idle(r);
		return;
	}
	r->state = REMOTE_CONNECTING;
	/* The transport bounds the connection, this bounds HELLO to WELCOME too. */
	core_timer_arm(&r->step_timer, timeout_ns * 2);
}

static void
remote_ping(struct remote *r)
{
	const struct slab_device_config *c = &r->dev->config;
	const struct ctl_msg msg = {.type = CTL_PING, .request_id = PING_ID};

	core_timer_arm(&r->step_timer, c->ping_ns);
	if (r->is_ping_pending || !remote_send(r, &msg))
		return;
	r->is_ping_pending = true;
	r->ping_ns = r->dev->now_ns;
	core_timer_arm(&r->ping_timer, c->op_timeout_ns);
	health_ping(r);
}

bool
remote_may_map(const struct remote *r)
{
	return r->state == REMOTE_UP && r->slabs_free > 0 && !r->is_leaving && health_may_map(r) &&
	       r->maps_pending < MAPS_PENDING_MAX;
}

void
remote_query(struct remote *r, uint32_t request_id)
{
	const struct ctl_msg msg = {.type = CTL_QUERY_MEM, .request_id = request_id};

	(void)remote_send(r, &msg);
}

bool
remote_map(struct remote *r, uint32_t slab, uint32_t generation)
{
	const struct ctl_msg msg = {
		.type = CTL_MAP,
		.request_id = slab + 1,
		.u.map = {.slab = slab, .generation = generation},
	};

	if (!remote_send(r, &msg))
		return false;
	r->slabs_free--;
	r->is_free_doubtful = true;
	r->maps_pending++;
	if (!r->map_timer.is_armed && !r->is_map_overdue)
		map_timer_arm(r);
	return true;
}

/* From when it was handed over, at the end of the turn that posted it. */
static void
op_timed(struct piece *p)
{
	struct histogram *times = &p->remote->times[p->remote_op.kind == TP_OP_WRITE ? 1 : 0];

	histogram_add(times, p->posted_ns != 0 ? device_now(p->dev) - p->posted_ns : 0);
}

static void
op_done_cb(struct tp_op *op, int status)
{
	struct piece *p = container_of(op, struct piece, remote_op);
	struct remote *r = p->remote;

	if (r->ops.next == &p->remote_node) {
		r->head_ns = 0;
		/* A PING or its answer may queue behind the pages of a slow link that were
		 * posted before it. */
		if (status == 0 && r->is_ping_pending && p->posted_ns != 0 &&
		    p->posted_ns <= r->ping_ns && !r->health.is_pong_overdue)
			core_timer_arm(&r->ping_timer, r->dev->config.op_timeout_ns);
	}
	list_del(&p->remote_node);
	p->remote_busy = false;
	PROBE4(remote_completed, op, r->index, op->kind, status);
	remote_touch(r);
	slab_op_ended(p);
	if (status == -ECANCELED)
		remote_fail(p->remote, -ECONNRESET, "connection lost");
	else if (status < 0)
		remote_fail(p->remote, status, "remote memory cannot be reached");
	else
		health_sign(r);
	if (status == 0)
		op_timed(p);
	if (p->is_reading || p->io.kind == BACKEND_READ)
		read_remote_done(p, status);
	else
		write_remote_done(p, status);
}

void
remote_post(struct piece *p, enum tp_op_kind kind, uint32_t mask)
{
	struct slab_device *d = p->dev;
	const struct slab_home home = slab_home_of(d, p->order.block, mask, kind);
	struct remote *r = &d->remotes[home.daemon];
	const uint64_t in_slab =
		((uint64_t)(p->order.block % d->arena.slab_blocks) << BLOCK_SHIFT) +
		((uint64_t)__builtin_ctz(mask) << PAGE_SHIFT);

	assert(slab_holds(d, piece_slab(p), home.generation) && !p->remote_busy &&
	       r->state == REMOTE_UP);
	p->remote = r;
	p->remote_mask = mask;
	p->generation = home.generation;
	p->remote_busy = true;
	p->posted_ns = 0;
	device_posted(d, &p->io);
	list_add_tail(&r->ops, &p->remote_node);
	remote_touch(r);
	slab_op_begins(p, kind);
	p->remote_op = (struct tp_op){
		.kind = kind,
		.length_bytes = page_count(mask) * PAGE_BYTES,
		.region = r->buffers,
		.buf = piece_run_buf(p, mask),
		.remote_addr = home.remote_addr + in_slab,
		.rkey = home.rkey,
		.done = op_done_cb,
	};
	if (kind == TP_OP_READ)
		hedge_posted(p);
	PROBE5(remote_posted, &p->remote_op, r->index, kind,
	       ((uint64_t)p->order.block << BLOCK_SHIFT) +
		       ((uint64_t)__builtin_ctz(mask) << PAGE_SHIFT),
	       p->remote_op.length_bytes);
	tp_post(r->conn, &p->remote_op);
}

/*
 * Stamps what was posted since the last turn; true when the oldest is overdue.
 * Its time runs from when it became the oldest: many operations queue behind a slow
 * link, and as long as they complete one after the other the link is alive.
 */
static bool
ops_overdue(struct remote *r, uint64_t now_ns, uint64_t *next_ns)
{
	const uint64_t timeout_ns = r->dev->config.op_timeout_ns;
	const struct piece *oldest;
	uint64_t deadline_ns;

	for (struct list *pos = r->ops.prev; pos != &r->ops; pos = pos->prev) {
		struct piece *p = container_of(pos, struct piece, remote_node);

		if (p->posted_ns != 0)
			break;
		p->posted_ns = now_ns;
	}
	if (list_is_empty(&r->ops) || r->state != REMOTE_UP)
		return false;
	if (r->head_ns == 0)
		r->head_ns = now_ns;
	oldest = container_of(r->ops.next, struct piece, remote_node);
	deadline_ns = oldest->posted_ns + OP_AGE_TIMEOUTS * timeout_ns;
	if (r->head_ns + timeout_ns < deadline_ns)
		deadline_ns = r->head_ns + timeout_ns;
	if (deadline_ns <= now_ns)
		return true;
	if (deadline_ns < *next_ns)
		*next_ns = deadline_ns;
	return false;
}

static void
remote_step_due(struct remote *r)
{
	switch (r->state) {
	case REMOTE_IDLE:
		if (r->dev->stop_step < STOP_CLOSE)
			remote_connect(r);
		return;
	case REMOTE_UP:
		remote_ping(r);
		return;
	case REMOTE_CONNECTING:
	case REMOTE_HELLO:
	case REMOTE_AUTH:
		remote_fail(r, -ETIMEDOUT, "cannot connect");
		return;
	case REMOTE_CLOSING:
	case REMOTE_FREE:
		return;
	}
}

/* A daemon that answers PING and not MAP is given up; if neither, PING's rules hold. */
static void
map_due(struct remote *r)
{
	r->is_map_overdue = true;
	if (!r->is_ping_pending)
		remote_ping(r);
}

/* Returns when it has to be looked at again, unless it is touched before. */
static uint64_t
remote_advance(struct remote *r, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	if (ops_overdue(r, now_ns, &next_ns))
		remote_fail(r, -ETIMEDOUT, "an operation did not complete in time");
	/* What may send a PING, then what times it. */
	if (core_timer_is_due(&r->map_timer, now_ns, &next_ns))
		map_due(r);
	if (core_timer_is_due(&r->step_timer, now_ns, &next_ns)) {
		remote_step_due(r);
		(void)core_timer_is_due(&r->step_timer, now_ns, &next_ns);
	}
	if (core_timer_is_due(&r->ping_timer, now_ns, &next_ns) && !health_outlives_ping(r))
		remote_fail(r, -ETIMEDOUT, "no answer to PING in time");
	health_advance(r, now_ns, &next_ns);
	hedge_advance(r, now_ns, &next_ns);
	return next_ns;
}

uint64_t
remotes_advance(struct slab_device *d, uint64_t now_ns)
{
	struct remote *r;

	while ((r = remote_queue_take(&d->remote_queue, now_ns)) != NULL)
		remote_queue_set_due(r, remote_advance(r, now_ns));
	return remote_queue_due_ns(&d->remote_queue);
}

bool
remotes_stop(struct slab_device *d)
{
	bool all_idle = true;

	for (uint32_t i = 0; i < d->n_remotes; i++) {
		struct remote *r = &d->remotes[i];

		if (r->state == REMOTE_IDLE || r->state == REMOTE_FREE)
			continue;
		all_idle = false;
		remote_close(r);
	}
	return all_idle;
}
