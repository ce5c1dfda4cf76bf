/* SPDX-License-Identifier: MIT */
/* What main.c can do wrong or needs to know; the protocol is tests/integration/test_nbd_*.py's. */
#include "nbd_server/server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "mem_backend.h"

struct fixture {
	struct ev_loop *loop;
	struct mem_backend *mem;
	struct nbds_config good;
};

static int
setup(void **state)
{
	static struct fixture f;

	f.loop = ev_loop_new(0);
	f.mem = mem_backend_new(f.loop,
				&(struct mem_backend_config){.size_bytes = 1u << 20, .slots = 4});
	f.good = (struct nbds_config){
		.export_name = "swap0",
		.max_connections = 2,
		.hold_bytes_max = NBDS_HOLD_BYTES_MIN,
		.clock = mem_backend_clock(f.mem),
	};
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	mem_backend_free(f->mem);
	ev_loop_destroy(f->loop);
	return 0;
}

static void
new__config_out_of_bounds(void **state)
{
	struct fixture *f = *state;
	struct nbds_server *server = NULL;
	struct nbds_config config;

	config = f->good;
	config.max_connections = 0;
	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &config, &server),
			 -EINVAL);
	config.max_connections = NBDS_CONNECTIONS_MAX + 1;
	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &config, &server),
			 -EINVAL);
	config = f->good;
	config.hold_bytes_max = NBDS_HOLD_BYTES_MIN - 1;
	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &config, &server),
			 -EINVAL);
	config = f->good;
	config.clock = NULL;
	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &config, &server),
			 -EINVAL);
	assert_null(server);
}

static void
free__without_a_run(void **state)
{
	struct fixture *f = *state;
	struct nbds_server *server;

	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &f->good, &server), 0);
	assert_int_equal(nbds_server_listen(server, "tcp:127.0.0.1:0"), 0);
	assert_null(nbds_server_address(server, 1));
	nbds_server_free(server);
	nbds_server_free(NULL);
}

static void
stopped_cb(void *arg)
{
	++*(int *)arg;
}

static void
stop__never_from_inside(void **state)
{
	struct fixture *f = *state;
	struct nbds_server *server;
	struct nbds_stats stats;
	int stopped = 0;

	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &f->good, &server), 0);
	nbds_server_stop(server, stopped_cb, &stopped);
	assert_int_equal(stopped, 0);
	ev_run(f->loop, 0);
	assert_int_equal(stopped, 1);
	nbds_server_get_stats(server, &stats);
	assert_int_equal(stats.accepted, 0);
	nbds_server_free(server);
}

static void
add_listen_fd__not_a_listening_socket(void **state)
{
	struct fixture *f = *state;
	struct nbds_server *server;
	int fds[2];

	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &f->good, &server), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(nbds_server_add_listen_fd(server, fds[0]), -ENOTSOCK);
	assert_int_equal(nbds_server_add_listen_fd(server, 12345), -EBADF);
	assert_int_equal(close(fds[0]), 0); /* still ours */
	assert_int_equal(close(fds[1]), 0);
	nbds_server_free(server);
}

static void
listen__too_many(void **state)
{
	struct fixture *f = *state;
	struct nbds_server *server;
	int i;

	assert_int_equal(nbds_server_new(f->loop, mem_backend_of(f->mem), &f->good, &server), 0);
	for (i = 0; i < 16; i++)
		assert_int_equal(nbds_server_listen(server, "tcp:127.0.0.1:0"), 0);
	assert_int_equal(nbds_server_listen(server, "tcp:127.0.0.1:0"), -ENOSPC);
	nbds_server_free(server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(new__config_out_of_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(free__without_a_run, setup, teardown),
		cmocka_unit_test_setup_teardown(stop__never_from_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(add_listen_fd__not_a_listening_socket, setup,
						teardown),
		cmocka_unit_test_setup_teardown(listen__too_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
