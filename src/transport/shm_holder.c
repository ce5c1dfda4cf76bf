/* SPDX-License-Identifier: MIT */
/*
 * A peer that closed its end, or died, has unmapped before: an honest client does so,
 * and the kernel does it for every other.  POLLHUP says that, not the end of what it
 * sends: that it could shut down and live on.
 */
#include "transport/shm_holder.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "transport/shm_conn.h"
#include "transport/shm_grant.h"
#include "transport/shm_packet.h"
#include "transport/shm_tp.h"

#define CHECK_SECONDS 0.25

static bool
is_gone(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static void
forget(struct shm_tp *shm, struct shm_holder *h)
{
	atomic_fetch_sub(&shm->held_bytes, h->bytes);
	list_del(&h->node);
	(void)close(h->fd);
	free(h);
}

static void
check_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct shm_tp *shm = container_of(w, struct shm_tp, holders_check);
	struct list *node, *next;

	(void)revents;
	list_foreach_safe (node, next, &shm->holders) {
		struct shm_holder *h = container_of(node, struct shm_holder, node);

		if (!is_gone(h->fd))
			continue;
		if (h->was_said)
			log_notice("%s: it has ended, %" PRIu64 " MiB are the host's again",
				   h->name, h->bytes >> 20);
		forget(shm, h);
	}
	/* Said at the second look: an honest client takes a moment to close. */
	list_foreach (node, &shm->holders) {
		struct shm_holder *h = container_of(node, struct shm_holder, node);

		if (!h->was_said)
			log_warn("%s: its %" PRIu64 " MiB stay in use until that process ends",
				 h->name, h->bytes >> 20);
		h->was_said = true;
	}
	if (!list_is_empty(&shm->holders))
		return;
	ev_ref(loop);
	ev_timer_stop(loop, w);
}

bool
shm_holder_keep(struct tp_conn *conn)
{
	struct shm_tp *shm = conn->shm;
	const uint64_t bytes = shm_grants_held_bytes(conn);
	struct shm_holder *h = conn->holder;

	if (bytes == 0 || shm->is_stopping || is_gone(conn->fd))
		return false;
	/* An honest client sees our end and closes.  Only a socket that we have not shut down
	 * ourselves tells of that for sure: who does not read is told in the other way. */
	if (shm_packet_bye(conn) < 0)
		(void)shutdown(conn->fd, SHUT_WR);
	conn->holder = NULL;
	h->fd = conn->fd;
	h->bytes = bytes;
	memcpy(h->name, conn->name, sizeof(h->name));
	list_add_tail(&shm->holders, &h->node);
	atomic_fetch_add(&shm->held_bytes, bytes);
	if (ev_is_active(&shm->holders_check))
		return true;
	ev_timer_set(&shm->holders_check, CHECK_SECONDS, CHECK_SECONDS);
	ev_timer_start(shm->loop, &shm->holders_check);
	ev_unref(shm->loop); /* it alone is no reason for the loop to go on */
	return true;
}

void
shm_holders_init(struct shm_tp *shm)
{
	list_init(&shm->holders);
	ev_timer_init(&shm->holders_check, check_cb, 0., 0.);
	atomic_init(&shm->held_bytes, 0);
}

void
shm_holders_forget(struct shm_tp *shm)
{
	while (!list_is_empty(&shm->holders))
		forget(shm, container_of(shm->holders.next, struct shm_holder, node));
	if (!ev_is_active(&shm->holders_check))
		return;
	ev_ref(shm->loop);
	ev_timer_stop(shm->loop, &shm->holders_check);
}
