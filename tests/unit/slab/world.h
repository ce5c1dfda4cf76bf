/* SPDX-License-Identifier: MIT */
/*
 * world.h - a device core among fakes: a network with daemons, a backup, and an
 * oracle that knows which bytes a read may return.
 *
 * The oracle works on sectors of 512 bytes.  Pieces of a page take effect in the
 * order of submission, so a read may return the newest change submitted before
 * it, or, while changes failed, any older one down to the newest that succeeded.
 */
#ifndef TESTS_UNIT_SLAB_WORLD_H
#define TESTS_UNIT_SLAB_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "fake_daemon.h"
#include "lib/fake_backup.h"
#include "lib/fake_transport.h"
#include "nbd_server/backend.h"
#include "oracle.h"
#include "slab/device.h"

#define WORLD_DAEMONS_MAX 4u

struct world_config {
	uint64_t seed; /* of the network; 0: kind */
	uint32_t n_slabs;
	uint32_t n_daemons;
	uint32_t slabs_per_daemon;
	uint32_t n_portals; /* of the daemons, known at the start; 0: all */
	uint32_t max_portals;
	enum slab_ack ack;
	uint64_t refill_rate;
	uint64_t migrate_rate; /* 0: no migration */
	uint64_t hedge_ns;     /* these three: 0: off */
	uint64_t probe_ns;
	uint64_t control_timeout_ns;
	bool has_no_backup;
	bool can_zero;
	bool can_discard;
	double hot_slab;	/* 0: the first I/O maps */
	double cold_slab;	/* 0: none is cold; else after 5 periods */
	uint32_t choices;	/* 0: 2 */
	uint32_t backup_writes; /* 0: 64 */
	uint64_t backup_delay_ns;
	const char *psk;	/* of the server; NULL: none */
	const char *daemon_psk; /* of the daemons */
};

struct world_io {
	struct world *w;
	struct backend_io *io;
	uint64_t number;  /* of submission */
	uint64_t version; /* that a WRITE wrote */
	int status;
	bool is_done;
	bool is_in_use;
};

struct world;

struct world *world_new(const struct world_config *config);
/* Ends everything: stops the device unless stopped, checks that nothing leaked. */
void world_free(struct world *w);

struct slab_device *world_device(struct world *w);
struct fake_net *world_net(struct world *w);
struct fake_backup *world_backup(struct world *w);
uint64_t world_now(const struct world *w);
void world_pass(struct world *w, uint64_t ns);

/* One turn of the device. */
void world_advance(struct world *w);
/* Settles, again and again, while @ns pass. */
void world_run(struct world *w, uint64_t ns);
/* Stops, and makes a new device on the same backup and daemons; returns the status of the stop. */
int world_restart(struct world *w);
/* Network, device and (unless held back) backup, until nothing moves. */
void world_settle(struct world *w);
/* Counts resume() of the backend. */
uint32_t world_resumes(const struct world *w);
/* Runs once inside the next resume(). */
void world_on_resume(struct world *w, void (*fn)(struct world *w));
void world_hold_backup(struct world *w, bool hold);

/* Starts a request; NULL when the device has no buffer.  WRITE fills in a new version. */
struct world_io *world_submit(struct world *w, enum backend_kind kind, uint32_t flags,
			      uint64_t offset_bytes, uint32_t length_bytes);
/* Puts a done request back. */
void world_put(struct world_io *wio);
/* submit, settle, put; returns the status.  The oracle checked what a READ brought. */
int world_do(struct world *w, enum backend_kind kind, uint64_t offset_bytes, uint32_t length_bytes);
/* Puts back everything that is done. */
void world_put_done(struct world *w);
/* Requests that are not done. */
uint32_t world_pending(const struct world *w);

/* Both ends of its connection go down with @reason; it forgets its slabs. */
void world_daemon_kill(struct world *w, uint32_t daemon, int reason);
/* Where the daemons are, by their number. */
const struct slab_portal *world_portals(const struct world *w);
struct fake_daemon *world_daemon(struct world *w, uint32_t daemon);

/* Fails when any read so far brought what it may not, or failed without leave. */
void world_assert_right(const struct world *w);
/* The test stopped the device by itself. */
void world_stopped(struct world *w);
/* Stops the device; returns the status. */
int world_stop(struct world *w);
/* The backup holds the newest successful change of every sector (trimmed ones excepted). */
void world_check_backup(struct world *w);
/* Every page whose remote bit is set has the newest change on its daemon; nothing is in flight. */
void world_check_remote(struct world *w);
/* The counters of each slab are what the arena, the pieces and the operations in flight say. */
void world_check_counters(const struct world *w);
/* A READ may fail with -EIO from now on (the test broke every copy). */
void world_allow_read_errors(struct world *w);
/* A daemon may mix up the device's pages from now on: what a READ brings is not judged. */
void world_distrust(struct world *w);
bool world_is_distrusted(const struct world *w);
struct slab_device_stats world_stats(const struct world *w);
/* Events of the device at @level or above since the start. */
/* Number of events that have @text in them. */
uint32_t world_said(const struct world *w, const char *text);
uint32_t world_events(const struct world *w, enum slab_event_level level);

#endif /* TESTS_UNIT_SLAB_WORLD_H */
