/* SPDX-License-Identifier: MIT */
/* cluster.h - one run: a cluster is built, lives through its plan, is healed, judged and ended. */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

#include <stdint.h>

#include "wire/auth.h"

struct sim;

/* Memory for runs, one after the other. */
struct sim *sim_new(void);
struct sim *sim_free(struct sim *sim);
/* Runs sim->plan; returns when all is well, else does not return (fail.h). */
void sim_run(struct sim *sim);

void sim_entropy(struct sim *sim, void *buf, uint32_t length_bytes);
void sim_psk(struct auth_psk *ret_psk);

#endif /* TESTS_SIM_CLUSTER_H */
