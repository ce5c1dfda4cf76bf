/* SPDX-License-Identifier: MIT */
/*
 * credit.h - who may send how many messages, so that a SEND always meets a buffer.
 *
 * Each side starts with as many credits as the other has message buffers.  A
 * message takes one; the receiver owes it from the moment it has posted the buffer
 * again, and returns what it owes with its next message, or, when it owes half of
 * the buffers, with a message that carries nothing else.  Those take no credit:
 * at most two can be unread, as each returns at least half of all credits, and
 * one farewell comes after them.  VRB_CREDIT_SPARE_BUFFERS are posted for these.
 */
#ifndef RDMA_CREDIT_H
#define RDMA_CREDIT_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define VRB_CREDIT_SPARE_BUFFERS 3u

struct vrb_credit {
	uint16_t here;	    /* message buffers posted here for the peer */
	uint16_t there;	    /* that the peer has; 0 until it said so */
	uint16_t available; /* messages we may send now, <= there */
	uint16_t owed;	    /* <= here */
};

static inline void
vrb_credit_init(struct vrb_credit *c, uint16_t here)
{
	*c = (struct vrb_credit){.here = here};
}

static inline void
vrb_credit_set_there(struct vrb_credit *c, uint16_t there)
{
	assert(c->there == 0);
	c->there = there;
	c->available = there;
}

/* For one message to the peer: false when it has to wait. */
static inline bool
vrb_credit_take(struct vrb_credit *c)
{
	if (c->available == 0)
		return false;
	c->available--;
	return true;
}

/* The peer returned @n.  -EPROTO when it can not have had so many. */
static inline int
vrb_credit_returned(struct vrb_credit *c, uint16_t n)
{
	if (n > c->there - c->available)
		return -EPROTO;
	c->available = (uint16_t)(c->available + n);
	return 0;
}

/* A message has been read and its buffer posted again.  -EPROTO when the peer
 * sent more than it may. */
static inline int
vrb_credit_owe(struct vrb_credit *c)
{
	if (c->owed >= c->here)
		return -EPROTO;
	c->owed++;
	return 0;
}

/* What the next message to the peer carries. */
static inline uint16_t
vrb_credit_give(struct vrb_credit *c)
{
	const uint16_t n = c->owed;

	c->owed = 0;
	return n;
}

/* Whether to return credits even without a message to send. */
static inline bool
vrb_credit_is_due(const struct vrb_credit *c)
{
	return c->owed >= (c->here + 1) / 2;
}

#endif /* RDMA_CREDIT_H */
