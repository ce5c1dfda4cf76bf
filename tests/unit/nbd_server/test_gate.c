/* SPDX-License-Identifier: MIT */
/* First come, first served, and nobody forgotten. */
#include "nbd_server/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct fake {
	struct backend be;
	struct backend_io io;
	uint32_t available;
	uint32_t available_for_others;
	void (*resume)(void *arg);
	void *resume_arg;
};

struct client {
	struct nbds_waiter waiter;
	struct nbds_gate *gate;
	enum backend_kind kind;
	uint32_t wants;
	uint32_t got;
	char name;
	char *trace;
};

struct fixture {
	struct ev_loop *loop;
	struct fake fake;
	struct nbds_gate gate;
	struct client a, b, c;
	char trace[64];
};

static struct backend_io *
fake_get(struct backend *be, enum backend_kind kind, uint64_t offset_bytes, uint32_t length_bytes)
{
	struct fake *fake = container_of(be, struct fake, be);

	uint32_t *available = kind == BACKEND_READ ? &fake->available : &fake->available_for_others;

	(void)offset_bytes;
	(void)length_bytes;
	if (!*available)
		return NULL;
	--*available;
	return &fake->io;
}

static void
fake_set_resume(struct backend *be, void (*resume)(void *arg), void *arg)
{
	struct fake *fake = container_of(be, struct fake, be);

	fake->resume = resume;
	fake->resume_arg = arg;
}

static const struct backend_ops fake_ops = {.get = fake_get, .set_resume = fake_set_resume};

static void
ask(struct nbds_waiter *w)
{
	struct client *client = container_of(w, struct client, waiter);

	while (client->got < client->wants) {
		if (!nbds_gate_get(client->gate, w, client->kind, 0, PAGE_BYTES))
			return;
		client->got++;
		client->trace[strlen(client->trace)] = client->name;
	}
}

static void
client_init(struct fixture *f, struct client *client, char name, uint32_t wants)
{
	list_init(&client->waiter.node);
	client->waiter.run = ask;
	client->gate = &f->gate;
	client->kind = BACKEND_READ;
	client->wants = wants;
	client->got = 0;
	client->name = name;
	client->trace = f->trace;
}

static void
give(struct fixture *f, uint32_t buffers)
{
	f->fake.available += buffers;
	f->fake.resume(f->fake.resume_arg);
}

static int
setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.loop = ev_loop_new(0);
	f.fake.be.ops = &fake_ops;
	nbds_gate_init(&f.gate, f.loop, &f.fake.be);
	client_init(&f, &f.a, 'a', 1);
	client_init(&f, &f.b, 'b', 1);
	client_init(&f, &f.c, 'c', 1);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	nbds_gate_leave(&f->gate, &f->a.waiter);
	nbds_gate_leave(&f->gate, &f->b.waiter);
	nbds_gate_leave(&f->gate, &f->c.waiter);
	nbds_gate_fini(&f->gate);
	ev_loop_destroy(f->loop);
	return 0;
}

static void
get__passes_when_nobody_waits(void **state)
{
	struct fixture *f = *state;

	f->fake.available = 2;
	ask(&f->a.waiter);
	ask(&f->b.waiter);
	assert_string_equal(f->trace, "ab");
}

static void
get__later_ones_do_not_overtake(void **state)
{
	struct fixture *f = *state;

	f->a.wants = 3;
	f->fake.available = 1;
	ask(&f->a.waiter); /* has one, waits for two */
	f->fake.available = 1;
	ask(&f->b.waiter); /* there is one, but it is not its turn */
	ask(&f->c.waiter);
	assert_string_equal(f->trace, "a");
	give(f, 0);
	assert_string_equal(f->trace, "aa");
	give(f, 1);
	assert_string_equal(f->trace, "aaa");
	give(f, 2);
	assert_string_equal(f->trace, "aaabc");
}

static void
get__asking_while_waiting_changes_nothing(void **state)
{
	struct fixture *f = *state;

	ask(&f->a.waiter);
	f->fake.available = 1;
	ask(&f->a.waiter);
	assert_string_equal(f->trace, "");
	give(f, 0);
	assert_string_equal(f->trace, "a");
}

static void
leave__the_next_one_is_tried(void **state)
{
	struct fixture *f = *state;

	ask(&f->a.waiter);
	ask(&f->b.waiter);
	f->fake.available = 1;
	nbds_gate_leave(&f->gate, &f->a.waiter);
	assert_string_equal(f->trace, "");
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_string_equal(f->trace, "b");
}

static void
yield_and_ask(struct nbds_waiter *w)
{
	struct client *client = container_of(w, struct client, waiter);

	ask(w);
	nbds_gate_yield(client->gate, w);
	client->wants = client->got + 1;
	ask(w);
}

static void
yield__queues_behind_the_others(void **state)
{
	struct fixture *f = *state;

	f->a.waiter.run = yield_and_ask;
	ask(&f->a.waiter);
	ask(&f->b.waiter);
	give(f, 2);
	assert_string_equal(f->trace, "ab");
}

static void
read__does_not_wait_behind_writes(void **state)
{
	struct fixture *f = *state;

	f->a.kind = BACKEND_WRITE;
	f->b.kind = BACKEND_TRIM;
	ask(&f->a.waiter);
	ask(&f->b.waiter);
	f->fake.available = 1;
	ask(&f->c.waiter);
	assert_string_equal(f->trace, "c");
	f->fake.available_for_others = 2;
	give(f, 0);
	assert_string_equal(f->trace, "cab");
}

static void
write__does_not_wait_behind_reads(void **state)
{
	struct fixture *f = *state;

	f->b.kind = BACKEND_WRITE;
	f->c.kind = BACKEND_WRITE;
	ask(&f->a.waiter);
	ask(&f->b.waiter);
	ask(&f->c.waiter);
	f->fake.available_for_others = 1;
	give(f, 0);
	assert_string_equal(f->trace, "b");
	f->fake.available_for_others = 1;
	give(f, 1);
	assert_string_equal(f->trace, "bac");
}

static void
leave__a_read_does_not_hold_up_writes(void **state)
{
	struct fixture *f = *state;

	f->b.kind = BACKEND_WRITE;
	ask(&f->a.waiter);
	ask(&f->b.waiter);
	f->fake.available_for_others = 1;
	nbds_gate_leave(&f->gate, &f->a.waiter);
	ev_run(f->loop, EVRUN_NOWAIT);
	assert_string_equal(f->trace, "b");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(get__passes_when_nobody_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(get__later_ones_do_not_overtake, setup, teardown),
		cmocka_unit_test_setup_teardown(get__asking_while_waiting_changes_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(leave__the_next_one_is_tried, setup, teardown),
		cmocka_unit_test_setup_teardown(yield__queues_behind_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(read__does_not_wait_behind_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(write__does_not_wait_behind_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(leave__a_read_does_not_hold_up_writes, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
