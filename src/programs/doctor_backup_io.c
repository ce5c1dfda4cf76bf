/* SPDX-License-Identifier: MIT */
/* The two checks of a backup that read from it. */
#include "programs/doctor_backup_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/page.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor_checks.h"
#include "programs/doctor_parse.h"
#include "programs/doctor_report.h"

void
doctor_backup_check_contents(struct doctor *d, int fd, const char *path)
{
	const char *what = "backup's contents", *name = NULL;
	uint8_t *head = malloc(DOCTOR_SIGNATURE_BYTES);
	ssize_t n = head ? pread(fd, head, DOCTOR_SIGNATURE_BYTES, 0) : -1;

	if (n > 0)
		name = doctor_signature(head, (size_t)n);
	free(head);
	if (n < 0) {
		doctor_failure(d, what, "cannot be read: %s", strerror(errno));
		doctor_fix(d, "dmesg | tail");
	} else if (!name) {
		doctor_ok(d, what, "no file system, volume or partition table is known there");
	} else if (strcmp(name, DOCTOR_SIGNATURE_SWAP) == 0) {
		/* A device that was swapped to has it at its beginning, and so has the backup. */
		doctor_ok(d, what, "%s, as after mkswap on the device", name);
	} else {
		doctor_warning(d, what,
			       "%s is there: it appears on the device, and is overwritten with it",
			       name);
		doctor_fix(d, "wipefs -a %s, if it is not the device's own", path);
	}
}

static int
read_direct(int fd)
{
	const int flags = fcntl(fd, F_GETFL);
	void *page;
	ssize_t n;
	int r;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return -errno;
	if (posix_memalign(&page, PAGE_BYTES, PAGE_BYTES) != 0)
		return -ENOMEM;
	n = pread(fd, page, PAGE_BYTES, 0);
	r = n < 0 ? -errno : n < (ssize_t)PAGE_BYTES ? -EIO : 0;
	free(page);
	return r;
}

void
doctor_backup_check_direct(struct doctor *d, int fd, int error)
{
	const int r = error < 0 ? error : read_direct(fd);

	if (r == 0) {
		doctor_ok(d, "O_DIRECT", "works on the backup");
		return;
	}
	doctor_failure(d, "O_DIRECT",
		       "%s: the backup would be written through the page cache, which needs memory "
		       "to free memory",
		       strerror(-r));
	doctor_fix(d, "[backup] path = a partition, or a file on ext4 or xfs, in %s",
		   d->config_path);
}
