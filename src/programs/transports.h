/* SPDX-License-Identifier: MIT */
/* transports.h - the transports that a configuration asks for, by the prefix of its addresses. */
#ifndef PROGRAMS_TRANSPORTS_H
#define PROGRAMS_TRANSPORTS_H

#include <stdint.h>

struct ev_loop;
struct ini_list;
struct slab_portal;
struct tp;

#define TRANSPORT_KINDS 3u

/* Zeroed: none yet. */
struct transports {
	struct tp *tps[TRANSPORT_KINDS];
	uint32_t n_running; /* while stopping */
	void (*stopped)(void *arg);
	void *stopped_arg;
};

/* Refuses addresses of transports that this build has not; @file and @key are for the line.
 * 0 or -EINVAL. */
int transports_check(const char *file, const char *key, const struct ini_list *addresses);

/* The transport of @address ("tcp:...", "rdma:..." or "shm:..."), made at its first use, and
 * @address without the prefix.  Logs and returns -errno when there is none. */
int transports_get(struct transports *t, struct ev_loop *loop, const char *address,
		   struct tp **ret_tp, const char **ret_rest);
/* The same as a portal. */
int transports_portal(struct transports *t, struct ev_loop *loop, const char *address,
		      struct slab_portal *ret_portal);

/* Closes every connection; @stopped runs once, perhaps at once. */
void transports_stop(struct transports *t, void (*stopped)(void *arg), void *arg);
/* After transports_stop(), or before the loop ever ran. */
void transports_free(struct transports *t);

#endif /* PROGRAMS_TRANSPORTS_H */
