/* SPDX-License-Identifier: MIT */
/* judge.h - after everything was healed: does all of it work again, and is nothing left over? */
#ifndef TESTS_SIM_JUDGE_H
#define TESTS_SIM_JUDGE_H

struct sim;

/* Fails the run by itself.  Every device is up, and has its sessions. */
void sim_judge(struct sim *sim);

#endif /* TESTS_SIM_JUDGE_H */
