/* SPDX-License-Identifier: MIT */
/* cluster.h - one run: a cluster is built, lives through its plan, is healed, judged and ended. */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/auth.h"

struct plan;
struct sim;

/* Memory for runs, one after the other. */
struct sim *sim_new(void);
struct sim *sim_free(struct sim *sim);
/* Runs sim->plan; returns when all is well, else does not return (fail.h). */
void sim_run(struct sim *sim);

void sim_entropy(struct sim *sim, void *buf, uint32_t length_bytes);
void sim_psk(struct auth_psk *ret_psk);

/* While a run is under way. */
typedef bool sim_until_fn(struct sim *sim);
/* Runs until @is_reached; false: not within @ns. */
bool sim_run_until(struct sim *sim, sim_until_fn *is_reached, uint64_t ns);
bool sim_never(struct sim *sim);
bool sim_is_answered(struct sim *sim);
bool sim_backups_are_whole(struct sim *sim);
/* Longer than anything takes when nothing is broken. */
uint64_t sim_deadline_ns(const struct plan *p);

#endif /* TESTS_SIM_CLUSTER_H */
