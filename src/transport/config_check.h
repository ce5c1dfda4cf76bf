/* SPDX-License-Identifier: MIT */
/*
 * config_check.h - cross checks that both programs' ini files need.
 *
 * Each returns 0, or a negative errno with the error line in @problem (ini.h).
 * Start-up only.
 */
#ifndef TRANSPORT_CONFIG_CHECK_H
#define TRANSPORT_CONFIG_CHECK_H

#include <stdint.h>

#include "common/ini.h"
#include "wire/auth.h"

#define CONFIG_SLAB_BYTES_MIN (UINT64_C(1) << 20)
#define CONFIG_SLAB_BYTES_MAX (UINT64_C(1) << 30)
/* Longer than any wake-up takes, and than a page over RDMA in software on an emulated machine. */
#define CONFIG_SPIN_US_MAX 10000u

/* What an address list may hold. */
#define CONFIG_UNIX (1u << 0)	     /* unix:/path */
#define CONFIG_TCP (1u << 1)	     /* tcp:host:port */
#define CONFIG_RDMA (1u << 2)	     /* rdma:host:port */
#define CONFIG_PORT_NEEDED (1u << 3) /* port 0 is refused */
#define CONFIG_DNS (1u << 4)	     /* dns:_service._tcp.name */
#define CONFIG_PLAIN (1u << 5)	     /* host:port */
#define CONFIG_SHM (1u << 6)	     /* shm:/path */

#define CONFIG_LISTEN_ALLOWED "1 to 8 of unix:/path, tcp:1.2.3.4:port, tcp:[v6]:port, with commas"
#define CONFIG_PORTAL_LISTEN_ALLOWED                                                               \
	"1 to 8 of rdma:1.2.3.4:port, tcp:1.2.3.4:port, tcp:[v6]:port, shm:/path, with commas"
#define CONFIG_PORTALS_ALLOWED                                                                     \
	"up to 32 of rdma:1.2.3.4:port, tcp:1.2.3.4:port, tcp:[v6]:port (port 1 to 65535), "       \
	"shm:/path, dns:_slabswap._rdma.name, dns:_slabswap._tcp.name, with commas"
#define CONFIG_DNS_SERVERS_ALLOWED "up to 8 of 1.2.3.4:port, [v6]:port, with commas"
#define CONFIG_SOCKET_ALLOWED "an absolute path of at most 107 bytes"
#define CONFIG_PSK_ALLOWED                                                                         \
	"the absolute path of a file of 16 to 256 bytes that only its owner can read (mode 0600)"

int config_check_slab_size(const struct ini *ini, const char *section, uint64_t slab_bytes,
			   char problem[INI_PROBLEM_BYTES]);
/* @bytes, the value of @name, must be slab_bytes times 1, 2, 3, ... */
int config_check_multiple(const struct ini *ini, const char *section, const char *name,
			  uint64_t bytes, uint64_t slab_bytes, char problem[INI_PROBLEM_BYTES]);
int config_check_socket_path(const struct ini *ini, const char *section, const char *name,
			     const char *path, char problem[INI_PROBLEM_BYTES]);
/* @kinds: CONFIG_* bits. */
int config_check_addresses(const struct ini *ini, const char *section, const char *name,
			   const struct ini_list *list, unsigned int kinds, const char *allowed,
			   char problem[INI_PROBLEM_BYTES]);
/* Those of @list that begin with "dns:". */
uint32_t config_count_dns(const struct ini_list *list);
/* @path, the value of psk_file, into @ret_psk; length 0 for "". */
int config_load_psk(const struct ini *ini, const char *section, const char *path,
		    struct auth_psk *ret_psk, char problem[INI_PROBLEM_BYTES]);

#endif /* TRANSPORT_CONFIG_CHECK_H */
