/* SPDX-License-Identifier: MIT */
#include "programs/dns_names.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "common/alloc_scope.h"
#include "common/ini.h"
#include "common/list.h"
#include "common/log.h"
#include "programs/dns_answer.h"
#include "programs/dns_channel.h"
#include "transport/address.h"
#include "transport/dns_portal.h"

/* Seconds between two lookups, whatever the time to live is. */
#define PAUSE_S_MIN 5u
#define PAUSE_S_MAX 300u
/* The longest pause after a failure. */
#define RETRY_S_MAX 60u
/* Questions about targets that are open at the same time. */
#define QUESTIONS_MAX 16u
/* "rdma:" and an address. */
#define ADDRESS_BYTES (TP_ADDRESS_BYTES_MAX + 8u)

struct target {
	struct dns_name *name;
	uint16_t port;
	char host[DNS_HOST_BYTES];
	char address[ADDRESS_BYTES]; /* "": none */
};

struct target_set {
	uint32_t count;
	struct target list[DNS_TARGETS_MAX];
};

struct dns_name {
	struct dns_names *owner;
	char item[INI_ITEM_BYTES];
	const char *query;  /* inside item */
	const char *prefix; /* "tcp:" */
	ev_timer timer;	    /* to the next lookup */
	bool is_known;
	bool is_asking; /* ask_next() is running */
	char error[128];
	uint32_t n_failures; /* since the last success */
	uint32_t ttl_s;
	uint32_t n_asked; /* of next's targets */
	uint32_t n_open;  /* questions among them */
	struct target_set now;
	struct target_set next; /* while it is looked up */
};

struct dns_names {
	struct dns_channel channel;
	void (*ended)(void *arg);
	void *arg;
	struct dns_srv srv[DNS_TARGETS_MAX]; /* while an answer is read */
	struct dns_name *names[INI_LIST_MAX];
	uint32_t n_names;
};

/* The channel or the name is going away. */
static bool
is_over(int status)
{
	return status == ARES_ECANCELLED || status == ARES_EDESTRUCTION;
}

static void
pause_then_ask(struct dns_name *n, uint32_t seconds)
{
	struct ev_loop *loop = n->owner->channel.loop;

	ev_timer_stop(loop, &n->timer);
	ev_timer_set(&n->timer, seconds, 0.);
	ev_timer_start(loop, &n->timer);
}

static uint32_t
count_addresses(const struct target_set *set)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < set->count; i++)
		n += set->list[i].address[0] != '\0';
	return n;
}

static void
failed(struct dns_name *n, const char *why)
{
	const uint32_t shift = n->n_failures < 4 ? n->n_failures : 4;
	const uint32_t pause_s = PAUSE_S_MIN << shift;

	if (strcmp(n->error, why) != 0)
		log_warn("%s: %s; its %u daemons stay, asking again", n->item, why,
			 count_addresses(&n->now));
	(void)snprintf(n->error, sizeof(n->error), "%s", why);
	n->is_known = true;
	n->n_failures++;
	pause_then_ask(n, pause_s < RETRY_S_MAX ? pause_s : RETRY_S_MAX);
	n->owner->ended(n->owner->arg);
}

static const struct target *
target_find(const struct target_set *set, const struct target *wanted)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->list[i].port == wanted->port &&
		    strcmp(set->list[i].host, wanted->host) == 0)
			return &set->list[i];
	return NULL;
}

/* Says what is new, and whether anything is. */
static bool
say_changes(const struct dns_name *n)
{
	bool is_changed = n->next.count != n->now.count || !n->is_known;

	for (uint32_t i = 0; i < n->next.count; i++) {
		const struct target *t = &n->next.list[i], *old = target_find(&n->now, t);

		if (old && strcmp(old->address, t->address) == 0)
			continue;
		is_changed = true;
		if (t->address[0] == '\0')
			log_warn("%s: target %s:%u has no address: left out", n->item, t->host,
				 t->port);
	}
	return is_changed;
}

static void
succeeded(struct dns_name *n)
{
	const uint32_t count = count_addresses(&n->next);
	uint32_t pause_s = n->ttl_s;

	if (count == 0 && n->next.count > 0) {
		failed(n, "no target has an address");
		return;
	}
	if (say_changes(n) || n->error[0] != '\0')
		log_notice("%s: %u daemons", n->item, count);
	n->now = n->next;
	n->is_known = true;
	n->error[0] = '\0';
	n->n_failures = 0;
	if (pause_s < PAUSE_S_MIN)
		pause_s = PAUSE_S_MIN;
	pause_then_ask(n, pause_s < PAUSE_S_MAX ? pause_s : PAUSE_S_MAX);
	n->owner->ended(n->owner->arg);
}

static void ask_next(struct dns_name *n);

static void
target_done(struct target *t)
{
	t->name->n_open--;
	ask_next(t->name);
}

static void
target_has_ip(struct target *t, uint16_t type, const char *ip, uint32_t ttl_s)
{
	if (ttl_s < t->name->ttl_s)
		t->name->ttl_s = ttl_s;
	(void)snprintf(t->address, sizeof(t->address), type == DNS_TYPE_A ? "%s%s:%u" : "%s[%s]:%u",
		       t->name->prefix, ip, t->port);
}

/* Nobody knows now where @t is: where it was, and to be asked again soon. */
static void
target_is_unknown(struct target *t)
{
	const struct target *old = target_find(&t->name->now, t);

	t->name->ttl_s = 0;
	if (old)
		memcpy(t->address, old->address, sizeof(t->address));
}

/* 0: it has the address now; -ENOENT: there is none; else nobody knows. */
static int
target_answer(struct target *t, uint16_t type, int status, const uint8_t *message, int length)
{
	char ip[DNS_IP_BYTES];
	uint32_t ttl_s;
	int r;

	if (status == ARES_ENODATA || status == ARES_ENOTFOUND)
		return -ENOENT;
	if (status != ARES_SUCCESS)
		return -EAGAIN;
	r = dns_answer_ip(message, (size_t)length, type, ip, &ttl_s);
	if (r == 0)
		target_has_ip(t, type, ip, ttl_s);
	return r;
}

static void
aaaa_done_cb(void *arg, int status, int timeouts, unsigned char *message, int length)
{
	struct target *t = arg;
	int r;

	(void)timeouts;
	if (is_over(status))
		return;
	r = target_answer(t, DNS_TYPE_AAAA, status, message, length);
	if (r < 0 && r != -ENOENT)
		target_is_unknown(t);
	target_done(t);
}

static void
a_done_cb(void *arg, int status, int timeouts, unsigned char *message, int length)
{
	struct target *t = arg;
	int r;

	(void)timeouts;
	if (is_over(status))
		return;
	r = target_answer(t, DNS_TYPE_A, status, message, length);
	if (r == -ENOENT) {
		dns_channel_ask(&t->name->owner->channel, t->host, DNS_TYPE_AAAA, aaaa_done_cb, t);
		return;
	}
	if (r < 0)
		target_is_unknown(t);
	target_done(t);
}

/* A question may be answered before dns_channel_ask() returns: the outermost call goes on. */
static void
ask_next(struct dns_name *n)
{
	if (n->is_asking)
		return;
	n->is_asking = true;
	while (n->n_asked < n->next.count && n->n_open < QUESTIONS_MAX) {
		struct target *t = &n->next.list[n->n_asked++];

		if (t->port == 0)
			continue;
		n->n_open++;
		dns_channel_ask(&n->owner->channel, t->host, DNS_TYPE_A, a_done_cb, t);
	}
	n->is_asking = false;
	if (n->n_asked == n->next.count && n->n_open == 0)
		succeeded(n);
}

static void
targets_begin(struct dns_name *n, const struct dns_srv *srv, uint32_t count)
{
	n->n_asked = 0;
	n->next.count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct target *t = &n->next.list[n->next.count];

		if (srv[i].host[0] == '\0')
			continue;
		*t = (struct target){.name = n, .port = srv[i].port};
		memcpy(t->host, srv[i].host, sizeof(t->host));
		if (!target_find(&n->next, t))
			n->next.count++;
	}
	ask_next(n);
}

static void
srv_done_cb(void *arg, int status, int timeouts, unsigned char *message, int length)
{
	struct dns_name *n = arg;
	struct dns_srv *srv = n->owner->srv;
	uint32_t count;
	int r;

	(void)timeouts;
	if (is_over(status))
		return;
	if (status != ARES_SUCCESS) {
		failed(n, ares_strerror(status));
		return;
	}
	r = dns_answer_srv(message, (size_t)length, srv, DNS_TARGETS_MAX, &count, &n->ttl_s);
	if (r < 0 || count == 0) {
		failed(n, r < 0 ? "the answer cannot be understood" : "no SRV records");
		return;
	}
	if (count > DNS_TARGETS_MAX) {
		if (n->now.count < DNS_TARGETS_MAX)
			log_warn("%s: %u targets, the first %u count", n->item, count,
				 DNS_TARGETS_MAX);
		count = DNS_TARGETS_MAX;
	}
	targets_begin(n, srv, count);
}

static void
timer_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct dns_name *n = container_of(w, struct dns_name, timer);

	(void)loop;
	(void)revents;
	dns_channel_ask(&n->owner->channel, n->query, DNS_TYPE_SRV, srv_done_cb, n);
}

static struct dns_name *
name_new(struct dns_names *d, const char *item)
{
	struct dns_name *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return NULL;
	n->owner = d;
	(void)snprintf(n->item, sizeof(n->item), "%s", item);
	r = dns_portal_parse(n->item, &n->query, &n->prefix);
	assert(r == 0);
	(void)r;
	ev_timer_init(&n->timer, timer_cb, 0., 0.);
	return n;
}

static void
name_free(struct dns_name *n)
{
	ev_timer_stop(n->owner->channel.loop, &n->timer);
	free(n);
}

/* The name of @item, taken out of what @d had before. */
static struct dns_name *
name_take(struct dns_names *d, struct dns_name **before, uint32_t n_before, const char *item)
{
	for (uint32_t i = 0; i < n_before; i++) {
		struct dns_name *n = before[i];

		if (!n || strcmp(n->item, item) != 0)
			continue;
		before[i] = NULL;
		return n;
	}
	return name_new(d, item);
}

static int
names_replace(struct dns_names *d, const struct ini_list *items)
{
	struct dns_name *before[INI_LIST_MAX];
	const uint32_t n_before = d->n_names;
	int r = 0;

	memcpy(before, d->names, sizeof(before));
	d->n_names = 0;
	for (uint32_t i = 0; i < items->count; i++) {
		struct dns_name *n;

		if (!dns_portal_is(items->item[i]))
			continue;
		n = name_take(d, before, n_before, items->item[i]);
		if (!n) {
			r = -ENOMEM;
			continue;
		}
		d->names[d->n_names++] = n;
		n->n_open = 0;
		pause_then_ask(n, 0);
	}
	for (uint32_t i = 0; i < n_before; i++)
		if (before[i])
			name_free(before[i]);
	return r;
}

int
dns_names_set(struct dns_names *d, const struct ini_list *items)
{
	int r;

	alloc_scope_enter();
	dns_channel_cancel(&d->channel);
	r = names_replace(d, items);
	alloc_scope_leave();
	return r;
}

const char *
dns_names_address(const struct dns_names *d, uint32_t index)
{
	for (uint32_t i = 0; i < d->n_names; i++) {
		const struct target_set *set = &d->names[i]->now;

		for (uint32_t k = 0; k < set->count; k++)
			if (set->list[k].address[0] != '\0' && index-- == 0)
				return set->list[k].address;
	}
	return NULL;
}

bool
dns_names_info(const struct dns_names *d, uint32_t index, struct dns_name_info *ret_info)
{
	const struct dns_name *n;

	if (index >= d->n_names)
		return false;
	n = d->names[index];
	*ret_info = (struct dns_name_info){
		.item = n->item,
		.n_addresses = count_addresses(&n->now),
		.is_known = n->is_known,
		.error = n->error,
	};
	return true;
}

int
dns_names_new(struct ev_loop *loop, const struct ini_list *servers, void (*ended)(void *arg),
	      void *arg, struct dns_names **ret_names)
{
	struct dns_names *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->ended = ended;
	d->arg = arg;
	r = dns_channel_open(&d->channel, loop, servers);
	if (r < 0) {
		free(d);
		return r;
	}
	*ret_names = d;
	return 0;
}

struct dns_names *
dns_names_free(struct dns_names *d)
{
	if (!d)
		return NULL;
	alloc_scope_enter();
	dns_channel_close(&d->channel);
	for (uint32_t i = 0; i < d->n_names; i++)
		name_free(d->names[i]);
	free(d);
	alloc_scope_leave();
	return NULL;
}
