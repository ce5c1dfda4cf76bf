/* SPDX-License-Identifier: MIT */
/*
 * All daemons at once, none longer than connect_timeout_ms: a list of dead ones
 * must not take longer than one.
 */
#include "programs/doctor_checks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ev.h>

#include "common/list.h"
#include "common/page.h"
#include "common/size.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor_report.h"
#include "programs/doctor_session.h"
#include "programs/transports.h"
#include "slab/device.h"

/* For connections to end, after all results are there. */
#define STOP_SECONDS 1.0

struct visit {
	struct ev_loop *loop;
	ev_timer timer;
	struct transports transports;
	uint32_t n_open;
	bool is_stopping;
	bool is_stopped;
	uint32_t n_sessions;
	struct doctor_session sessions[DOCTOR_PORTALS_MAX];
};

static void
stopped_cb(void *arg)
{
	struct visit *v = arg;

	v->is_stopped = true;
	ev_break(v->loop, EVBREAK_ALL);
}

static void
stop(struct visit *v)
{
	if (v->is_stopping)
		return;
	v->is_stopping = true;
	ev_timer_stop(v->loop, &v->timer);
	ev_timer_set(&v->timer, STOP_SECONDS, 0.);
	ev_timer_start(v->loop, &v->timer);
	transports_stop(&v->transports, stopped_cb, v);
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct visit *v = container_of(w, struct visit, timer);

	(void)revents;
	if (v->is_stopping) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	for (uint32_t i = 0; i < v->n_sessions; i++)
		doctor_session_give_up(&v->sessions[i]);
	stop(v);
}

static void
session_done_cb(void *arg)
{
	struct visit *v = arg;

	if (--v->n_open == 0)
		stop(v);
}

static void
start_session(struct visit *v, const struct doctor *d, uint32_t i)
{
	const struct server_file_config *config = d->config;
	struct doctor_session *s = &v->sessions[i];
	struct slab_portal portal;
	int r;

	*s = (struct doctor_session){.config = config, .done = session_done_cb, .arg = v};
	r = transports_portal(&v->transports, v->loop, d->portals->item[i], &portal);
	if (r == 0) {
		doctor_session_start(s, portal.tp, portal.address,
				     config->connect_timeout_ms * NSEC_PER_MSEC);
		return;
	}
	s->end = DOCTOR_SESSION_UNREACHED;
	s->error = r;
	session_done_cb(v);
}

/* Returns with every session ended. */
static void
visit_all(struct visit *v, const struct doctor *d)
{
	v->n_sessions = d->portals->count;
	v->n_open = v->n_sessions + 1; /* ours: not stopped while some are not started */
	ev_timer_init(&v->timer, timer_cb, d->config->connect_timeout_ms / 1000., 0.);
	ev_timer_start(v->loop, &v->timer);
	for (uint32_t i = 0; i < v->n_sessions; i++)
		start_session(v, d, i);
	session_done_cb(v);
	if (!v->is_stopped)
		ev_run(v->loop, 0);
	ev_timer_stop(v->loop, &v->timer);
	if (v->is_stopped)
		transports_free(&v->transports);
}

static bool
is_local(const char *portal)
{
	return strncmp(portal, "shm:", 4) == 0;
}

/* "192.168.0.12" of "rdma:192.168.0.12:9400"; "localhost" of "shm:/path" */
static const char *
host_of(const char *portal, char *buf, size_t size)
{
	const char *start = strchr(portal, ':') + 1;

	if (is_local(portal))
		(void)snprintf(buf, size, "localhost");
	else
		(void)snprintf(buf, size, "%.*s", (int)(strrchr(start, ':') - start), start);
	return buf;
}

static void
fix_unreached(struct doctor *d, const char *portal, int error)
{
	char host[INI_ITEM_BYTES];

	if (error == -ECONNREFUSED)
		doctor_fix(d,
			   "on %s: systemctl start slabswapd (and compare listen in its "
			   "slabswapd.ini)",
			   host_of(portal, host, sizeof(host)));
	else if (is_local(portal) && error == -EACCES)
		doctor_fix(d, "run slabswapd and slabswap-nbd as the same user, or both as root");
	else if (is_local(portal))
		doctor_fix(d, "systemctl status slabswapd; ls -l %s", portal + strlen("shm:"));
	else if (error == -ENODEV)
		doctor_fix(d, "modprobe -a rdma_ucm ib_uverbs, and the driver of the card");
	else
		doctor_fix(d, "ping %s; on it: systemctl status slabswapd, and its firewall",
			   host_of(portal, host, sizeof(host)));
}

static void
fix_refused(struct doctor *d, const char *portal, uint32_t reason)
{
	char host[INI_ITEM_BYTES];

	(void)host_of(portal, host, sizeof(host));
	if (reason == CTL_REASON_VERSION)
		doctor_fix(d, "install the same version of slabswap here and on %s", host);
	else if (reason == CTL_REASON_SLAB_SIZE)
		doctor_fix(d, "[device] slab_size in %s as slab_size in slabswapd.ini of %s",
			   d->config_path, host);
	else if (reason == CTL_REASON_AUTH)
		doctor_fix(d, "give both sides the same psk_file: scp %s:PSK_FILE %s", host,
			   d->config->psk_file[0] ? d->config->psk_file : "/etc/slabswap/psk");
	else if (reason == CTL_REASON_CLIENTS)
		doctor_fix(d, "a larger max_clients in slabswapd.ini of %s", host);
	else
		doctor_fix(d, "on %s: journalctl -u slabswapd", host);
}

static void
say_psk_end(struct doctor *d, const char *portal, enum doctor_session_end end)
{
	char host[INI_ITEM_BYTES];

	(void)host_of(portal, host, sizeof(host));
	if (end == DOCTOR_SESSION_PSK_IGNORED) {
		doctor_failure(d, "portal", "%s: does not ask for the psk: is it who it seems?",
			       portal);
		doctor_fix(d, "psk_file in slabswapd.ini of %s", host);
	} else {
		doctor_failure(d, "portal", "%s: %s", portal,
			       end == DOCTOR_SESSION_PSK_ASKED
				       ? "asks for a psk, and psk_file is not set here"
				       : "its psk differs from the one in psk_file");
		doctor_fix(d, "scp %s:PSK_FILE %s%s", host,
			   d->config->psk_file[0] ? d->config->psk_file : "/etc/slabswap/psk",
			   d->config->psk_file[0] ? "" : ", and set psk_file");
	}
}

static void
say_session(struct doctor *d, const char *portal, const struct doctor_session *s)
{
	switch (s->end) {
	case DOCTOR_SESSION_WELCOME:
		if (s->free_slabs > 0) {
			doctor_ok(d, "portal", "%s: lends, %u of %u slabs are free", portal,
				  s->free_slabs, s->total_slabs);
			return;
		}
		doctor_warning(d, "portal", "%s: none of its %u slabs is free", portal,
			       s->total_slabs);
		doctor_fix(d, "a larger [memory] max there, or another portal");
		return;
	case DOCTOR_SESSION_REFUSED:
		doctor_failure(d, "portal", "%s: refuses: %s (%s)", portal,
			       ctl_reason_name(s->reason), s->text);
		fix_refused(d, portal, s->reason);
		return;
	case DOCTOR_SESSION_PSK_ASKED:
	case DOCTOR_SESSION_PSK_DIFFERS:
	case DOCTOR_SESSION_PSK_IGNORED:
		say_psk_end(d, portal, s->end);
		return;
	case DOCTOR_SESSION_PROTOCOL:
		doctor_failure(d, "portal", "%s: answers, but is no slabswapd", portal);
		doctor_fix(d, "the port of its listen in [daemons] portals in %s", d->config_path);
		return;
	case DOCTOR_SESSION_SILENT:
		doctor_failure(d, "portal", "%s: is connected and does not answer in %u ms", portal,
			       d->config->connect_timeout_ms);
		fix_unreached(d, portal, s->error);
		return;
	case DOCTOR_SESSION_OPEN:
	case DOCTOR_SESSION_UNREACHED:
		doctor_failure(d, "portal", "%s: cannot be reached: %s", portal,
			       strerror(-s->error));
		fix_unreached(d, portal, s->error);
		return;
	}
}

/* Pages of slabs that nobody can lend are on the backup alone, or nowhere. */
static void
say_room(struct doctor *d, const struct visit *v)
{
	const uint64_t slabs = d->config->size_bytes / d->config->slab_bytes;
	uint64_t free_slabs = 0;

	for (uint32_t i = 0; i < v->n_sessions; i++)
		free_slabs += v->sessions[i].free_slabs;
	if (d->server_pid > 0 || free_slabs == 0)
		return; /* a running server has its slabs already; none at all was said */
	if (free_slabs >= slabs) {
		doctor_ok(d, "remote memory", "%" PRIu64 " slabs are free, the device has %" PRIu64,
			  free_slabs, slabs);
		return;
	}
	doctor_warning(d, "remote memory",
		       "%" PRIu64 " slabs are free, the device has %" PRIu64 ": the others %s",
		       free_slabs, slabs,
		       server_file_has_backup(d->config) ? "are as slow as the backup"
							 : "cannot be written");
	doctor_fix(d, "a larger [memory] max on the portals' hosts, or more portals");
}

static bool
are_all_local(const struct doctor_portals *portals)
{
	uint32_t i = 0;

	while (i < portals->count && is_local(portals->item[i]))
		i++;
	return i == portals->count;
}

static void
check_psk(struct doctor *d)
{
	const char *path = d->config->psk_file;
	struct stat st;

	if (path[0] == '\0' && are_all_local(d->portals)) {
		doctor_ok(d, "psk_file", "not set, and no daemon of another host is used");
		return;
	}
	if (path[0] == '\0') {
		doctor_warning(d, "psk_file",
			       "not set: whoever reaches a daemon's port can borrow "
			       "its memory, and stand for it");
		doctor_fix(d, "(umask 077; openssl rand -hex 32 >/etc/slabswap/psk), and psk_file "
			      "on both sides");
		return;
	}
	/* That nobody else can read it was checked with the configuration. */
	if (stat(path, &st) == 0 && st.st_uid != geteuid() && st.st_uid != 0) {
		doctor_warning(d, "psk_file", "%s belongs to uid %u, who can read it", path,
			       (unsigned int)st.st_uid);
		doctor_fix(d, "chown %u %s", (unsigned int)geteuid(), path);
		return;
	}
	doctor_ok(d, "psk_file", "%s, readable by its owner only", path);
}

void
doctor_check_portals(struct doctor *d)
{
	const struct doctor_portals *portals = d->portals;
	struct visit *v;

	if (portals->count == 0 && d->config->portals.count > 0)
		return; /* that no name has daemons was said */
	if (portals->count == 0) {
		if (server_file_has_backup(d->config))
			doctor_warning(d, "portal", "none: the device is as slow as its backup");
		else
			doctor_failure(d, "portal",
				       "none, and no backup: nothing can be written to the device");
		doctor_fix(d, "[daemons] portals in %s", d->config_path);
		return;
	}
	check_psk(d);
	v = calloc(1, sizeof(*v));
	if (v)
		v->loop = ev_default_loop(EVFLAG_AUTO);
	if (!v || !v->loop) {
		doctor_failure(d, "portal", "no memory to ask");
		doctor_fix(d, "free -m");
		free(v);
		return;
	}
	visit_all(v, d);
	for (uint32_t i = 0; i < v->n_sessions; i++)
		say_session(d, portals->item[i], &v->sessions[i]);
	say_room(d, v);
	/* A connection that does not end still points into it: then the process's end frees it. */
	if (v->is_stopped) {
		ev_loop_destroy(v->loop);
		free(v);
	}
}
