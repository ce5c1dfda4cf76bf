/* SPDX-License-Identifier: MIT */
/*
 * A daemon for one client, whose only wish is to have its slabs back.
 *
 * A round: wait until all slabs are lent; CHECK_ACTIVITY of each, again and again, until
 * none is in use; CHECK_ACTIVITY twice, EVICT and the revocation of each, one after the other.
 */
#include "ctl-peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#define CHECK_INTERVAL_S 0.01
#define DEADLINE_MS 10000u
/* Page I/Os per second times 1000 below which a slab counts as idle. */
#define IDLE_MILLI_ACTIVITY 1000u

enum phase {
	PHASE_LENDING,
	PHASE_WAITING, /* until all are idle */
	PHASE_EVICTING,
};

struct slab {
	struct daemon *daemon;
	void *memory;
	struct tp_region *region;
	struct tp_grant *grant; /* NULL: not lent */
	uint32_t slab;
	uint32_t generation;
	uint32_t map_request_id;
};

struct daemon {
	struct peer *peer;
	struct tp_listener *listener;
	ev_timer check_timer;
	enum phase phase;
	uint32_t request_id;
	uint32_t round;
	uint32_t current; /* index of the slab that is asked about */
	uint32_t n_lent;
	bool is_warm;
	struct slab *slabs;
};

static void
make_slab(struct daemon *d, struct slab *s)
{
	const uint64_t bytes = d->peer->config.slab_bytes;
	struct tp *tp = d->peer->tp;
	int r = 0;

	if (tp_has_memory(tp))
		r = tp_memory_new(tp, bytes, false, &s->memory);
	else
		s->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r < 0 || s->memory == MAP_FAILED)
		peer_fail("no memory for a slab");
	r = tp_region_register(tp, s->memory, bytes, TP_LEND, &s->region);
	if (r < 0)
		peer_fail("cannot register a slab: %s", strerror(-r));
}

/* What a transport does not lend twice. */
static void
renew_slab(struct daemon *d, struct slab *s)
{
	if (!tp_region_is_spent(s->region))
		return;
	if (tp_region_release(s->region) < 0)
		peer_fail("cannot release a slab");
	tp_memory_free(d->peer->tp, s->memory);
	make_slab(d, s);
}

/* @type: CHECK_ACTIVITY or EVICT. */
static void
ask(struct daemon *d, enum ctl_type type)
{
	const struct slab *s = &d->slabs[d->current];
	struct ctl_msg msg = {.type = type, .request_id = ++d->request_id};

	if (type == CTL_EVICT)
		msg.u.evict = (struct ctl_evict){
			.slab = s->slab, .generation = s->generation, .deadline_ms = DEADLINE_MS};
	else
		msg.u.unmap = (struct ctl_unmap){.slab = s->slab, .generation = s->generation};
	peer_send_timed(d->peer, &msg);
}

static void
tell_free(struct daemon *d, uint32_t request_id)
{
	struct ctl_msg msg = {.type = CTL_FREE_MEM, .request_id = request_id};

	msg.u.free_mem.total_slabs = d->peer->config.n_slabs;
	if (d->phase == PHASE_LENDING)
		msg.u.free_mem.free_slabs = d->peer->config.n_slabs - d->n_lent;
	peer_send(d->peer, &msg);
}

static void
check_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)revents;
	ask(w->data, CTL_CHECK_ACTIVITY);
}

static void
activity_waiting(struct daemon *d, uint64_t milli_activity)
{
	if (milli_activity >= IDLE_MILLI_ACTIVITY) {
		ev_timer_set(&d->check_timer, CHECK_INTERVAL_S, 0.0);
		ev_timer_start(d->peer->loop, &d->check_timer);
		return;
	}
	if (++d->current == d->peer->config.n_slabs) {
		d->current = 0;
		d->phase = PHASE_EVICTING;
	}
	ask(d, CTL_CHECK_ACTIVITY);
}

static void
activity(struct daemon *d, const struct ctl_activity *a)
{
	if (d->phase == PHASE_WAITING) {
		activity_waiting(d, a->milli_pages_per_second);
		return;
	}
	/* The first after a revocation: both ends come from other work. */
	if (!d->is_warm) {
		d->is_warm = true;
		ask(d, CTL_CHECK_ACTIVITY);
		return;
	}
	peer_print_time(d->peer, "check");
	ask(d, CTL_EVICT);
}

static void
end_round(struct daemon *d)
{
	d->round++;
	(void)printf("round %u\n", d->round);
	(void)fflush(stdout);
	d->current = 0;
	d->phase = PHASE_LENDING;
	if (d->round == d->peer->config.n_rounds) {
		d->peer->is_over = true;
		tp_close(d->peer->conn);
		return;
	}
	tell_free(d, 0);
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct slab *s = arg;
	struct daemon *d = s->daemon;

	(void)grant;
	if (status < 0)
		peer_fail("cannot revoke: %s", strerror(-status));
	s->grant = NULL;
	d->n_lent--;
	d->is_warm = false;
	renew_slab(d, s); /* one at a time: PINGs come too */
	if (++d->current < d->peer->config.n_slabs)
		ask(d, CTL_CHECK_ACTIVITY);
	else
		end_round(d);
}

static void
done(struct daemon *d)
{
	struct slab *s = &d->slabs[d->current];

	peer_print_time(d->peer, "evict");
	tp_revoke(s->grant, revoked_cb, s);
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct slab *s = arg;
	struct daemon *d = s->daemon;
	struct ctl_msg msg = {.type = CTL_MR_INFO, .request_id = s->map_request_id};
	struct tp_remote remote;

	if (status < 0)
		peer_fail("cannot grant: %s", strerror(-status));
	tp_grant_remote(grant, &remote);
	msg.u.mr_info = (struct ctl_mr_info){.slab = s->slab,
					     .generation = s->generation,
					     .addr = remote.addr,
					     .length_bytes = remote.length_bytes,
					     .rkey = remote.rkey};
	peer_send(d->peer, &msg);
	if (++d->n_lent < d->peer->config.n_slabs)
		return;
	(void)printf("lent %u\n", d->round + 1);
	(void)fflush(stdout);
	d->phase = PHASE_WAITING;
	ask(d, CTL_CHECK_ACTIVITY);
}

static void
map(struct daemon *d, const struct ctl_msg *msg)
{
	struct slab *s = d->slabs;
	int r;

	while (s < d->slabs + d->peer->config.n_slabs && s->grant)
		s++;
	if (s == d->slabs + d->peer->config.n_slabs)
		peer_fail("MAP of more slabs than there are");
	s->slab = msg->u.map.slab;
	s->generation = msg->u.map.generation;
	s->map_request_id = msg->request_id;
	r = tp_grant(d->peer->conn, s->region, granted_cb, s, &s->grant);
	if (r < 0)
		peer_fail("cannot grant: %s", strerror(-r));
}

static void
welcome(struct daemon *d, const struct ctl_msg *hello)
{
	struct ctl_msg msg = {.type = CTL_WELCOME, .request_id = hello->request_id};

	msg.u.welcome.slab_bytes = d->peer->config.slab_bytes;
	msg.u.welcome.epoch = 1;
	msg.u.welcome.free_slabs = msg.u.welcome.total_slabs = d->peer->config.n_slabs;
	peer_send(d->peer, &msg);
}

static void
message_cb(void *arg, const void *bytes, size_t length_bytes)
{
	struct daemon *d = arg;
	struct ctl_msg pong = {.type = CTL_PONG};
	struct ctl_msg msg;

	peer_decode(bytes, length_bytes, &msg);
	pong.request_id = msg.request_id;
	switch (msg.type) {
	case CTL_HELLO:
		welcome(d, &msg);
		break;
	case CTL_QUERY_MEM:
		tell_free(d, msg.request_id);
		break;
	case CTL_MAP:
		map(d, &msg);
		break;
	case CTL_PING:
		peer_send(d->peer, &pong);
		break;
	case CTL_ACTIVITY:
		activity(d, &msg.u.activity);
		break;
	case CTL_DONE:
		done(d);
		break;
	default:
		peer_fail("%s was not expected", ctl_type_name(msg.type));
	}
}

static void
down_cb(void *arg, int reason)
{
	const struct daemon *d = arg;

	if (!d->peer->is_over)
		peer_fail("the connection ended: %s", strerror(-reason));
	ev_break(d->peer->loop, EVBREAK_ALL);
}

static const struct tp_conn_events daemon_events = {.message = message_cb, .down = down_cb};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct daemon *d = arg;

	if (d->peer->conn)
		peer_fail("a second client");
	d->peer->conn = conn;
	tp_accept(conn, &daemon_events, d);
}

void
run_daemon(struct peer *p)
{
	struct daemon d = {.peer = p};
	char address[TP_NAME_BYTES_MAX];
	int r;

	d.slabs = calloc(p->config.n_slabs, sizeof(*d.slabs));
	if (!d.slabs)
		peer_fail("no memory");
	for (uint32_t i = 0; i < p->config.n_slabs; i++) {
		d.slabs[i].daemon = &d;
		make_slab(&d, &d.slabs[i]);
	}
	ev_init(&d.check_timer, check_cb);
	d.check_timer.data = &d;
	r = tp_listen(p->tp, p->config.address, incoming_cb, &d, &d.listener);
	if (r < 0)
		peer_fail("cannot listen at %s: %s", p->config.address, strerror(-r));
	tp_listener_address(d.listener, address, sizeof(address));
	(void)printf("listening %s\n", address);
	(void)fflush(stdout);
	(void)ev_run(p->loop, 0);
	tp_listener_close(d.listener);
	free(d.slabs);
}
