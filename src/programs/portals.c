/* SPDX-License-Identifier: MIT */
#include "programs/portals.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc_scope.h"
#include "common/ini.h"
#include "common/log.h"
#include "programs/transports.h"

int
portals_init(struct portals *p, struct ev_loop *loop, struct transports *transports, uint32_t max)
{
	*p = (struct portals){.loop = loop, .transports = transports, .max = max};
	p->list = calloc((size_t)max + 1, sizeof(*p->list));
	return p->list ? 0 : -ENOMEM;
}

void
portals_fini(struct portals *p)
{
	free(p->list);
}

static int
add(struct portals *p, const char *address)
{
	if (p->count == p->max)
		return log_err_errno(
			ENOSPC, "more than %u portals; raise [daemons] max_portals and restart",
			p->max);
	return transports_portal(p->transports, p->loop, address, &p->list[p->count++]);
}

int
portals_list(struct portals *p, const struct ini_list *items)
{
	int r = 0;

	p->count = 0;
	alloc_scope_enter();
	for (uint32_t i = 0; i < items->count && r == 0; i++)
		r = add(p, items->item[i]);
	alloc_scope_leave();
	if (r < 0)
		p->count = 0;
	return r;
}

int
portals_apply(const struct portals *p, struct slab_device *device)
{
	int r;

	alloc_scope_enter();
	r = slab_device_set_portals(device, p->list, p->count);
	alloc_scope_leave();
	return r < 0 ? log_err_errno(-r, "cannot use the portals") : 0;
}
