/* SPDX-License-Identifier: MIT */
/*
 * tp-peer.h - what server and client of tp-peer say to each other, and share.
 */
#ifndef TP_PEER_H
#define TP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

#include "transport/transport.h"

#define SLAB_BYTES ((size_t)32 << 20)
#define SLABS 2u
#define SMALL_SLABS 40u /* more grants at a time than a device takes */
#define SMALL_BYTES ((size_t)64 << 10)
#define DEPTH 256u
#define WAIT_SECONDS 20.0
#define GRANTS_MAX (SLABS + SMALL_SLABS)

enum command {
	CMD_ECHO = 'E',	   /* the same message comes back */
	CMD_SINK = 'N',	   /* nothing comes back */
	CMD_FLOOD = 'F',   /* [u32 n]: n messages of kind CMD_SINK come back */
	CMD_STATUS = 'Q',  /* struct status comes back */
	CMD_GRANT = 'G',   /* [u32 slab]: struct granted comes back */
	CMD_REVOKE = 'R',  /* [u32 slab]: struct result */
	CMD_SUM = 'H',	   /* [u32 slab]: struct result, of its memory */
	CMD_RELEASE = 'X', /* [u32 slab]: struct result of tp_region_release(), to be refused */
	CMD_CLOSE = 'C',   /* the server closes */
	CMD_SAY_AND_CLOSE = 'B', /* ten messages, then the server closes */
	CMD_KILL = 'K',		 /* the server kills itself */
};

struct request {
	uint8_t command;
	uint8_t pad[3];
	uint32_t value;
};
struct status {
	uint8_t command;
	uint8_t pad[3];
	uint32_t n_conns;
	uint32_t n_granted;
	uint32_t n_sunk;
};
struct granted {
	uint8_t command;
	uint8_t pad[3];
	int32_t status;
	struct tp_remote remote;
};
struct result {
	uint8_t command;
	uint8_t pad[3];
	int32_t status;
	uint64_t sum;
};

/* What both ends need. */
struct env {
	struct ev_loop *loop;
	struct tp *tp;
	const char *transport;
	const char *address;
	const char *unreachable;
	bool register_grants;
	bool refuse;
	bool is_down;
};

/* Says what is wrong and ends the program. */
__attribute__((format(printf, 1, 2), noreturn)) void peer_fail(const char *fmt, ...);

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			peer_fail("%s:%d: %s", __func__, __LINE__, #condition);                    \
	} while (0)

#define CHECK_INT(expression, expected)                                                            \
	do {                                                                                       \
		const long long value_ = (expression), expected_ = (expected);                     \
		if (value_ != expected_)                                                           \
			peer_fail("%s:%d: %s is %lld, not %lld", __func__, __LINE__, #expression,  \
				  value_, expected_);                                              \
	} while (0)

uint64_t sum_of(const void *memory, size_t length_bytes);
void *map_memory(size_t length_bytes);
/* For tp_shutdown(): @arg is the env. */
void shutdown_done(void *arg);

/* Until SIGTERM.  Both return the program's status. */
int run_server(struct env *env);
int run_client(struct env *env, const char *test_names);

#endif /* TP_PEER_H */
