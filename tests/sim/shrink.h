/* SPDX-License-Identifier: MIT */
/*
 * shrink.h - a failing run with everything left out that does not matter: requests
 * and faults are dropped, many at a time and then one by one, as long as the
 * same thing fails.  Each try runs in a process of its own.
 */
#ifndef TESTS_SIM_SHRINK_H
#define TESTS_SIM_SHRINK_H

#include <stdbool.h>

struct sim;

/* Marks what can go in sim->plan; false: the plan does not fail. */
bool shrink_plan(struct sim *sim);

#endif /* TESTS_SIM_SHRINK_H */
