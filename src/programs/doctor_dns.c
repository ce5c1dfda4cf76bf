/* SPDX-License-Identifier: MIT */
/* Which daemons the configuration means today: those it lists, and those its dns: names stand for. */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <ev.h>

#include "common/list.h"
#include "nbd_server/server_config_file.h"
#include "programs/dns_names.h"
#include "programs/doctor_report.h"
#include "transport/config_check.h"
#include "transport/dns_portal.h"

struct lookup {
	struct ev_loop *loop;
	ev_timer timer;
	struct dns_names *names;
};

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)w;
	(void)revents;
	ev_break(loop, EVBREAK_ALL);
}

static void
ended_cb(void *arg)
{
	struct lookup *l = arg;
	struct dns_name_info info;

	for (uint32_t i = 0; dns_names_info(l->names, i, &info); i++)
		if (!info.is_known)
			return;
	ev_break(l->loop, EVBREAK_ALL);
}

static void
portal_add(struct doctor_portals *p, const char *address)
{
	if (p->count < DOCTOR_PORTALS_MAX)
		(void)snprintf(p->item[p->count++], INI_ITEM_BYTES, "%s", address);
}

static void
say_name(struct doctor *d, const struct dns_name_info *info)
{
	const char *query = info->item, *prefix;

	if (info->is_known && info->error[0] == '\0') {
		doctor_ok(d, "dns", "%s: %u daemons", info->item, info->n_addresses);
		return;
	}
	doctor_failure(d, "dns", "%s: %s", info->item,
		       info->is_known ? info->error : "no answer in time");
	(void)dns_portal_parse(info->item, &query, &prefix);
	doctor_fix(d,
		   "dig SRV %s, and an address record for each target (dns_servers, or "
		   "/etc/resolv.conf)",
		   query);
}

static int
look_up(struct doctor *d, struct lookup *l)
{
	struct dns_name_info info;
	const char *address;
	int r;

	r = dns_names_new(l->loop, &d->config->dns_servers, ended_cb, l, &l->names);
	if (r < 0)
		return r;
	r = dns_names_set(l->names, &d->config->portals);
	if (r == 0) {
		ev_timer_init(&l->timer, timer_cb, d->config->connect_timeout_ms / 1000., 0.);
		ev_timer_start(l->loop, &l->timer);
		ev_run(l->loop, 0);
		ev_timer_stop(l->loop, &l->timer);
	}
	for (uint32_t i = 0; dns_names_info(l->names, i, &info); i++)
		say_name(d, &info);
	for (uint32_t i = 0; (address = dns_names_address(l->names, i)) != NULL; i++)
		portal_add(d->portals, address);
	(void)dns_names_free(l->names);
	return r;
}

void
doctor_check_dns(struct doctor *d)
{
	const struct ini_list *portals = &d->config->portals;
	struct lookup l = {.loop = ev_default_loop(EVFLAG_AUTO)};
	int r;

	for (uint32_t i = 0; i < portals->count; i++)
		if (!dns_portal_is(portals->item[i]))
			portal_add(d->portals, portals->item[i]);
	if (config_count_dns(portals) == 0)
		return;
	r = l.loop ? look_up(d, &l) : -ENOMEM;
	if (r < 0) {
		doctor_failure(d, "dns", "cannot ask: %s", strerror(-r));
		doctor_fix(d, "free -m");
	}
	if (d->portals->count > d->config->portals_max) {
		doctor_warning(d, "dns", "%u daemons in all, max_portals lets %u be used",
			       d->portals->count, d->config->portals_max);
		doctor_fix(d, "[daemons] max_portals = %u in %s", d->portals->count,
			   d->config_path);
	}
}
