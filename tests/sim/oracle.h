/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - the judge: what always holds, looked at whenever something happens
 * that could break it.  Every function fails the run by itself (fail.h).
 *
 *   oracle_requests.c    answers: device 1, 6, 7 and durability
 *   oracle_copies.c      the bits of the page map and the copies they speak of: device 2, 4
 *   oracle_evict.c       slabs that are given up, and memory that is given back: device 4, daemon 3
 *   oracle_buffers.c     buffers and the operations that use them: device 3
 *   oracle_sessions.c    device 5: sessions end for a reason and begin again in time
 *   oracle_daemons.c     daemon 1 to 5
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backup_op;
struct ctl_msg;
struct sim;
struct sim_conn;
struct sim_daemon_host;
struct sim_device_host;
struct sim_grant;
struct sim_host;
struct sim_region;
struct sim_request;
struct tp_op;

/* oracle_requests.c */
void oracle_submitted(struct sim_request *r);
void oracle_answered(struct sim_request *r);
void oracle_extent(struct sim_device_host *dh, uint64_t offset_bytes, uint64_t length_bytes);
/* The server is gone; what the backup holds is judged, and is what counts from now on. */
void oracle_crashed(struct sim_device_host *dh, bool is_power);
/* The same after an orderly end with @status. */
void oracle_stopped(struct sim_device_host *dh, int status);

/* oracle_copies.c */
/* The daemon in slot @slot of the device, as its index. */
uint32_t oracle_daemon_in(const struct sim_device_host *dh, uint32_t slot);
void oracle_device_started(struct sim_device_host *dh);
void oracle_device_turn(struct sim_device_host *dh);
void oracle_copies_of(struct sim_device_host *dh, uint32_t page);
void oracle_all_copies(struct sim_device_host *dh);
void oracle_remote_written(struct sim *sim, struct sim_grant *g, uint64_t at,
			   uint64_t length_bytes);
void oracle_backup_write(struct sim *sim, uint32_t device, const struct backup_op *op);

/* Its remote bit is set, and it is in other memory than that of @rkey. */
bool oracle_is_elsewhere(struct sim_device_host *dh, uint32_t page, uint32_t rkey);
/* A home that @slab had at the last turn is gone. */
bool oracle_has_lost_home(const struct sim_device_host *dh, uint32_t slab);
/* Looks at what has been lost of @block since the last turn, on a device without a backup. */
void oracle_lost(struct sim_device_host *dh, uint32_t block);
/* Whether a read of @page that was submitted at @since_ns may fail for that. */
bool oracle_may_be_lost(const struct sim_device_host *dh, uint32_t page, uint64_t since_ns);

/* oracle_evict.c */
/* A device sends DONE or UNMAP. */
void oracle_given_up(struct sim *sim, const struct sim_conn *c, const struct ctl_msg *msg);
/* A device closes the session with a daemon whose portal was removed. */
void oracle_left(struct sim *sim, const struct sim_conn *c);
/* A daemon revokes @g. */
void oracle_revoked(struct sim *sim, struct sim_conn *c, const struct sim_grant *g);
/* A daemon sends CHECK_ACTIVITY or EVICT; gets their answers; has had its turn. */
void oracle_asked_back(struct sim *sim, const struct sim_conn *c, const struct ctl_msg *msg);
void oracle_unmap_in(const struct sim_conn *c, const struct ctl_msg *msg);
void oracle_answered_back(struct sim *sim, struct sim_conn *c, const struct ctl_msg *msg);
void oracle_evictions(struct sim *sim, struct sim_daemon_host *dh);
/* A daemon closes a session. */
void oracle_drained(struct sim *sim, const struct sim_conn *c);
/* The memory of a daemon's host was looked at. */
void oracle_daemon_memory(struct sim *sim, struct sim_daemon_host *dh);

/* oracle_buffers.c */
void oracle_buffer_use(struct sim *sim, const struct sim_host *h, const void *buf,
		       uint64_t length_bytes, bool is_written);
void oracle_buffer_free(struct sim *sim, const struct sim_host *h, const void *buf,
			uint64_t length_bytes, bool is_written);
/* get() gave @buf away. */
void oracle_buffer_got(struct sim_device_host *dh, const void *buf, uint64_t length_bytes);
void oracle_all_buffers_back(struct sim_device_host *dh);

/* oracle_sessions.c */
void oracle_connect(struct sim *sim, const struct sim_host *h, uint32_t target);
void oracle_close(struct sim *sim, struct sim_conn *c);
void oracle_down(struct sim *sim, const struct sim_conn *c);
void oracle_message_in(struct sim *sim, struct sim_conn *c, const void *bytes, size_t length_bytes);
void oracle_ping_sent(struct sim *sim, struct sim_conn *c);
/* A daemon that says nothing is asked every ping_ms, and not for ever; after each turn. */
void oracle_pings(struct sim_device_host *dh);
/* An op that was posted at @posted_ns is over. */
void oracle_op_over(struct sim *sim, struct sim_conn *c, uint64_t posted_ns, int status);
void oracle_post(struct sim *sim, const struct sim_conn *c, const struct tp_op *op);

/* oracle_daemons.c */
/* What the daemon's end @c has lent and told of, or NULL. */
struct sim_grant *oracle_find_grant(const struct sim_conn *c, uint32_t slab, uint32_t generation);
void oracle_message_out(struct sim *sim, struct sim_conn *c, const void *bytes,
			size_t length_bytes);
void oracle_grant(struct sim *sim, const struct sim_region *rg);
void oracle_remote_access(struct sim *sim, const struct sim_conn *c, const struct sim_grant *g);
void oracle_daemon_turn(struct sim *sim, struct sim_daemon_host *dh);

#endif /* TESTS_SIM_ORACLE_H */
