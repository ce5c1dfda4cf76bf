/* SPDX-License-Identifier: MIT */
/*
 * dns_channel.h - c-ares driven by libev: questions go out and come back without a
 * call that blocks.
 *
 * c-ares allocates for each question; that is off the I/O path, and marked as such
 * (common/alloc_scope.h).  Reads /etc/resolv.conf once, in dns_channel_open().
 */
#ifndef PROGRAMS_DNS_CHANNEL_H
#define PROGRAMS_DNS_CHANNEL_H

#include <stdint.h>

#include <ares.h>
#include <ev.h>

struct ini_list;

/* Sockets of one channel: a UDP and a TCP one for each server, and more by chance. */
#define DNS_SOCKETS_MAX 32u

struct dns_channel {
	struct ev_loop *loop;
	ares_channel ares;
	ev_timer timer;
	ev_io io[DNS_SOCKETS_MAX]; /* of a socket while active */
};

/* @servers: "host:port"; none: those of resolv.conf.  Start-up only.  Returns 0, -ENOMEM or -EINVAL. */
int dns_channel_open(struct dns_channel *c, struct ev_loop *loop, const struct ini_list *servers);
/* Every question that is open is answered with ARES_EDESTRUCTION. */
void dns_channel_close(struct dns_channel *c);

/* @done may run at once.  Once for each question. */
void dns_channel_ask(struct dns_channel *c, const char *name, uint16_t type, ares_callback done,
		     void *arg);
/* Every question that is open is answered with ARES_ECANCELLED. */
void dns_channel_cancel(struct dns_channel *c);

#endif /* PROGRAMS_DNS_CHANNEL_H */
