/* SPDX-License-Identifier: MIT */
#include "programs/doctor.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/log.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor_checks.h"
#include "programs/doctor_report.h"
#include "slab/device.h"

int
doctor_run(const struct cli *cli, struct server_file_config *config)
{
	const struct slab_device_config sizes = {
		.size_bytes = config->size_bytes,
		.slab_bytes = config->slab_bytes,
		.buffer_bytes = config->buffers_bytes,
	};
	struct doctor d = {
		.config_path = cli->config_path,
		.config = config,
		.portals = calloc(1, sizeof(*d.portals)),
		.arena_bytes = slab_device_arena_bytes(&sizes),
	};

	if (!d.portals) {
		log_error("no memory");
		return EXIT_FAILURE;
	}
	/* What the parts would log is what the findings say. */
	if (cli->verbose == 0)
		log_set_level(LOG_LEVEL_NONE);
	doctor_check_server(&d);
	doctor_check_dns(&d);
	doctor_check_process(&d);
	doctor_check_memory(&d);
	doctor_check_kernel(&d);
	doctor_check_nbd(&d);
	doctor_check_swap(&d);
	doctor_check_backup(&d);
	doctor_check_sockets(&d);
	doctor_check_rdma(&d);
	doctor_check_portals(&d);
	assert(!d.owes_fix);
	free(d.portals);
	explicit_bzero(&config->psk, sizeof(config->psk));
	return d.failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
