/* SPDX-License-Identifier: MIT */
/* daemon_config_file.h - slabswapd.ini: what the file may say, checked as far as one process can. */
#ifndef DAEMON_DAEMON_CONFIG_FILE_H
#define DAEMON_DAEMON_CONFIG_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/ini.h"
#include "wire/auth.h"

/* sun_path with its NUL. */
#define DAEMON_SOCKET_PATH_BYTES 108
#define DAEMON_PATH_BYTES 512

struct daemon_file_config {
	/* [daemon] */
	struct ini_list
		listen; /* "rdma:host:port", "tcp:host:port" (port 0: any) or "shm:/path"; at least one */
	uint32_t max_clients;
	uint64_t slab_bytes;		  /* power of two, 1 MiB to 1 GiB */
	char psk_file[DAEMON_PATH_BYTES]; /* "": none */
	struct auth_psk psk;		  /* the content of psk_file */
	char control[DAEMON_SOCKET_PATH_BYTES];
	uint32_t stop_timeout_ms;
	uint32_t spin_us; /* 0: off */
	/* [memory] */
	uint64_t max_bytes;	       /* multiple of slab_bytes, not 0 */
	uint64_t max_per_client_bytes; /* multiple of slab_bytes, slab_bytes to max_bytes */
	uint64_t headroom_bytes;       /* UINT64_MAX: not given, a part of what the host has */
	uint32_t beta_milli;	       /* thousandths, 1 to 1000 */
	uint32_t period_ms;
	uint32_t psi_limit;  /* percent */
	uint32_t huge_pages; /* not 0: the machine's reserved ones, for shm */
	/* [eviction] */
	uint32_t extra_choices;
	uint32_t evict_deadline_ms;
};

/*
 * daemon_file_config_load - read and check @path, and the psk file it names.
 *
 * @ret_config: indeterminate on failure.  Holds the psk: wipe it when done.
 *
 * Returns 0, or a negative errno after ONE line on standard error; every failure
 * is exit status 2.
 */
int daemon_file_config_load(const char *path, struct daemon_file_config *ret_config);

/* The table behind it, for documents and their tests. */
const struct ini_key *daemon_file_config_keys(size_t *ret_count);

#endif /* DAEMON_DAEMON_CONFIG_FILE_H */
