/* SPDX-License-Identifier: MIT */
/* Who waits for whom on a page: by hand, and random sequences against a model that searches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slab/page_order.h"

#define ENTRIES 48u

struct fixture {
	struct page_order order;
	struct list ready;
	struct order_entry e[ENTRIES];
	bool is_in[ENTRIES];
	uint32_t arrival[ENTRIES];
	uint32_t n_arrived;
};

static void
run_none(struct order_entry *e)
{
	(void)e;
}

static void
fixture_init(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	list_init(&f->ready);
	assert_int_equal(page_order_init(&f->order, 4, &f->ready), 0);
}

static struct order_entry *
add(struct fixture *f, uint32_t i, enum order_kind kind, uint32_t block, uint32_t mask)
{
	order_entry_init(&f->e[i], kind, block, mask, run_none);
	order_add(&f->order, &f->e[i]);
	f->is_in[i] = true;
	f->arrival[i] = f->n_arrived++;
	return &f->e[i];
}

static void
waits__by_kind_block_and_page(void **state)
{
	struct fixture f;
	struct order_entry *w1, *r1, *r2, *w2, *other;

	(void)state;
	fixture_init(&f);
	w1 = add(&f, 0, ORDER_EXCLUSIVE, 5, 0x3);
	r1 = add(&f, 1, ORDER_SHARED, 5, 0x2);
	r2 = add(&f, 2, ORDER_SHARED, 5, 0x6);
	w2 = add(&f, 3, ORDER_EXCLUSIVE, 5, 0x4);
	other = add(&f, 4, ORDER_EXCLUSIVE, 5 + 64, 0x3);
	assert_int_equal(w1->wait_main, 0);
	assert_int_equal(r1->wait_main, 1);
	assert_int_equal(r1->wait_backup, 0);
	assert_int_equal(r2->wait_main, 1); /* not for the other read */
	assert_int_equal(w2->wait_main, 1); /* only the read shares a page with it */
	assert_int_equal(w2->wait_backup, 0);
	assert_int_equal(other->wait_main, 0);

	order_main_done(&f.order, w1);
	assert_int_equal(r1->wait_main + r2->wait_main, 0);
	assert_ptr_equal(list_pop_head(&f.ready), &r1->ready);
	assert_ptr_equal(list_pop_head(&f.ready), &r2->ready);
	assert_null(list_pop_head(&f.ready));
	order_main_done(&f.order, r1);
	order_main_done(&f.order, r2);
	assert_false(list_is_linked(&r2->chain));
	assert_ptr_equal(list_pop_head(&f.ready), &w2->ready);
	assert_true(list_is_linked(&w1->chain)); /* until its backup is done */
	order_backup_done(&f.order, w1);
	assert_false(list_is_linked(&w1->chain));
	page_order_fini(&f.order);
}

static void
newest_data__only_what_can_be_had(void **state)
{
	struct fixture f;
	struct order_entry *a, *b;

	(void)state;
	fixture_init(&f);
	a = add(&f, 0, ORDER_EXCLUSIVE, 1, 0xf);
	b = add(&f, 1, ORDER_EXCLUSIVE, 1, 0x2);
	assert_null(order_newest_data(&f.order, 1, 1));
	a->has_data = true;
	assert_null(order_newest_data(&f.order, 1, 1));
	assert_int_equal(order_unsafe_pages(&f.order, 1, NULL), 0xf);
	assert_int_equal(order_unsafe_pages(&f.order, 1, a), 0);
	assert_int_equal(order_covered_later(&f.order, a), 0);
	order_main_done(&f.order, a);
	assert_ptr_equal(order_newest_data(&f.order, 1, 1), a);
	b->has_data = true;
	assert_int_equal(order_covered_later(&f.order, a), 0x2);
	assert_ptr_equal(order_newest_data(&f.order, 1, 1), a);
	order_main_done(&f.order, b);
	assert_ptr_equal(order_newest_data(&f.order, 1, 1), b);
	assert_ptr_equal(order_newest_data(&f.order, 1, 0), a);
	assert_null(order_newest_data(&f.order, 1, 4));
	order_backup_done(&f.order, a);
	assert_null(order_newest_data(&f.order, 1, 0));
	assert_int_equal(order_unsafe_pages(&f.order, 1, NULL), 0x2);
	page_order_fini(&f.order);
}

static void
tell_later__started_ones_only(void **state)
{
	struct fixture f;
	struct order_entry *a, *b, *c;

	(void)state;
	fixture_init(&f);
	a = add(&f, 0, ORDER_EXCLUSIVE, 1, 0x7);
	b = add(&f, 1, ORDER_EXCLUSIVE, 1, 0x6);
	c = add(&f, 2, ORDER_EXCLUSIVE, 1, 0x7);
	b->has_data = true;
	b->prior_lost = 0x2;
	order_tell_later(&f.order, a, 0x3, false);
	assert_int_equal(b->prior_backup, 0x2);
	assert_int_equal(b->prior_lost, 0);
	order_tell_later(&f.order, a, 0x4, true);
	assert_int_equal(b->prior_lost, 0x4);
	assert_int_equal(c->prior_backup | c->prior_lost, 0);
	page_order_fini(&f.order);
}

static void
superseded__whole_and_idle_only(void **state)
{
	struct fixture f;
	struct order_entry *a, *b, *c;

	(void)state;
	fixture_init(&f);
	a = add(&f, 0, ORDER_EXCLUSIVE, 1, 0x3);
	b = add(&f, 1, ORDER_EXCLUSIVE, 1, 0x1);
	c = add(&f, 2, ORDER_EXCLUSIVE, 1, 0x1);
	a->has_data = true;
	order_main_done(&f.order, a);
	b->has_data = true;
	order_main_done(&f.order, b);
	assert_null(order_superseded(&f.order, b)); /* a has a page more, and may be under way */
	assert_ptr_equal(order_superseded(&f.order, c), b);
	order_backup_done(&f.order, a);
	assert_null(order_superseded(&f.order, c)); /* b may be under way now */
	b->is_kept = true;
	assert_ptr_equal(order_superseded(&f.order, c), b);
	assert_ptr_equal(order_next_waiting(&f.order, b, b->mask), c);
	assert_null(order_next_waiting(&f.order, c, b->mask));
	page_order_fini(&f.order);
}

static void
readable__lets_reads_pass(void **state)
{
	struct fixture f;
	struct order_entry *w1, *r1, *w2, *r2;

	(void)state;
	fixture_init(&f);
	w1 = add(&f, 0, ORDER_EXCLUSIVE, 5, 0x3);
	w1->has_data = true;
	r1 = add(&f, 1, ORDER_SHARED, 5, 0x2);
	assert_int_equal(r1->wait_main, 1);
	order_readable(&f.order, w1);
	assert_int_equal(r1->wait_main, 0);
	assert_ptr_equal(list_pop_head(&f.ready), &r1->ready);
	assert_int_equal(order_flying_pages(&f.order, 5), 0x3);
	w2 = add(&f, 2, ORDER_EXCLUSIVE, 5, 0x2);
	r2 = add(&f, 3, ORDER_SHARED, 5, 0x3);
	assert_int_equal(w2->wait_main, 2); /* for both */
	assert_int_equal(r2->wait_main, 1); /* for the second write */
	order_main_done(&f.order, w1);
	assert_int_equal(order_flying_pages(&f.order, 5), 0);
	assert_int_equal(w2->wait_main, 1);
	order_main_done(&f.order, r1);
	assert_ptr_equal(list_pop_head(&f.ready), &w2->ready);
	assert_int_equal(r2->wait_main, 1);
	order_main_done(&f.order, w2);
	assert_ptr_equal(list_pop_head(&f.ready), &r2->ready);
	page_order_fini(&f.order);
}

/* What an entry waits for, searched for instead of counted. */
static void
check_waits(const struct fixture *f, uint32_t i)
{
	const struct order_entry *e = &f->e[i];
	uint32_t n_main = 0, n_backup = 0;

	for (uint32_t k = 0; k < ENTRIES; k++) {
		const struct order_entry *o = &f->e[k];

		if (!f->is_in[k] || f->arrival[k] >= f->arrival[i] || o->block != e->block ||
		    (o->mask & e->mask) == 0 ||
		    (o->kind == ORDER_SHARED && e->kind == ORDER_SHARED))
			continue;
		n_main += !o->main_done && !(o->is_readable && e->kind == ORDER_SHARED);
		n_backup +=
			o->kind == ORDER_EXCLUSIVE && e->kind == ORDER_EXCLUSIVE && !o->backup_done;
	}
	assert_int_equal(e->wait_main, n_main);
	assert_int_equal(e->wait_backup, n_backup);
}

static void
random__counts_as_a_search_finds(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	srand(4711);
	for (uint32_t step = 0; step < 60000; step++) {
		const uint32_t i = (uint32_t)rand() % ENTRIES;
		struct order_entry *e = &f.e[i];
		const bool is_write = e->kind == ORDER_EXCLUSIVE;

		if (!f.is_in[i]) {
			(void)add(&f, i, rand() % 2 ? ORDER_SHARED : ORDER_EXCLUSIVE,
				  (uint32_t)rand() % 3, 1u << rand() % 4 | 1u << rand() % 4);
		} else if (is_write && !e->main_done && !e->is_readable && e->wait_main == 0 &&
			   rand() % 4 == 0) {
			e->has_data = true;
			order_readable(&f.order, e);
		} else if (!e->main_done && e->wait_main == 0) {
			list_del(&e->ready);
			order_main_done(&f.order, e);
		} else if (is_write && !e->backup_done && e->wait_backup == 0) {
			order_backup_done(&f.order, e);
		}
		f.is_in[i] = list_is_linked(&e->chain);
		if (!f.is_in[i])
			list_del(&e->ready);
		for (uint32_t k = 0; k < ENTRIES; k++)
			if (f.is_in[k])
				check_waits(&f, k);
	}
	page_order_fini(&f.order);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits__by_kind_block_and_page),
		cmocka_unit_test(newest_data__only_what_can_be_had),
		cmocka_unit_test(tell_later__started_ones_only),
		cmocka_unit_test(superseded__whole_and_idle_only),
		cmocka_unit_test(readable__lets_reads_pass),
		cmocka_unit_test(random__counts_as_a_search_finds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
