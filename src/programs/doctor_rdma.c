/* SPDX-License-Identifier: MIT */
/* Verbs themselves are asked in src/rdma; without it no configuration gets here with rdma: in it. */
#include "programs/doctor_checks.h"

#include <string.h>
#include <unistd.h>

#include "nbd_server/server_config_file.h"
#include "programs/doctor_report.h"
#ifdef HAVE_RDMA
#include "rdma/probe.h"
#endif

static bool
needs_rdma(const struct doctor_portals *portals)
{
	for (uint32_t i = 0; i < portals->count; i++)
		if (strncmp(portals->item[i], "rdma:", strlen("rdma:")) == 0)
			return true;
	return false;
}

static void
check_cm(struct doctor *d)
{
	if (access("/dev/infiniband/rdma_cm", R_OK | W_OK) == 0) {
		doctor_ok(d, "rdma_ucm", "loaded");
		return;
	}
	doctor_failure(d, "rdma_ucm", "no /dev/infiniband/rdma_cm: no connection can be made");
	doctor_fix(d, "modprobe -a rdma_ucm ib_uverbs");
}

#ifdef HAVE_RDMA
static void
found_cb(void *arg, const struct vrb_probe *p)
{
	struct doctor *d = arg;

	if (p->status < 0) {
		doctor_failure(d, "rdma device", "%s: %s", p->name, strerror(-p->status));
		doctor_fix(d, "modprobe ib_uverbs");
	} else if (!p->has_port) {
		doctor_warning(d, "rdma device", "%s: no port is active", p->name);
		doctor_fix(d, "ip link set DEV up (rdma link shows which DEV it is)");
	} else if (!p->has_windows) {
		/* Only who lends needs them, but hosts mostly have devices of one kind. */
		doctor_warning(d, "rdma device",
			       "%s: no type 2B memory windows: a lender with such a device "
			       "registers memory for each grant, which is slow",
			       p->name);
		doctor_fix(d, "none; a device of another kind where memory is lent");
	} else {
		doctor_ok(d, "rdma device", "%s: a port is active, memory windows of type 2B",
			  p->name);
	}
}

static void
check_devices(struct doctor *d)
{
	const int n = vrb_probe_devices(found_cb, d);

	if (n > 0)
		return;
	doctor_failure(d, "rdma device", "%s", n < 0 ? "the kernel has no verbs" : "there is none");
	doctor_fix(d,
		   "modprobe DRIVER of the card, or for Soft-RoCE: modprobe rdma_rxe && rdma link "
		   "add rxe0 type rxe netdev DEV");
}
#else
static void
check_devices(struct doctor *d)
{
	(void)d;
}
#endif

void
doctor_check_rdma(struct doctor *d)
{
	if (!needs_rdma(d->portals)) {
		doctor_ok(d, "rdma", "no portal needs it");
		return;
	}
	check_cm(d);
	check_devices(d);
}
