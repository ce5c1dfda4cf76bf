/* SPDX-License-Identifier: MIT */
/* fixture.h - a daemon over the fakes, and clients that speak bytes to it. */
#ifndef TESTS_UNIT_DAEMON_FIXTURE_H
#define TESTS_UNIT_DAEMON_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/daemon.h"
#include "lib/fake_slab_memory.h"
#include "lib/fake_transport.h"
#include "wire/ctl.h"

#define FX_SLAB_BYTES UINT64_C(8192)
#define FX_SLABS 8u
#define FX_SLABS_CLIENT 5u
#define FX_CLIENTS 3u
#define FX_HEADROOM_BYTES (4 * FX_SLAB_BYTES)
#define FX_HELLO_TIMEOUT_NS UINT64_C(5000000000)
#define FX_CLIENT_TIMEOUT_NS UINT64_C(10000000000)
#define FX_EVICT_DEADLINE_NS UINT64_C(2000000000)
#define FX_INBOX 512u
#define FX_EVENTS 16u
#define FX_MSEC UINT64_C(1000000)

struct fx {
	struct fake_net *net;
	struct tp *server;
	struct tp *client_tp;
	struct tp_listener *listener;
	struct slab_memory *memory;
	struct daemon *daemon;
	struct daemon_config config;
	uint64_t now_ns;
	uint64_t next_ns;		 /* what daemon_advance() said */
	unsigned events[FX_EVENTS];	 /* by enum daemon_event */
	char event_text[FX_EVENTS][400]; /* the last one of each */
	uint8_t entropy;
	bool stopping;
	bool stopped; /* daemon_stop()'s done() has run */
	unsigned live_clients;
};

struct fx_client {
	struct fx *fx;
	struct tp_conn *conn; /* NULL: down */
	bool up;
	bool close_on_refused;
	int down_reason;
	struct ctl_msg inbox[FX_INBOX];
	unsigned received;
	unsigned taken;
	uint32_t last_id;
	struct tp_region *region;
	uint8_t buf[4096];
	uint8_t hello[CTL_MESSAGE_BYTES_MAX]; /* what was sent, for the proof */
	size_t hello_bytes;
};

/* The defaults above; change the result before fx_start(). */
struct fx *fx_new(uint64_t seed);
void fx_set_psk(struct fx *fx, const char *psk);
/* Makes the daemon; its pool is empty until the test runs it. */
void fx_start(struct fx *fx);
void fx_stop(struct fx *fx);
void fx_drain(struct fx *fx, uint64_t timeout_ns);
/* Stops the daemon if need be, checks that everything came back, frees. */
void fx_free(struct fx *fx);

/* Everything that can happen does, time stands still. */
void fx_settle(struct fx *fx);
/* The network only. */
void fx_net(struct fx *fx);
/* Moves the clock, advances the daemon, settles. */
void fx_sleep(struct fx *fx, uint64_t ns);
struct daemon_stats fx_stats(const struct fx *fx);
/* What holds at every moment: every lent slab has one client, and the sums are right. */
void fx_check_invariants(const struct fx *fx);
/* fx_start() and a full pool. */
void fx_start_full(struct fx *fx);

/* Connects; no HELLO yet. */
struct fx_client *fx_connect(struct fx *fx);
/* Connects and is welcome (no psk). */
struct fx_client *fx_join(struct fx *fx);
/* Closes if need be, settles, frees. */
void fx_client_free(struct fx_client *c);
/* A HELLO as it should be. */
struct ctl_msg fx_hello(struct fx_client *c);
/* Gives @msg a request id when it has none and sends it. */
uint32_t fx_send(struct fx_client *c, struct ctl_msg msg);
void fx_send_bytes(struct fx_client *c, const void *bytes, size_t length_bytes);
uint32_t fx_map(struct fx_client *c, uint32_t slab, uint32_t generation);
uint32_t fx_unmap(struct fx_client *c, uint32_t slab, uint32_t generation);
/* The next message in the inbox, which must be of @type and, unless 0, @request_id. */
const struct ctl_msg *fx_take(struct fx_client *c, enum ctl_type type, uint32_t request_id);
/* The same, leaving out unasked FREE_MEM. */
const struct ctl_msg *fx_take_answer(struct fx_client *c, enum ctl_type type, uint32_t request_id);
void fx_take_refused(struct fx_client *c, uint32_t request_id, enum ctl_reason reason);
bool fx_inbox_is_empty(const struct fx_client *c);
/* MAP and its MR_INFO. */
struct ctl_mr_info fx_map_now(struct fx_client *c, uint32_t slab, uint32_t generation);
/* One op on a mapped slab, run at once; its status. */
int fx_io(struct fx_client *c, enum tp_op_kind kind, const struct ctl_mr_info *info,
	  uint64_t offset_bytes);

#endif /* TESTS_UNIT_DAEMON_FIXTURE_H */
