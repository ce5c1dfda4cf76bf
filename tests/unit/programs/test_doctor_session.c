/* SPDX-License-Identifier: MIT */
/* The greeting of --doctor, with daemons that are obedient, refuse, lie or say nothing. */
#include "programs/doctor_session.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fake_transport.h"
#include "nbd_server/server_config_file.h"
#include "unit/slab/fake_daemon.h"

#define SLAB_BYTES (UINT64_C(1) << 20)
#define SLABS 4u
#define KEY "0123456789abcdef"

struct world {
	struct fake_net *net;
	struct tp *tp;
	struct fake_daemon daemon;
	struct server_file_config *config;
	struct doctor_session session;
	unsigned int n_done;
};

static void
done_cb(void *arg)
{
	struct world *w = arg;

	w->n_done++;
}

/* @theirs, @ours: psk or NULL. */
static void
world_init(struct world *w, const char *theirs, const char *ours)
{
	memset(w, 0, sizeof(*w));
	w->config = calloc(1, sizeof(*w->config));
	assert_non_null(w->config);
	w->config->slab_bytes = SLAB_BYTES;
	memcpy(w->config->name, "swap0", sizeof("swap0"));
	if (ours) {
		w->config->psk.length_bytes = strlen(ours);
		memcpy(w->config->psk.key, ours, strlen(ours));
	}
	w->net = fake_net_new(0);
	w->tp = fake_tp_new(w->net);
	fake_daemon_init(&w->daemon, w->net, 0, SLAB_BYTES, SLABS, theirs);
	w->session = (struct doctor_session){.config = w->config, .done = done_cb, .arg = w};
}

/* Starts, runs all that can happen; the session has ended, once, with @end. */
static void
expect_end(struct world *w, enum doctor_session_end end)
{
	doctor_session_start(&w->session, w->tp, w->daemon.address, 1);
	(void)fake_net_run(w->net);
	assert_int_equal(w->session.end, end);
	assert_int_equal(w->n_done, end != DOCTOR_SESSION_OPEN);
}

static void
world_fini(struct world *w)
{
	(void)fake_net_run(w->net);
	assert_int_equal(w->n_done, 1);
	assert_null(w->session.conn);
	w->tp = fake_tp_end(w->tp);
	fake_daemon_fini(&w->daemon);
	w->net = fake_net_free(w->net);
	free(w->config);
}

static void
greets__without_and_with_key(void **state)
{
	static const char *const keys[] = {NULL, KEY};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world w;

		world_init(&w, keys[i], keys[i]);
		expect_end(&w, DOCTOR_SESSION_WELCOME);
		assert_int_equal(w.session.free_slabs, SLABS);
		assert_int_equal(w.session.total_slabs, SLABS);
		assert_int_equal(w.daemon.n_hellos, 1);
		assert_int_equal(w.daemon.n_maps, 0);
		world_fini(&w);
	}
}

static void
keys__differ_or_are_on_one_side(void **state)
{
	static const struct {
		const char *theirs, *ours;
		enum doctor_session_end end;
	} cases[] = {
		{KEY, NULL, DOCTOR_SESSION_PSK_ASKED},
		{KEY, "fedcba9876543210", DOCTOR_SESSION_PSK_DIFFERS},
		{NULL, KEY, DOCTOR_SESSION_PSK_IGNORED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		world_init(&w, cases[i].theirs, cases[i].ours);
		expect_end(&w, cases[i].end);
		world_fini(&w);
	}
}

static void
refused__reason_and_text(void **state)
{
	static const uint32_t reasons[] = {CTL_REASON_VERSION, CTL_REASON_SLAB_SIZE,
					   CTL_REASON_CLIENTS, CTL_REASON_STOPPING, 999};

	(void)state;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		struct world w;

		world_init(&w, NULL, NULL);
		w.daemon.refuse_reason = reasons[i];
		expect_end(&w, DOCTOR_SESSION_REFUSED);
		assert_int_equal(w.session.reason, reasons[i]);
		assert_string_equal(w.session.text, "go away");
		world_fini(&w);
	}
}

static void
lies__are_no_daemon(void **state)
{
	static const enum fake_daemon_lie lies[] = {LIE_SLAB_SIZE, LIE_VERSION, LIE_HELLO_GARBAGE,
						    LIE_HELLO_PONG};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct world w;

		world_init(&w, NULL, NULL);
		w.daemon.lie = lies[i];
		expect_end(&w, DOCTOR_SESSION_PROTOCOL);
		world_fini(&w);
	}
}

static void
silence__until_given_up(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NULL, NULL);
	w.daemon.lie = LIE_MUTE;
	expect_end(&w, DOCTOR_SESSION_OPEN);
	doctor_session_give_up(&w.session);
	assert_int_equal(w.session.end, DOCTOR_SESSION_SILENT);
	assert_int_equal(w.session.error, -ETIMEDOUT);
	doctor_session_give_up(&w.session);
	world_fini(&w);
}

static void
unreached__refused_cut_or_given_up(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NULL, NULL);
	fake_net_fail(w.net, FAKE_UP, -ECONNREFUSED);
	expect_end(&w, DOCTOR_SESSION_UNREACHED);
	assert_int_equal(w.session.error, -ECONNREFUSED);
	world_fini(&w);

	world_init(&w, NULL, NULL);
	w.daemon.lie = LIE_MUTE;
	expect_end(&w, DOCTOR_SESSION_OPEN);
	fake_net_cut(w.session.conn, -ECONNRESET);
	(void)fake_net_run(w.net);
	assert_int_equal(w.session.end, DOCTOR_SESSION_UNREACHED);
	assert_int_equal(w.session.error, -ECONNRESET);
	world_fini(&w);

	world_init(&w, NULL, NULL);
	doctor_session_start(&w.session, w.tp, w.daemon.address, 1);
	doctor_session_give_up(&w.session);
	assert_int_equal(w.session.end, DOCTOR_SESSION_UNREACHED);
	world_fini(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greets__without_and_with_key),
		cmocka_unit_test(keys__differ_or_are_on_one_side),
		cmocka_unit_test(refused__reason_and_text),
		cmocka_unit_test(lies__are_no_daemon),
		cmocka_unit_test(silence__until_given_up),
		cmocka_unit_test(unreached__refused_cut_or_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
