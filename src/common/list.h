/* SPDX-License-Identifier: MIT */
/*
 * list.h - intrusive doubly linked list.
 *
 * A node belongs to at most one list.  An unlinked node points to itself, so
 * list_del() on it is harmless and list_is_linked() can be asked at any time
 * after list_init().
 */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct list {
	struct list *next;
	struct list *prev;
};

static inline void
list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool
list_is_empty(const struct list *l)
{
	return l->next == l;
}

/* For a node: whether it is on a list. */
static inline bool
list_is_linked(const struct list *n)
{
	return n->next != n;
}

static inline void
list_insert_between(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

static inline void
list_add_tail(struct list *l, struct list *n)
{
	list_insert_between(n, l->prev, l);
}

static inline void
list_add_head(struct list *l, struct list *n)
{
	list_insert_between(n, l, l->next);
}

static inline void
list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

/* Takes the first node off; NULL when the list is empty. */
static inline struct list *
list_pop_head(struct list *l)
{
	struct list *n = l->next;

	if (n == l)
		return NULL;
	list_del(n);
	return n;
}

/* Moves every node of @from to the end of @to; @from is empty afterwards. */
static inline void
list_splice_tail(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_foreach(pos, l) for (pos = (l)->next; pos != (l); pos = pos->next)

/* Allows list_del(@pos) in the body. */
#define list_foreach_safe(pos, tmp, l)                                                             \
	for (pos = (l)->next, tmp = pos->next; pos != (l); pos = tmp, tmp = pos->next)

#endif /* COMMON_LIST_H */
