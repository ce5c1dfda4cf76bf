/* SPDX-License-Identifier: MIT */
/* The epoch page: who may read it, that nobody writes it, and what if it cannot be granted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/page.h"
#include "unit/daemon/fixture.h"
#include "wire/bytes.h"

struct page {
	struct fx *fx;
	uint8_t bytes[PAGE_BYTES];
	struct tp_region *region;
};

static struct tp_region *
region_cb(void *arg, const struct tp *tp)
{
	struct page *p = arg;

	assert_ptr_equal(tp, p->fx->server);
	return p->region;
}

static struct fx *
new_with_page(struct page *p)
{
	struct fx *fx = fx_new(0);

	*p = (struct page){.fx = fx};
	put_le64(p->bytes, fx->config.epoch);
	assert_int_equal(tp_region_register(fx->server, p->bytes, sizeof(p->bytes), TP_LEND_READ,
					    &p->region),
			 0);
	fx->config.epoch_region = region_cb;
	fx->config.epoch_region_arg = p;
	fx_start_full(fx);
	return fx;
}

static void
end(struct page *p)
{
	assert_int_equal(tp_region_release(p->region), 0);
	fx_free(p->fx);
}

/* As after MR_INFO, so that fx_io() reaches the page. */
static struct ctl_mr_info
hello(struct fx_client *c)
{
	const uint32_t id = fx_send(c, fx_hello(c));
	const struct ctl_msg *msg;

	fx_net(c->fx);
	msg = fx_take_answer(c, CTL_WELCOME, id);
	assert_int_equal(msg->u.welcome.epoch, c->fx->config.epoch);
	return (struct ctl_mr_info){
		.addr = msg->u.welcome.epoch_addr,
		.rkey = msg->u.welcome.epoch_rkey,
	};
}

static void
welcome__says_where_the_epoch_can_be_read(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);
	struct fx_client *a = fx_connect(fx), *b = fx_connect(fx);
	const struct ctl_mr_info at_a = hello(a), at_b = hello(b);

	(void)state;
	assert_int_not_equal(at_a.rkey, at_b.rkey);
	assert_int_equal(fx_io(a, TP_OP_READ, &at_a, 0), 0);
	assert_true(get_le64(a->buf) == fx->config.epoch);
	assert_int_equal(fx_io(b, TP_OP_READ, &at_b, 0), 0);
	assert_true(get_le64(b->buf) == fx->config.epoch);
	fx_client_free(a);
	fx_client_free(b);
	end(&p);
}

static void
page__who_writes_it_is_thrown_out_and_others_notice_nothing(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);
	struct fx_client *bad = fx_connect(fx), *good = fx_connect(fx);
	const struct ctl_mr_info at_bad = hello(bad), at_good = hello(good);

	(void)state;
	memset(bad->buf, 0xbb, sizeof(bad->buf));
	assert_int_equal(fx_io(bad, TP_OP_WRITE, &at_bad, 0), -EACCES);
	fx_settle(fx);
	assert_null(bad->conn);
	assert_int_equal(fx_io(good, TP_OP_READ, &at_good, 0), 0);
	assert_true(get_le64(good->buf) == fx->config.epoch);
	fx_client_free(bad);
	fx_client_free(good);
	end(&p);
}

static void
page__cannot_be_granted(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct fx_client *c = fx_connect(fx);
		struct ctl_mr_info at;

		if (i == 0)
			fake_tp_refuse_grants(fx->server, -ENOMEM);
		else
			fake_net_fail(fx->net, FAKE_GRANTED, -EIO);
		at = hello(c);
		fake_tp_refuse_grants(fx->server, 0);
		assert_true(at.addr == 0 && at.rkey == 0);
		(void)fx_map_now(c, 1, 1); /* served nevertheless */
		fx_client_free(c);
	}
	end(&p);
}

static void
page__is_not_granted_in_time(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);
	struct fx_client *c = fx_connect(fx);

	(void)state;
	fake_net_hold(fx->net, FAKE_GRANTED, true);
	(void)fx_send(c, fx_hello(c));
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS / 2);
	assert_non_null(c->conn);
	fx_sleep(fx, FX_HELLO_TIMEOUT_NS);
	assert_null(c->conn);
	assert_int_equal(fx_stats(fx).timeouts_total, 1);
	assert_non_null(strstr(fx->event_text[DAEMON_EVENT_REJECTED], "epoch page"));
	fx_client_free(c);
	end(&p);
}

static void
message__before_welcome(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);
	struct fx_client *c = fx_connect(fx);

	(void)state;
	fake_net_hold(fx->net, FAKE_GRANTED, true);
	(void)fx_send(c, fx_hello(c));
	(void)fx_map(c, 1, 1);
	fx_settle(fx);
	assert_null(c->conn);
	assert_int_equal(fx_stats(fx).protocol_errors_total, 1);
	fx_client_free(c);
	end(&p);
}

/* Those that wait for their grant are counted when they get their WELCOME. */
static void
hello__too_many_at_once(void **state)
{
	struct page p;
	struct fx *fx = new_with_page(&p);
	struct fx_client *c[FX_CLIENTS + 1];
	uint32_t id[FX_CLIENTS + 1];

	(void)state;
	fake_net_hold(fx->net, FAKE_GRANTED, true);
	for (unsigned i = 0; i <= FX_CLIENTS; i++) {
		c[i] = fx_connect(fx);
		id[i] = fx_send(c[i], fx_hello(c[i]));
	}
	fx_settle(fx);
	fake_net_hold(fx->net, FAKE_GRANTED, false);
	fx_net(fx);
	for (unsigned i = 0; i < FX_CLIENTS; i++)
		(void)fx_take_answer(c[i], CTL_WELCOME, id[i]);
	fx_take_refused(c[FX_CLIENTS], id[FX_CLIENTS], CTL_REASON_CLIENTS);
	for (unsigned i = 0; i <= FX_CLIENTS; i++)
		fx_client_free(c[i]);
	end(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(welcome__says_where_the_epoch_can_be_read),
		cmocka_unit_test(page__who_writes_it_is_thrown_out_and_others_notice_nothing),
		cmocka_unit_test(page__cannot_be_granted),
		cmocka_unit_test(page__is_not_granted_in_time),
		cmocka_unit_test(message__before_welcome),
		cmocka_unit_test(hello__too_many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
