/* SPDX-License-Identifier: MIT */
/*
 * doctor.h - slabswap-nbd --doctor: is this host fit to swap to this device?
 *
 * Looks, and changes nothing: no file is created, no lock kept, no device
 * attached.  Each daemon is greeted as a server would and left again.  Takes
 * connect_timeout_ms (twice that with a dns: name) and less than two seconds.
 */
#ifndef PROGRAMS_DOCTOR_H
#define PROGRAMS_DOCTOR_H

struct cli;
struct server_file_config;

/*
 * Runs every check and prints its finding.  @config is a good one; its psk is
 * wiped.  Returns the exit status: EXIT_SUCCESS, EXIT_FAILURE when a finding is
 * a failure.
 */
int doctor_run(const struct cli *cli, struct server_file_config *config);

#endif /* PROGRAMS_DOCTOR_H */
