/* SPDX-License-Identifier: MIT */
/* fake_daemon.h - the other end of the device core's sessions: obedient, or lying on demand. */
#ifndef TESTS_UNIT_SLAB_FAKE_DAEMON_H
#define TESTS_UNIT_SLAB_FAKE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/fake_transport.h"
#include "wire/auth.h"
#include "wire/ctl.h"

#define FAKE_DAEMON_SLABS_MAX 16u
#define FAKE_DAEMON_EPOCH UINT64_C(0x1122334455667788)

enum fake_daemon_lie {
	LIE_NONE = 0,
	LIE_SLAB_SIZE,	   /* WELCOME with another slab size */
	LIE_MR_LENGTH,	   /* MR_INFO of a shorter slab */
	LIE_MR_GENERATION, /* MR_INFO of another mapping */
	LIE_GARBAGE,	   /* bytes that are no message, as answer to MAP */
	LIE_MUTE,	   /* no answer to anything any more */
	LIE_MAP_MUTE,	   /* no answer to MAP, PONGs go on */
	LIE_MR_OVERFLOW,   /* MR_INFO whose end is beyond the address space */
	LIE_MR_SLAB,	   /* MR_INFO of a slab that the device has not */
	LIE_VERSION,	   /* WELCOME of another protocol version */
	LIE_HELLO_GARBAGE, /* bytes that are no message, as answer to HELLO */
	LIE_MAP_REFUSED,   /* has room, and refuses every MAP */
	LIE_QUERY_MUTE,	   /* no answer to QUERY_MEM */
	LIE_HELLO_PONG,	   /* a message that does not fit, as answer to HELLO */
	LIE_PING_MUTE,	   /* no answer to PING */
};

struct fake_daemon_slab {
	struct fake_daemon *daemon;
	uint8_t *memory;
	struct tp_region *region;
	struct tp_grant *grant; /* NULL: free */
	bool is_granted;	/* granted() has run */
	uint32_t slab;		/* of the device, while granted */
	uint32_t generation;
	uint32_t request_id;
	bool is_revoking;
	uint32_t unmap_request_id; /* not 0: UNMAPPED follows the revocation */
};

struct fake_daemon {
	struct tp *tp;
	struct tp_listener *listener;
	struct tp_conn *conn; /* at most one */
	char address[16];
	uint64_t slab_bytes;
	uint32_t n_slabs;
	struct fake_daemon_slab slabs[FAKE_DAEMON_SLABS_MAX];
	bool is_full;
	uint32_t refuse_reason;	 /* not 0: HELLO is refused with it */
	uint32_t claimed_free;	 /* not 0: what WELCOME says */
	uint32_t n_maps;	 /* MAPs that came */
	uint32_t n_queries;	 /* QUERY_MEMs that came */
	uint32_t query_id;	 /* of the newest */
	uint32_t usage_permille; /* that it says */
	enum fake_daemon_lie lie;
	struct auth_psk psk;
	uint8_t hello[CTL_MESSAGE_BYTES_MAX];
	size_t hello_bytes;
	uint8_t nonce[CTL_NONCE_BYTES];
	uint32_t n_hellos;
	bool has_epoch_page; /* set by the test before HELLO */
	uint8_t epoch_page[8];
	struct tp_region *epoch_region;
	struct tp_grant *epoch_grant;
	uint32_t hello_id;
	uint32_t n_pings;
	uint32_t n_requests; /* EVICTs and CHECK_ACTIVITYs; the id of the newest */
	uint32_t n_dones;
	uint32_t done_id; /* of the newest DONE */
	uint32_t n_unmaps;
	uint32_t n_activities;
	struct ctl_activity activity; /* the newest */
};

void fake_daemon_init(struct fake_daemon *f, struct fake_net *net, uint32_t index,
		      uint64_t slab_bytes, uint32_t n_slabs, const char *psk);
void fake_daemon_fini(struct fake_daemon *f);
void fake_daemon_set_up(struct fake_daemon *f, bool up);
/* Sends what the test likes. */
void fake_daemon_send(struct fake_daemon *f, const struct ctl_msg *msg);
uint32_t fake_daemon_lent(const struct fake_daemon *f);
/* The slab that is lent as the device's @slab, or NULL. */
struct fake_daemon_slab *fake_daemon_find(struct fake_daemon *f, uint32_t slab);
/* EVICT and CHECK_ACTIVITY of @slab, which is lent.  DONE makes the memory garbage and revokes. */
void fake_daemon_evict(struct fake_daemon *f, uint32_t slab, uint32_t deadline_ms);
void fake_daemon_check_activity(struct fake_daemon *f, uint32_t slab);
/* Takes the slab back without asking. */
void fake_daemon_revoke(struct fake_daemon_slab *s);
/* The memory of the device's slab; NULL when it is not lent. */
const uint8_t *fake_daemon_memory(const struct fake_daemon *f, uint32_t slab);

#endif /* TESTS_UNIT_SLAB_FAKE_DAEMON_H */
