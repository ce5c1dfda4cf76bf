/* SPDX-License-Identifier: MIT */
/* server_config_file.h - slabswap-nbd.ini: what the file may say, checked as far as one process can. */
#ifndef NBD_SERVER_SERVER_CONFIG_FILE_H
#define NBD_SERVER_SERVER_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ini.h"
#include "wire/auth.h"
#include "wire/ctl.h"

/* Of portals, at most so many dns: names. */
#define SERVER_DNS_NAMES_MAX 4u
/* sun_path with its NUL. */
#define SERVER_SOCKET_PATH_BYTES 108
#define SERVER_PATH_BYTES 512
#define SERVER_TEXT_BYTES 256

enum server_ack {
	SERVER_ACK_REMOTE = 0, /* a write is answered when its remote copy is complete */
	SERVER_ACK_BOTH,       /* when the backup is too */
};

enum server_realtime {
	SERVER_REALTIME_NO = 0,
	SERVER_REALTIME_YES,
	SERVER_REALTIME_AUTO, /* while memory is short */
};

struct server_file_config {
	/* [device] */
	char name[CTL_DEVICE_NAME_BYTES]; /* A-Z a-z 0-9 . _ -, not empty */
	uint64_t size_bytes;		  /* multiple of slab_bytes, not 0 */
	uint64_t slab_bytes;		  /* power of two, 1 MiB to 1 GiB */
	/* [nbd] */
	struct ini_list listen; /* "unix:/path" or "tcp:host:port" (port 0: any); at least one */
	char export_name[SERVER_TEXT_BYTES]; /* may be "": the default export */
	char description[SERVER_TEXT_BYTES]; /* "": none */
	char control[SERVER_SOCKET_PATH_BYTES];
	uint32_t max_connections;
	/* [backup] */
	char backup_path[SERVER_PATH_BYTES]; /* or "none" */
	uint32_t ack;			     /* enum server_ack */
	uint32_t fill;			     /* not 0: a file gets no holes */
	uint32_t delay_ms;		     /* of writes that nobody waits for */
	/* [daemons] */
	/* "rdma:host:port" or "tcp:host:port", port not 0, "shm:/path", "dns:_service._tcp.name";
	 * may be empty */
	struct ini_list portals;
	struct ini_list dns_servers; /* "host:port"; empty: those of resolv.conf */
	uint32_t max_portals;	     /* as the file says it; 0: derived */
	uint32_t portals_max; /* at the same time, also after a SIGHUP; at least portals.count */
	uint32_t leave_timeout_ms;
	char psk_file[SERVER_PATH_BYTES]; /* "": none */
	struct auth_psk psk;		  /* the content of psk_file */
	/* [activity] */
	uint32_t hot_slab;    /* pages per second; 0: every slab that is used is mapped */
	uint32_t alpha_milli; /* 1 to 1000 */
	uint32_t period_ms;
	uint32_t cold_slab;    /* less than hot_slab, or 0: none is cold */
	uint32_t cold_periods; /* then it is given back */
	/* [placement] */
	uint32_t choices;
	uint32_t query_timeout_ms;
	/* [eviction] */
	uint32_t migrate;      /* not 0: slabs that are wanted back move to another daemon */
	uint64_t migrate_rate; /* bytes per second */
	/* [limits] */
	uint64_t buffers_bytes;
	uint32_t op_timeout_ms;
	uint32_t connect_timeout_ms;
	uint32_t ping_ms;
	uint32_t hedge_ms; /* these three: 0: off */
	uint32_t probe_ms;
	uint32_t control_timeout_ms;
	uint32_t retry_ms;     /* first wait before a reconnect */
	uint32_t retry_max_ms; /* >= retry_ms: waits double up to it */
	uint64_t refill_rate;  /* bytes per second, 0: no refill */
	uint32_t realtime;     /* enum server_realtime */
	uint32_t spin_us;      /* 0: off */
	uint32_t strict;       /* not 0: no start without all of swap safety */
};

/*
 * server_file_config_load - read and check @path, and the psk file it names.
 *
 * @ret_config: indeterminate on failure.  Holds the psk: wipe it when done.
 *
 * Returns 0, or a negative errno after ONE line on standard error; every failure
 * is exit status 2.
 */
int server_file_config_load(const char *path, struct server_file_config *ret_config);

/* Not [backup] path = none. */
bool server_file_has_backup(const struct server_file_config *config);

/*
 * server_file_config_diff - which keys differ, portals aside: "[limits] ping_ms, [daemons] psk_file".
 * A psk_file of another content differs too.  Cut to @size; "" when none does.
 */
void server_file_config_diff(const struct server_file_config *a, const struct server_file_config *b,
			     char *buf, size_t size);

/* The table behind it, for documents and their tests. */
const struct ini_key *server_file_config_keys(size_t *ret_count);

#endif /* NBD_SERVER_SERVER_CONFIG_FILE_H */
