/* SPDX-License-Identifier: MIT */
/*
 * doctor_session.h - greets one daemon as a server would, asks for nothing, and leaves.
 *
 *   doctor_session_start() -> up -> HELLO -> (CHALLENGE -> AUTH) -> WELCOME or REFUSED -> done()
 *
 * Failure modes: no connection, another protocol, a psk that differs, a refusal,
 * silence; the last one is the caller's to end: doctor_session_give_up().
 */
#ifndef PROGRAMS_DOCTOR_SESSION_H
#define PROGRAMS_DOCTOR_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/transport.h"
#include "wire/auth.h"
#include "wire/ctl.h"

struct server_file_config;

enum doctor_session_end {
	DOCTOR_SESSION_OPEN = 0, /* no result yet */
	DOCTOR_SESSION_WELCOME,
	DOCTOR_SESSION_UNREACHED, /* error says why */
	DOCTOR_SESSION_SILENT,	  /* connected, but no answer in time */
	DOCTOR_SESSION_REFUSED,	  /* reason and text are the daemon's */
	DOCTOR_SESSION_PSK_ASKED, /* it has a psk, this configuration has none */
	DOCTOR_SESSION_PSK_DIFFERS,
	DOCTOR_SESSION_PSK_IGNORED, /* it did not ask for our psk */
	DOCTOR_SESSION_PROTOCOL,    /* what it sent is not the protocol */
};

struct doctor_session {
	const struct server_file_config *config; /* borrowed */
	void (*done)(void *arg);		 /* once, when end is set */
	void *arg;
	enum doctor_session_end end;
	int error; /* -errno */
	uint32_t reason;
	char text[CTL_TEXT_BYTES];
	uint32_t free_slabs; /* WELCOME: the daemon's */
	uint32_t total_slabs;

	struct tp_conn *conn; /* NULL when down */
	bool is_up;
	bool is_proven; /* the daemon has our psk */
	uint8_t hello[CTL_MESSAGE_BYTES_MAX];
	size_t hello_bytes;
};

/* @s: config, done and arg are set, the rest is zero.  done() may run at once. */
void doctor_session_start(struct doctor_session *s, struct tp *tp, const char *address,
			  uint64_t timeout_ns);
/* It has taken too long.  No-op when it has ended. */
void doctor_session_give_up(struct doctor_session *s);

#endif /* PROGRAMS_DOCTOR_SESSION_H */
