/* SPDX-License-Identifier: MIT */
/*
 * dns_portal.h - "dns:_slabswap._tcp.example.com": daemons that a name service lists.
 *
 * The name is that of SRV records (RFC 2782); its second label says which transport
 * their ports are for: _tcp or _rdma.
 */
#ifndef TRANSPORT_DNS_PORTAL_H
#define TRANSPORT_DNS_PORTAL_H

#include <stdbool.h>

#define DNS_NAME_BYTES_MAX 254u
#define DNS_LABEL_BYTES_MAX 63u

/* Whether @item begins with "dns:", whatever follows. */
bool dns_portal_is(const char *item);

/*
 * dns_portal_parse - @item without "dns:", and "tcp:" or "rdma:".
 * Returns 0 or -EINVAL.  @ret_name points into @item, @ret_prefix is static.
 */
int dns_portal_parse(const char *item, const char **ret_name, const char **ret_prefix);

#endif /* TRANSPORT_DNS_PORTAL_H */
