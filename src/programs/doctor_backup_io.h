/* SPDX-License-Identifier: MIT */
/* doctor_backup_io.h - what doctor_backup.c asks of an open backup; it is read, never written. */
#ifndef PROGRAMS_DOCTOR_BACKUP_IO_H
#define PROGRAMS_DOCTOR_BACKUP_IO_H

struct doctor;

/* Whether it holds something that a server would overwrite. */
void doctor_backup_check_contents(struct doctor *d, int fd, const char *path);
/* Reads one page with O_DIRECT.  @fd: of a file with a page at least.  @error: 0, or what has
 * failed before it came to that. */
void doctor_backup_check_direct(struct doctor *d, int fd, int error);

#endif /* PROGRAMS_DOCTOR_BACKUP_IO_H */
