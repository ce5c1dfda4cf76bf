/* SPDX-License-Identifier: MIT */
/* Which daemons a turn looks at: those touched and those due, and no other; against a search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "slab/core.h"

#define REMOTES 40u
#define ROUNDS 20000u

struct fixture {
	struct slab_device dev;
	struct remote remotes[REMOTES];
	/* What the queue should know. */
	bool is_touched[REMOTES];
	uint64_t due_ns[REMOTES];
};

static struct fixture *
fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(remote_queue_init(&f->dev.remote_queue, REMOTES), 0);
	for (uint32_t i = 0; i < REMOTES; i++) {
		f->remotes[i].dev = &f->dev;
		f->remotes[i].index = i;
		list_init(&f->remotes[i].touched_node);
		f->due_ns[i] = UINT64_MAX;
	}
	return f;
}

static void
fixture_free(struct fixture *f)
{
	remote_queue_fini(&f->dev.remote_queue);
	free(f);
}

static uint64_t
earliest(const struct fixture *f)
{
	uint64_t ns = UINT64_MAX;

	for (uint32_t i = 0; i < REMOTES; i++)
		ns = f->due_ns[i] < ns ? f->due_ns[i] : ns;
	return ns;
}

static void
set_due(struct fixture *f, uint32_t i, uint64_t due_ns)
{
	remote_queue_set_due(&f->remotes[i], due_ns);
	f->due_ns[i] = due_ns;
}

/* One turn: each that is touched or due comes once, and nobody else. */
static void
turn(struct fixture *f, struct rng *rng, uint64_t now_ns)
{
	struct remote *r;

	while ((r = remote_queue_take(&f->dev.remote_queue, now_ns)) != NULL) {
		const uint32_t i = r->index;

		assert_true(f->is_touched[i] || f->due_ns[i] <= now_ns);
		f->is_touched[i] = false;
		set_due(f, i,
			rng_percent(rng, 20) ? UINT64_MAX : now_ns + rng_between(rng, 1, 1000));
	}
	for (uint32_t i = 0; i < REMOTES; i++)
		assert_true(!f->is_touched[i] && f->due_ns[i] > now_ns);
	assert_int_equal(remote_queue_due_ns(&f->dev.remote_queue), earliest(f));
}

static void
take__nobody_when_nothing_happened(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	assert_null(remote_queue_take(&f->dev.remote_queue, 100));
	assert_int_equal(remote_queue_due_ns(&f->dev.remote_queue), UINT64_MAX);
	set_due(f, 3, 50);
	assert_null(remote_queue_take(&f->dev.remote_queue, 49));
	assert_ptr_equal(remote_queue_take(&f->dev.remote_queue, 50), &f->remotes[3]);
	assert_null(remote_queue_take(&f->dev.remote_queue, 50));
	fixture_free(f);
}

static void
take__touched_twice_comes_once_and_keeps_its_deadline(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	set_due(f, 1, 50);
	remote_touch(&f->remotes[1]);
	remote_touch(&f->remotes[1]);
	assert_ptr_equal(remote_queue_take(&f->dev.remote_queue, 10), &f->remotes[1]);
	assert_null(remote_queue_take(&f->dev.remote_queue, 10));
	assert_int_equal(remote_queue_due_ns(&f->dev.remote_queue), 50);
	fixture_free(f);
}

static void
forget__neither_touched_nor_due_any_more(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	set_due(f, 1, 50);
	set_due(f, 2, 60);
	remote_touch(&f->remotes[1]);
	remote_queue_forget(&f->remotes[1]);
	assert_null(remote_queue_take(&f->dev.remote_queue, 55));
	assert_ptr_equal(remote_queue_take(&f->dev.remote_queue, 60), &f->remotes[2]);
	remote_queue_forget(&f->remotes[2]);
	fixture_free(f);
}

static void
random__as_a_search_finds(void **state)
{
	struct fixture *f = fixture_new();
	struct rng rng = rng_of(1, 0);
	uint64_t now_ns = 1;

	(void)state;
	for (uint32_t n = 0; n < ROUNDS; n++) {
		const uint32_t i = rng_below(&rng, REMOTES);

		if (rng_percent(&rng, 60)) {
			remote_touch(&f->remotes[i]);
			f->is_touched[i] = true;
		} else if (rng_percent(&rng, 10)) {
			remote_queue_forget(&f->remotes[i]);
			f->is_touched[i] = false;
			f->due_ns[i] = UINT64_MAX;
		} else {
			now_ns += rng_between(&rng, 0, 200);
			turn(f, &rng, now_ns);
		}
	}
	fixture_free(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take__nobody_when_nothing_happened),
		cmocka_unit_test(take__touched_twice_comes_once_and_keeps_its_deadline),
		cmocka_unit_test(forget__neither_touched_nor_due_any_more),
		cmocka_unit_test(random__as_a_search_finds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
