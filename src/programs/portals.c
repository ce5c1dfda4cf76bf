/* SPDX-License-Identifier: MIT */
#include "programs/portals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "nbd_server/server_config_file.h"
#include "programs/dns_names.h"
#include "programs/transports.h"
#include "transport/config_check.h"
#include "transport/dns_portal.h"

static int
add(struct portals *p, const char *address)
{
	int r;

	r = transports_portal(p->transports, p->loop, address, &p->list[p->count]);
	if (r == 0)
		p->count++;
	return r;
}

/* What @items list by address.  Their number was checked. */
static int
add_listed(struct portals *p, const struct ini_list *items)
{
	int r = 0;

	p->count = 0;
	for (uint32_t i = 0; i < items->count && r == 0; i++)
		if (!dns_portal_is(items->item[i]))
			r = add(p, items->item[i]);
	return r;
}

/* What the name service said, as far as there is room. */
static int
add_named(struct portals *p)
{
	uint32_t n_left_out = 0;
	const char *address;
	int r = 0;

	for (uint32_t i = 0; r == 0 && (address = dns_names_address(p->dns, i)) != NULL; i++) {
		if (p->count < p->max)
			r = add(p, address);
		else
			n_left_out++;
	}
	if (n_left_out > 0 && n_left_out != p->n_left_out)
		log_warn("%u daemons of the name service are left out; raise [daemons] max_portals "
			 "(%u) and restart",
			 n_left_out, p->max);
	p->n_left_out = n_left_out;
	return r;
}

static int
apply(struct portals *p)
{
	int r;

	alloc_scope_enter();
	r = add_listed(p, &p->listed);
	if (r == 0)
		r = add_named(p);
	if (r == 0) {
		r = slab_device_set_portals(p->device, p->list, p->count);
		if (r < 0)
			(void)log_err_errno(-r, "cannot use the portals");
	}
	alloc_scope_leave();
	return r;
}

static void
lookup_ended_cb(void *arg)
{
	(void)apply(arg);
}

int
portals_init(struct portals *p, struct ev_loop *loop, struct transports *transports,
	     const struct server_file_config *config)
{
	int r;

	*p = (struct portals){
		.loop = loop,
		.transports = transports,
		.listed = config->portals,
		.max = config->portals_max,
	};
	p->list = calloc((size_t)p->max + 1, sizeof(*p->list));
	if (!p->list)
		return log_err_errno(ENOMEM, "cannot keep %u portals", p->max);
	r = dns_names_new(loop, &config->dns_servers, lookup_ended_cb, p, &p->dns);
	if (r < 0)
		return log_err_errno(-r, "cannot use the name service");
	return add_listed(p, &p->listed);
}

static void
ask(struct portals *p)
{
	const int r = dns_names_set(p->dns, &p->listed);

	if (r < 0)
		(void)log_err_errno(-r, "cannot look up every dns: name");
}

void
portals_start(struct portals *p, struct slab_device *device)
{
	p->device = device;
	ask(p);
}

int
portals_change(struct portals *p, const struct ini_list *items)
{
	int r;

	if (items->count - config_count_dns(items) > p->max)
		return log_err_errno(
			ENOSPC, "more than %u portals; raise [daemons] max_portals and restart",
			p->max);
	alloc_scope_enter();
	r = add_listed(p, items);
	alloc_scope_leave();
	if (r < 0)
		return r;
	p->listed = *items;
	ask(p);
	return apply(p);
}

void
portals_stop(struct portals *p)
{
	p->dns = dns_names_free(p->dns);
}

void
portals_fini(struct portals *p)
{
	portals_stop(p);
	free(p->list);
}
