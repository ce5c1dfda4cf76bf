/* SPDX-License-Identifier: MIT */
/* faults.h - the faults of a plan, at their moment; and the end of all of them. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/clock.h"

struct sim;

struct sim_fault_run {
	struct sim_event begin_ev;
	struct sim_event end_ev;
	struct sim *sim;
	uint32_t index; /* of the plan */
	bool is_on;
};

void faults_start(struct sim *sim);
/* Everything works again, but for a broken backup's writes; machines that are off start. */
void faults_heal(struct sim *sim);
void faults_heal_writes(struct sim *sim);

#endif /* TESTS_SIM_FAULTS_H */
