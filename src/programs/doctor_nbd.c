/* SPDX-License-Identifier: MIT */
/* The kernel's side of the device: its nbd module, and the tool that attaches to it. */
#include "programs/doctor_checks.h"

#include <sys/stat.h>
#include <unistd.h>

#include "programs/doctor_parse.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"

static bool
is_loadable(void)
{
	char path[DOCTOR_PATH_BYTES];
	char *argv[] = {path, (char[]){"-n"}, (char[]){"-q"}, (char[]){"nbd"}, NULL};

	return doctor_find_program("modprobe", path, sizeof(path)) && doctor_run_program(argv) == 0;
}

static void
check_module(struct doctor *d)
{
	struct stat st;

	if (access("/sys/module/nbd", F_OK) == 0) {
		if (stat("/dev/nbd0", &st) == 0 && S_ISBLK(st.st_mode)) {
			doctor_ok(d, "nbd module", "loaded, /dev/nbd0 is there");
			return;
		}
		doctor_failure(d, "nbd module", "loaded, but there is no /dev/nbd0");
		doctor_fix(d, "modprobe -r nbd && modprobe nbd nbds_max=16");
	} else if (is_loadable()) {
		doctor_warning(d, "nbd module", "not loaded: the device cannot be attached yet");
		doctor_fix(d,
			   "modprobe nbd (at every boot: echo nbd >/etc/modules-load.d/nbd.conf)");
	} else {
		doctor_failure(d, "nbd module", "this kernel has none: no device can be attached");
		doctor_fix(d,
			   "apt-get install linux-image-amd64 && reboot (a stock kernel has it)");
	}
}

static void
check_client(struct doctor *d)
{
	char path[DOCTOR_PATH_BYTES];

	if (doctor_find_program("nbd-client", path, sizeof(path))) {
		doctor_ok(d, "nbd-client", "%s", path);
		return;
	}
	doctor_failure(d, "nbd-client", "not found: nothing attaches the device to the kernel");
	doctor_fix(d, "apt-get install nbd-client");
}

void
doctor_check_nbd(struct doctor *d)
{
	check_module(d);
	check_client(d);
}
