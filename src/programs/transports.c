/* SPDX-License-Identifier: MIT */
#include "programs/transports.h"

#include <errno.h>
#include <string.h>

#include "common/ini.h"
#include "common/log.h"
#include "slab/device.h"
#include "transport/dns_portal.h"
#include "transport/shm.h"
#include "transport/tcp.h"
#include "transport/transport.h"
#ifdef HAVE_RDMA
#include "rdma/rdma.h"
#endif

struct kind {
	const char *prefix;
	int (*make)(struct ev_loop *loop, struct tp **ret_tp);
};

#ifdef HAVE_RDMA
static int
rdma_make(struct ev_loop *loop, struct tp **ret_tp)
{
	return vrb_tp_new(loop, NULL, ret_tp);
}
#else
#define rdma_make NULL
#endif

static const struct kind kinds[TRANSPORT_KINDS] = {
	{"tcp:", tcp_tp_new},
	{"rdma:", rdma_make},
	{"shm:", shm_tp_new},
};

static const struct kind *
kind_of(const char *address)
{
	for (uint32_t i = 0; i < TRANSPORT_KINDS; i++)
		if (strncmp(address, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return &kinds[i];
	return NULL;
}

/* A name of the name service stands for addresses with the prefix. */
static const char *
prefix_of(const char *address)
{
	const char *name, *prefix;

	return dns_portal_parse(address, &name, &prefix) == 0 ? prefix : address;
}

int
transports_check(const char *file, const char *key, const struct ini_list *addresses)
{
	for (uint32_t i = 0; i < addresses->count; i++) {
		const struct kind *kind = kind_of(prefix_of(addresses->item[i]));

		if (kind && kind->make)
			continue;
		log_error("%s: %s = %s: %s", file, key, addresses->item[i],
			  kind ? "this program was built without RDMA (meson setup -Drdma=enabled)"
			       : "none of tcp:, rdma:, shm: and dns:");
		return -EINVAL;
	}
	return 0;
}

int
transports_get(struct transports *t, struct ev_loop *loop, const char *address, struct tp **ret_tp,
	       const char **ret_rest)
{
	const struct kind *kind = kind_of(address);
	struct tp **tp;
	int r = 0;

	if (!kind || !kind->make)
		return log_err_errno(EINVAL, "no transport for %s", address);
	tp = &t->tps[kind - kinds];
	if (!*tp)
		r = kind->make(loop, tp);
	if (r < 0)
		return log_err_errno(-r, "cannot use %s", address);
	*ret_tp = *tp;
	*ret_rest = address + strlen(kind->prefix);
	return 0;
}

int
transports_portal(struct transports *t, struct ev_loop *loop, const char *address,
		  struct slab_portal *ret_portal)
{
	return transports_get(t, loop, address, &ret_portal->tp, &ret_portal->address);
}

static void
stopped_cb(void *arg)
{
	struct transports *t = arg;

	if (--t->n_running == 0)
		t->stopped(t->stopped_arg);
}

void
transports_stop(struct transports *t, void (*stopped)(void *arg), void *arg)
{
	t->stopped = stopped;
	t->stopped_arg = arg;
	t->n_running = 1; /* ours, so that none of them ends it early */
	for (uint32_t i = 0; i < TRANSPORT_KINDS; i++) {
		if (!t->tps[i])
			continue;
		t->n_running++;
		tp_shutdown(t->tps[i], stopped_cb, t);
	}
	stopped_cb(t);
}

void
transports_free(struct transports *t)
{
	for (uint32_t i = 0; i < TRANSPORT_KINDS; i++)
		t->tps[i] = tp_free(t->tps[i]);
}
