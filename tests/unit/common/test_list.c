/* SPDX-License-Identifier: MIT */
/* The intrusive list: order, unlinking, splicing. */
#include "common/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
	struct list node;
	int value;
};

static void
items_init(struct item *items, int count)
{
	for (int i = 0; i < count; i++) {
		items[i].value = i;
		list_init(&items[i].node);
	}
}

static int
pop_value(struct list *l)
{
	struct list *n = list_pop_head(l);

	return n ? container_of(n, struct item, node)->value : -1;
}

static void
add__keeps_order(void **state)
{
	struct item items[3];
	struct list l;

	(void)state;
	list_init(&l);
	items_init(items, 3);
	list_add_tail(&l, &items[1].node);
	list_add_tail(&l, &items[2].node);
	list_add_head(&l, &items[0].node);
	assert_int_equal(pop_value(&l), 0);
	assert_int_equal(pop_value(&l), 1);
	assert_int_equal(pop_value(&l), 2);
	assert_int_equal(pop_value(&l), -1);
	assert_true(list_is_empty(&l));
}

static void
del__twice_is_harmless(void **state)
{
	struct item items[2];
	struct list l;

	(void)state;
	list_init(&l);
	items_init(items, 2);
	assert_false(list_is_linked(&items[0].node));
	list_add_tail(&l, &items[0].node);
	list_add_tail(&l, &items[1].node);
	assert_true(list_is_linked(&items[0].node));
	list_del(&items[0].node);
	list_del(&items[0].node);
	assert_false(list_is_linked(&items[0].node));
	assert_int_equal(pop_value(&l), 1);
}

static void
splice__empties_the_source(void **state)
{
	struct item items[4];
	struct list a, b;

	(void)state;
	list_init(&a);
	list_init(&b);
	items_init(items, 4);
	list_splice_tail(&a, &b);
	assert_true(list_is_empty(&a));
	for (int i = 0; i < 4; i++)
		list_add_tail(i < 2 ? &a : &b, &items[i].node);
	list_splice_tail(&a, &b);
	assert_true(list_is_empty(&b));
	for (int i = 0; i < 4; i++)
		assert_int_equal(pop_value(&a), i);
}

static void
foreach_safe__may_delete(void **state)
{
	struct item items[4];
	struct list l, *pos, *tmp;
	int seen = 0;

	(void)state;
	list_init(&l);
	items_init(items, 4);
	for (int i = 0; i < 4; i++)
		list_add_tail(&l, &items[i].node);
	list_foreach_safe (pos, tmp, &l) {
		if (container_of(pos, struct item, node)->value % 2)
			list_del(pos);
	}
	list_foreach (pos, &l)
		seen = seen * 10 + container_of(pos, struct item, node)->value;
	assert_int_equal(seen, 2);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(add__keeps_order),
		cmocka_unit_test(del__twice_is_harmless),
		cmocka_unit_test(splice__empties_the_source),
		cmocka_unit_test(foreach_safe__may_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
