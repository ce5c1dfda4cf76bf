/* SPDX-License-Identifier: MIT */
/*
 * oracle_pages.h - which bytes a page may hold.
 *
 * Each page has the list of its changes in the order of their submission, which is
 * the order in which they take effect.  Going back from the newest, each change
 * either must have happened (then nothing older can be seen) or may have: one
 * that failed, or, on the backup after a crash, one that nobody promised.
 */
#ifndef TESTS_SIM_ORACLE_PAGES_H
#define TESTS_SIM_ORACLE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd_server/backend.h"

enum change_status {
	CHANGE_PENDING = 0,
	CHANGE_OK,
	CHANGE_FAILED,
};

struct change {
	struct change *older;
	uint64_t number;
	uint64_t version;  /* 0: zeros */
	uint64_t done_seq; /* rises with each answer */
	uint32_t page;
	uint16_t from; /* bytes of the page */
	uint16_t to;
	uint8_t kind; /* enum backend_kind */
	uint8_t status;
	bool is_durable; /* by itself: FUA, or ack = both */
};

struct page_history {
	struct change *newest;
	const uint8_t *base; /* before the oldest change; NULL: zeros */
};

enum page_rule {
	RULE_READ = 1, /* a read with a number: the newest before it that did not fail */
	RULE_NEWEST,   /* a copy: the newest that was acknowledged, or one after it */
	RULE_DURABLE,  /* the backup: the newest that was promised, or one after it */
};

struct page_query {
	enum page_rule rule;
	uint64_t number;     /* RULE_READ */
	uint64_t synced_seq; /* RULE_DURABLE: answers up to this one are promised */
	bool with_self;	     /* ... and those that are durable by themselves */
};

struct sim_pages {
	struct page_history *pages;
	uint32_t n_pages;
	uint64_t done_seq;
	uint64_t synced_seq;  /* what FLUSH has promised */
	struct change **done; /* in the order of their answers */
	uint32_t n_done;
	uint32_t room_done;
	uint32_t n_checked; /* of done: found on the backup after a FLUSH */
};

/* @arena-like memory of the run comes from bump.h. */
void pages_reset(struct sim_pages *sp, uint32_t n_pages);
/* One change for each page of the range; returns the first of them, adjacent in memory. */
struct change *pages_change(struct sim_pages *sp, enum backend_kind kind, uint64_t number,
			    uint64_t version, uint64_t offset_bytes, uint64_t length_bytes,
			    uint32_t *ret_n);
void pages_done(struct sim_pages *sp, struct change *changes, uint32_t n, bool is_ok);
/* Whether @bytes may be [@from, @to) of @page. */
bool pages_allow(const struct sim_pages *sp, uint32_t page, uint32_t from, uint32_t to,
		 const uint8_t *bytes, const struct page_query *q);
/* The server starts anew: the page is what the backup holds. */
void pages_set_base(struct sim_pages *sp, uint32_t page, const uint8_t *bytes);

#endif /* TESTS_SIM_ORACLE_PAGES_H */
