/* SPDX-License-Identifier: MIT */
/*
 * server.h - the NBD server as main.c sees it: listeners, connections, stop.
 *
 * One export over one backend, on one libev loop; every call and callback on
 * the loop's thread.  Everything that connections need is allocated by
 * nbds_server_new(), nothing afterwards.
 */
#ifndef NBD_SERVER_SERVER_H
#define NBD_SERVER_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "nbd_server/backend.h"
#include "nbd_server/stages.h"
#include "nbd_server/stats.h"

struct ev_loop;
struct nbds_server;
struct turn_clock;

#define NBDS_HOLD_BYTES_MIN (256u * 1024u)
#define NBDS_CONNECTIONS_MAX 1024u
#define NBDS_HANDSHAKE_TIMEOUT_MS 10000u
#define NBDS_STOP_TIMEOUT_MS 5000u

struct nbds_config {
	const char *export_name;  /* copied; "" is fine: clients that ask for "" always match */
	const char *description;  /* copied; NULL: none */
	uint32_t max_connections; /* 1 to NBDS_CONNECTIONS_MAX; further ones are closed at accept */
	uint32_t handshake_timeout_ms; /* 0: NBDS_HANDSHAKE_TIMEOUT_MS */
	uint32_t stop_timeout_ms;      /* 0: NBDS_STOP_TIMEOUT_MS */
	struct turn_clock *clock;      /* started; borrowed until nbds_server_free() */
	/*
	 * Bytes of READ buffers that one connection may hold until the client took
	 * them off the socket; NBDS_HOLD_BYTES_MIN at least.  A client that never
	 * reads keeps this much for ever, and each connection one block for a WRITE
	 * that stalls: the backend's pool must have more than
	 * max_connections * (hold_bytes_max + BLOCK_BYTES) + hold_bytes_max, or dead
	 * clients can starve the living.
	 */
	uint64_t hold_bytes_max;
};

/*
 * @be and @loop: borrowed until nbds_server_free().  0, -EINVAL (the config breaks
 * the rules above) or -ENOMEM.
 */
int nbds_server_new(struct ev_loop *loop, struct backend *be, const struct nbds_config *config,
		    struct nbds_server **ret_server);

/*
 * @address: "unix:/path", "tcp:host:port" or "tcp:[v6 address]:port"; port 0 takes
 * a free one.  A Unix socket that nobody listens on any more is replaced; a new
 * one has mode 0600.  Logs and returns -errno.  A host name blocks on DNS: call
 * before the loop runs.
 */
int nbds_server_listen(struct nbds_server *server, const char *address);

/* Takes over @fd, which listens already (LISTEN_FDS); on error the caller keeps it. */
int nbds_server_add_listen_fd(struct nbds_server *server, int fd);

/* The address of listener @i as clients would write it; NULL behind the last. */
const char *nbds_server_address(const struct nbds_server *server, size_t i);

/*
 * Stops accepting and reading, finishes what was accepted, sends the replies,
 * closes; clients that take no replies are cut off after stop_timeout_ms.
 * @stopped runs once, from the loop, when nothing is in the backend any more.
 */
void nbds_server_stop(struct nbds_server *server, void (*stopped)(void *arg), void *arg);

void nbds_server_get_stats(const struct nbds_server *server, struct nbds_stats *ret_stats);
/* The server's; they go on counting. */
const struct nbds_stages *nbds_server_stages(const struct nbds_server *server);

/* After stopped(), or before the loop ever ran.  NULL is a no-op. */
void nbds_server_free(struct nbds_server *server);

#endif /* NBD_SERVER_SERVER_H */
