/* SPDX-License-Identifier: MIT */
/*
 * address.h - numeric addresses as text, the same for every transport.
 *
 * Numeric only: name services block, and an address of a log line can be
 * written into an ini file as it is.
 */
#ifndef TRANSPORT_ADDRESS_H
#define TRANSPORT_ADDRESS_H

#include <stddef.h>

#include <sys/socket.h>

/* "[" IPv6 "%" interface "]:" port and NUL. */
#define TP_ADDRESS_BYTES_MAX 80u

/*
 * tp_address_parse - "1.2.3.4:port", "[::1]:port", "[fe80::1%eth0]:port".
 * The whole of @text must match; the port is decimal, 0 to 65535; the scope is
 * an interface's name or number.  Returns 0 or -EINVAL (no such interface also).
 */
int tp_address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);

/* The same text back; "?" for a family that is neither IPv4 nor IPv6.  Cut to @size. */
void tp_address_format(const struct sockaddr *address, char *buf, size_t size);

#endif /* TRANSPORT_ADDRESS_H */
