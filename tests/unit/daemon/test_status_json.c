/* SPDX-License-Identifier: MIT */
/* What slabswapctl shows of a daemon: the right numbers, and a document that is whole in any buffer. */
#include "daemon/status_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/page.h"
#include "common/spin_stats.h"
#include "unit/daemon/fixture.h"

#define BUF_BYTES 4096u

static unsigned
count(const char *text, const char *part)
{
	unsigned n = 0;

	for (text = strstr(text, part); text; text = strstr(text + 1, part))
		n++;
	return n;
}

static void
assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no %s in %s", part, text);
}

static const struct spin_stats spin = {.limit_ns = 50000,
				       .length_ns = 30000,
				       .spun_ns = 3 * NSEC_PER_MSEC,
				       .paid_total = 7,
				       .unpaid_total = 2};

static void
status__clients_and_slabs(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *a, *b;
	char buf[BUF_BYTES];
	size_t length;

	(void)state;
	fx_start_full(fx);
	a = fx_join(fx);
	b = fx_join(fx);
	(void)fx_map_now(a, 0, 1);
	(void)fx_map_now(a, 1, 1);
	length = status_json(fx->daemon, FX_SLAB_BYTES, 1500 * NSEC_PER_MSEC, &spin, buf,
			     sizeof(buf));
	assert_int_equal(length, strlen(buf));
	assert_string_equal(buf + length - 2, "}\n");
	assert_says(buf, "\"program\":\"slabswapd\"");
	assert_says(buf, "\"uptime_ms\":1500,");
	assert_says(buf, "\"slab_bytes\":8192,");
	assert_says(buf, "\"clients_joined\":2,");
	assert_says(
		buf,
		"\"spin\":{\"limit_us\":50,\"length_us\":30,\"spun_us\":3000,\"spun_permille\":2,"
		"\"paid\":7,\"unpaid\":2},");
	assert_says(buf, "\"max\":8,\"free\":6,\"mapped\":2,\"pending\":0,\"empty\":0,\"lost\":0,"
			 "\"target\":8}");
	assert_says(buf, "\"memory\":{\"known\":false,");
	daemon_host_memory(fx->daemon,
			   &(struct daemon_memory){.total_bytes = 100 * FX_SLAB_BYTES,
						   .available_bytes = 64 * FX_SLAB_BYTES});
	assert_true(status_json(fx->daemon, FX_SLAB_BYTES, 0, &spin, buf, sizeof(buf)) > 0);
	assert_says(buf,
		    "\"memory\":{\"known\":true,\"short\":false,\"total_bytes\":819200,"
		    "\"available_bytes\":524288,\"free_bytes\":524288,\"headroom_bytes\":32768,"
		    "\"usage_permille\":300}");
	assert_says(buf, "\"joined\":2,\"maps\":2,\"unmaps\":0,\"refused\":0,");
	assert_says(
		buf,
		"\"evictions\":{\"slabs_asked\":0,\"batches\":0,\"slabs\":0,\"slabs_forced\":0}");
	assert_says(buf, "\"device\":\"swap0\",\"slabs\":2}");
	assert_says(buf, "\"device\":\"swap0\",\"slabs\":0}");
	assert_says(buf, "\"clients_listed\":2}");
	fx_client_free(a);
	fx_client_free(b);
	fx_free(fx);
}

static void
status__name_of_a_device_is_quoted(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *c;
	struct ctl_msg hello;
	char buf[BUF_BYTES];

	(void)state;
	fx_start_full(fx);
	c = fx_connect(fx);
	hello = fx_hello(c);
	memcpy(hello.u.hello.device, "a\"b\\c", sizeof("a\"b\\c"));
	(void)fx_send(c, hello);
	fx_net(fx);
	assert_true(status_json(fx->daemon, FX_SLAB_BYTES, 0, &spin, buf, sizeof(buf)) > 0);
	assert_says(buf, "\"device\":\"a\\\"b\\\\c\",\"slabs\":0}");
	fx_client_free(c);
	fx_free(fx);
}

static void
status__whole_in_any_buffer(void **state)
{
	struct fx *fx = fx_new(0);
	struct fx_client *clients[FX_CLIENTS];
	unsigned listed, most = 0;
	char buf[BUF_BYTES];
	char says[64];

	(void)state;
	fx_start_full(fx);
	for (unsigned i = 0; i < FX_CLIENTS; i++)
		clients[i] = fx_join(fx);
	for (size_t size = 1; size <= sizeof(buf); size++) {
		size_t length;

		memset(buf, '#', sizeof(buf));
		length = status_json(fx->daemon, FX_SLAB_BYTES, 0, &spin, buf, size);
		assert_true(size == sizeof(buf) || buf[size] == '#');
		assert_true(length > 0 || size < 2048);
		if (length == 0)
			continue;
		assert_true(length < size);
		assert_string_equal(buf + length - 2, "}\n");
		listed = count(buf, "\"device\":");
		(void)snprintf(says, sizeof(says), "\"clients_listed\":%u}", listed);
		assert_says(buf, says);
		most = listed > most ? listed : most;
	}
	assert_int_equal(most, FX_CLIENTS);
	for (unsigned i = 0; i < FX_CLIENTS; i++)
		fx_client_free(clients[i]);
	fx_free(fx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status__clients_and_slabs),
		cmocka_unit_test(status__name_of_a_device_is_quoted),
		cmocka_unit_test(status__whole_in_any_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
