/* SPDX-License-Identifier: MIT */
/*
 * server_memory.h - what slabswap-nbd needs beside its arena: what the server reserves at its
 * start and what the doctor asks a host for are the same numbers.
 */
#ifndef PROGRAMS_SERVER_MEMORY_H
#define PROGRAMS_SERVER_MEMORY_H

/* Of heap, for one session with a daemon that comes while serving. */
#define SERVER_SESSION_BYTES (512u * 1024u)
/* Of heap, for what else comes while serving. */
#define SERVER_RESERVE_BYTES (1024u * 1024u)

/* The program, connections, rings, queues of the network card; the reserve is among it.
 * Measured with the next: 301 MiB in all with buffers of 256 MiB. */
#define SERVER_PROGRAM_BYTES (8u * 1024u * 1024u)
/* What the requests take that the buffers can hold, as a share of the buffers: a 6th. */
#define SERVER_REQUEST_SHARE 6u

#endif /* PROGRAMS_SERVER_MEMORY_H */
