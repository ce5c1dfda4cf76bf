/* SPDX-License-Identifier: MIT */
/* doctor_checks.h - the checks of --doctor; each says one finding or several, and returns nothing. */
#ifndef PROGRAMS_DOCTOR_CHECKS_H
#define PROGRAMS_DOCTOR_CHECKS_H

struct doctor;

/* doctor_process.c: capabilities, user, IO flusher, descriptors, io_uring */
void doctor_check_process(struct doctor *d);
/* doctor_memory.c: what can be locked, what there is, what the cgroup lets through */
void doctor_check_memory(struct doctor *d);
/* doctor_kernel.c: version, sysctls, zswap, huge pages */
void doctor_check_kernel(struct doctor *d);
/* doctor_nbd.c: the kernel's nbd, and the tool that attaches */
void doctor_check_nbd(struct doctor *d);
/* doctor_swap.c: what is swapped to already, and daemons on this host */
void doctor_check_swap(struct doctor *d);
/* doctor_backup.c and doctor_backup_io.c */
void doctor_check_backup(struct doctor *d);
/* doctor_sockets.c: is the server running?  Sets d->server_pid. */
void doctor_check_server(struct doctor *d);
void doctor_check_sockets(struct doctor *d);
/* doctor_dns.c: what the dns: names of portals stand for.  Fills d->portals. */
void doctor_check_dns(struct doctor *d);
/* doctor_rdma.c: devices and memory windows, when a portal needs them */
void doctor_check_rdma(struct doctor *d);
/* doctor_portals.c: the key, and a greeting to each daemon */
void doctor_check_portals(struct doctor *d);

#endif /* PROGRAMS_DOCTOR_CHECKS_H */
