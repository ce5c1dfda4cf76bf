/* SPDX-License-Identifier: MIT */
/*
 * dns_names.h - the daemons behind "dns:" portals, kept up to date.
 *
 * For each name:
 *
 *   SRV -> targets -> one A, else AAAA, question per target -> addresses -> ended() ->
 *   (the shortest time to live, between 5 s and 5 min) -> SRV ...
 *
 * Failure modes, each said once:
 *   - no answer, an error, no SRV records, no target with an address: the addresses of the
 *     last time stay; asked again after 5 s, doubling up to 60 s.
 *   - the answer about one target is late or an error: its address of the last time stays.
 *   - a target has no address: it is left out.
 * Only the target "." (RFC 2782: there is no such service) takes all addresses away.
 *
 * Priorities and weights do not choose: which daemon gets a slab depends on its free
 * memory.  Of more than DNS_TARGETS_MAX targets those of the lowest priority count.
 */
#ifndef PROGRAMS_DNS_NAMES_H
#define PROGRAMS_DNS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#define DNS_TARGETS_MAX 256u

struct dns_names;
struct ev_loop;
struct ini_list;

struct dns_name_info {
	const char *item; /* "dns:..." */
	uint32_t n_addresses;
	bool is_known;	   /* was answered, or failed, once at least */
	const char *error; /* of the last time, or "" */
};

/*
 * @servers: "host:port"; none: those of resolv.conf, which is read here and never again.
 * @ended: on the loop, when the lookup of a name has ended, well or not; not inside a call of
 * this module.  It may not call dns_names_set() or dns_names_free().
 * Returns 0 or -errno.
 */
int dns_names_new(struct ev_loop *loop, const struct ini_list *servers, void (*ended)(void *arg),
		  void *arg, struct dns_names **ret_names);
/* NULL is a no-op.  Returns NULL. */
struct dns_names *dns_names_free(struct dns_names *d);

/*
 * Those of @items that begin with "dns:" are the names from now on; each is asked for
 * anew.  What is known of a name that stays is kept.  Allocates.
 * Returns 0 or -ENOMEM (some names are missing).
 */
int dns_names_set(struct dns_names *d, const struct ini_list *items);

/* The addresses of all names, "tcp:192.0.2.1:9400"; NULL behind the last.  Valid until the
 * next turn of the loop. */
const char *dns_names_address(const struct dns_names *d, uint32_t index);
/* @index from 0 until it returns false. */
bool dns_names_info(const struct dns_names *d, uint32_t index, struct dns_name_info *ret_info);

#endif /* PROGRAMS_DNS_NAMES_H */
