/* SPDX-License-Identifier: MIT */
/* How the kernel is set.  Thresholds that the server asks for itself at start: host_needs.h. */
#include "programs/doctor_checks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "loop/host_limits.h"
#include "programs/doctor_parse.h"
#include "programs/doctor_read.h"
#include "programs/doctor_report.h"
#include "programs/host_needs.h"

#define MAJOR_MIN 5u
#define MINOR_MIN 6u

static void
check_version(struct doctor *d)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	if (uname(&name) < 0 || !doctor_parse_release(name.release, &major, &minor) ||
	    major < MAJOR_MIN || (major == MAJOR_MIN && minor < MINOR_MIN)) {
		doctor_failure(d, "kernel", "Linux %u.%u: PR_SET_IO_FLUSHER came with %u.%u", major,
			       minor, MAJOR_MIN, MINOR_MIN);
		doctor_fix(d, "apt-get install linux-image-amd64 && reboot");
		return;
	}
	doctor_ok(d, "kernel", "Linux %s, at least %u.%u is needed", name.release, MAJOR_MIN,
		  MINOR_MIN);
}

/* A reserve that is small makes a hang likelier; boosted watermarks alone have hung machines. */
static void
say_unmet(struct doctor *d, const struct host_need *n)
{
	if (n->is_minimum)
		doctor_warning(d, n->name,
			       "%" PRIu64 ", wanted for this machine's RAM is at least %" PRIu64
			       ": %s",
			       n->current, n->wanted, n->why);
	else
		doctor_failure(d, n->name, "%" PRIu64 ", wanted is %" PRIu64 ": %s", n->current,
			       n->wanted, n->why);
}

static void
check_needs(struct doctor *d)
{
	struct host_need needs[HOST_NEEDS_COUNT];

	host_needs_check("/proc/sys", host_limits_memory_bytes(), needs);
	for (size_t i = 0; i < HOST_NEEDS_COUNT; i++) {
		const struct host_need *n = &needs[i];

		if (n->verdict == HOST_NEED_OK) {
			doctor_ok(d, n->name, "%" PRIu64 ", wanted is %s%" PRIu64, n->current,
				  n->is_minimum ? "at least " : "", n->wanted);
		} else if (n->verdict == HOST_NEED_UNKNOWN) {
			doctor_ok(d, n->name, "this kernel does not have it");
		} else {
			say_unmet(d, n);
			doctor_fix(d, "%s (at every boot: a file in /etc/sysctl.d)", n->mend);
		}
	}
}

static void
check_swappiness(struct doctor *d)
{
	uint64_t value;

	if (!doctor_read_u64("/proc/sys/vm/swappiness", &value))
		return;
	if (value > 0) {
		doctor_ok(d, "vm.swappiness", "%" PRIu64, value);
		return;
	}
	doctor_warning(d, "vm.swappiness",
		       "0: the device is used only when the machine is nearly "
		       "out of memory");
	doctor_fix(d, "sysctl -w vm.swappiness=60");
}

static void
say_page_cluster(struct doctor *d)
{
	uint64_t value;

	if (!doctor_read_u64("/proc/sys/vm/page-cluster", &value))
		return;
	if (value == 0)
		doctor_ok(d, "vm.page-cluster", "0: one page a read, as suits random access");
	else
		doctor_ok(d, "vm.page-cluster",
			  "%" PRIu64 ": up to %u pages a read; 0, one page, suits random access",
			  value, 1u << (value < 16 ? value : 16));
}

static void
say_zswap(struct doctor *d)
{
	char text[16];

	if (!doctor_read_line("/sys/module/zswap/parameters/enabled", text, sizeof(text)))
		doctor_ok(d, "zswap", "not in this kernel");
	else if (text[0] == 'Y')
		doctor_ok(d, "zswap",
			  "on: pages are kept compressed in this machine's memory "
			  "first, fewer reach the device");
	else
		doctor_ok(d, "zswap", "off");
}

static void
say_huge_pages(struct doctor *d)
{
	char text[64], word[32];

	if (!doctor_read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) ||
	    !doctor_parse_choice(text, word, sizeof(word)))
		return;
	doctor_ok(d, "transparent huge pages", "%s%s", word,
		  strcmp(word, "always") == 0
			  ? ": each is split when swapped out and comes back as small pages"
			  : "");
}

void
doctor_check_kernel(struct doctor *d)
{
	check_version(d);
	check_needs(d);
	check_swappiness(d);
	say_page_cluster(d);
	say_zswap(d);
	say_huge_pages(d);
}
