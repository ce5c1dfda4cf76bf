/* SPDX-License-Identifier: MIT */
/* Both ini files through their loaders: a good one, and the line for everything that is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/daemon_config_file.h"
#include "nbd_server/server_config_file.h"

#define MIB (UINT64_C(1) << 20)

struct fixture {
	char dir[64];
	char ini[96];
	char psk[96];
	char line[2048];
	struct server_file_config server;
	struct daemon_file_config daemon;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/slabswap-conf-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->ini, sizeof(f->ini), "%s/x.ini", f->dir);
	(void)snprintf(f->psk, sizeof(f->psk), "%s/psk", f->dir);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlink(f->ini);
	(void)unlink(f->psk);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static void
file_write(const char *path, const char *text, size_t length, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), length);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
}

/* Loads a file of these bytes; what goes to standard error lands in f->line. */
static int
load_bytes(struct fixture *f, bool is_server, const char *text, size_t length)
{
	int saved, fds[2], r;
	ssize_t n;

	file_write(f->ini, text, length, 0644);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	saved = dup(STDERR_FILENO);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	(void)close(fds[1]);
	r = is_server ? server_file_config_load(f->ini, &f->server)
		      : daemon_file_config_load(f->ini, &f->daemon);
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	n = read(fds[0], f->line, sizeof(f->line) - 1);
	f->line[n > 0 ? n : 0] = '\0';
	(void)close(fds[0]);
	return r;
}

static int
load(struct fixture *f, bool is_server, const char *text)
{
	return load_bytes(f, is_server, text, strlen(text));
}

static void
check_good(struct fixture *f, bool is_server, const char *text)
{
	if (load(f, is_server, text) != 0)
		fail_msg("%s", f->line);
	assert_string_equal(f->line, "");
}

/* One line, and all of it: "<ini>: <expect>\n". */
static void
check_bad(struct fixture *f, bool is_server, int error, const char *text, const char *expect)
{
	char line[1024];

	assert_int_equal(load(f, is_server, text), error);
	(void)snprintf(line, sizeof(line), "%s: %s\n", f->ini, expect);
	assert_string_equal(f->line, line);
}

#define SERVER "[device]\nname = swap0\nsize = 1G\n[backup]\npath = /dev/vdb\n"
#define BARE "[device]\nname = a\nsize = 1G\n[backup]\npath = none\n"
#define DAEMON "[daemon]\nlisten = tcp:127.0.0.1:0\n[memory]\nmax = 1G\n"

static void
server__defaults(void **state)
{
	struct fixture *f = *state;
	struct server_file_config *c = &f->server;

	check_good(f, true, SERVER);
	assert_string_equal(c->name, "swap0");
	assert_int_equal(c->size_bytes, 1024 * MIB);
	assert_int_equal(c->slab_bytes, 64 * MIB);
	assert_int_equal(c->listen.count, 1);
	assert_string_equal(c->listen.item[0], "unix:/run/slabswap/swap0.sock");
	assert_string_equal(c->control, "/run/slabswap/swap0.ctl");
	assert_string_equal(c->export_name, "");
	assert_int_equal(c->max_connections, 8);
	assert_string_equal(c->backup_path, "/dev/vdb");
	assert_int_equal(c->ack, SERVER_ACK_REMOTE);
	assert_int_equal(c->fill, 0);
	assert_int_equal(c->delay_ms, 20);
	assert_int_equal(c->portals.count, 0);
	assert_int_equal(c->portals_max, 1);
	assert_int_equal(c->leave_timeout_ms, 30000);
	assert_int_equal(c->psk.length_bytes, 0);
	assert_int_equal(c->buffers_bytes, 64 * MIB);
	assert_int_equal(c->op_timeout_ms, 2000);
	assert_int_equal(c->hedge_ms, 50);
	assert_int_equal(c->probe_ms, 500);
	assert_int_equal(c->control_timeout_ms, 10000);
	assert_int_equal(c->connect_timeout_ms, 2000);
	assert_int_equal(c->ping_ms, 500);
	assert_int_equal(c->retry_ms, 500);
	assert_int_equal(c->retry_max_ms, 10000);
	assert_int_equal(c->refill_rate, 64 * MIB);
	assert_int_equal(c->migrate, 1);
	assert_int_equal(c->migrate_rate, 256 * MIB);
	assert_int_equal(c->hot_slab, 20);
	assert_int_equal(c->alpha_milli, 200);
	assert_int_equal(c->period_ms, 1000);
	assert_int_equal(c->cold_slab, 0);
	assert_int_equal(c->cold_periods, 5);
	assert_int_equal(c->choices, 2);
	assert_int_equal(c->query_timeout_ms, 2000);
	assert_int_equal(c->realtime, SERVER_REALTIME_AUTO);
	assert_int_equal(c->spin_us, 50);
	assert_int_equal(c->strict, 0);
}

static void
server__every_key(void **state)
{
	struct fixture *f = *state;
	struct server_file_config *c = &f->server;
	char text[1024];

	file_write(f->psk, "0123456789abcdef\n", strlen("0123456789abcdef\n"), 0600);
	(void)snprintf(text, sizeof(text),
		       "[device]\nname = a.b-c_1\nsize = 3M\nslab_size = 1M\n"
		       "[nbd]\nlisten = unix:/tmp/x.sock, tcp:127.0.0.1:10809, tcp:[::1]:0\n"
		       "export = e\ndescription = d d\ncontrol = /tmp/x.ctl\nmax_connections = 1\n"
		       "[backup]\npath = /b\nack = both\nfill = yes\ndelay_ms = 0\n"
		       "[daemons]\nportals = rdma:10.0.0.1:9400, shm:/run/d.sock\n"
		       "psk_file = %s\n"
		       "max_portals = 2\nleave_timeout_ms = 14\n"
		       "[activity]\nhot_slab = 3\nalpha = 0.05\nperiod_ms = 10\ncold_slab = 2\n"
		       "cold_periods = 1\n"
		       "[placement]\nchoices = 8\nquery_timeout_ms = 14\n"
		       "[limits]\nbuffers = 4M\nop_timeout_ms = 10\nconnect_timeout_ms = 11\n"
		       "ping_ms = 12\nretry_ms = 13\nretry_max_ms = 13\n"
		       "hedge_ms = 0\nprobe_ms = 12\ncontrol_timeout_ms = 0\n"
		       "refill_rate = 0\nrealtime = yes\nspin_us = off\nstrict = yes\n"
		       "[eviction]\nmigration = no\nmigrate_rate = 1M\n",
		       f->psk);
	check_good(f, true, text);
	assert_string_equal(c->name, "a.b-c_1");
	assert_int_equal(c->size_bytes, 3 * MIB);
	assert_int_equal(c->listen.count, 3);
	assert_string_equal(c->listen.item[2], "tcp:[::1]:0");
	assert_string_equal(c->description, "d d");
	assert_string_equal(c->control, "/tmp/x.ctl");
	assert_int_equal(c->ack, SERVER_ACK_BOTH);
	assert_int_equal(c->fill, 1);
	assert_int_equal(c->delay_ms, 0);
	assert_int_equal(c->portals.count, 2);
	assert_string_equal(c->portals.item[0], "rdma:10.0.0.1:9400");
	assert_int_equal(c->psk.length_bytes, 16);
	assert_memory_equal(c->psk.key, "0123456789abcdef", 16);
	assert_int_equal(c->portals_max, 2);
	assert_int_equal(c->leave_timeout_ms, 14);
	assert_int_equal(c->hot_slab, 3);
	assert_int_equal(c->cold_slab, 2);
	assert_int_equal(c->cold_periods, 1);
	assert_int_equal(c->alpha_milli, 50);
	assert_int_equal(c->period_ms, 10);
	assert_int_equal(c->choices, 8);
	assert_int_equal(c->query_timeout_ms, 14);
	assert_int_equal(c->retry_max_ms, 13);
	assert_int_equal(c->refill_rate, 0);
	assert_int_equal(c->migrate, 0);
	assert_int_equal(c->migrate_rate, MIB);
	assert_int_equal(c->hedge_ms, 0);
	assert_int_equal(c->probe_ms, 12);
	assert_int_equal(c->control_timeout_ms, 0);
	assert_int_equal(c->realtime, SERVER_REALTIME_YES);
	assert_int_equal(c->spin_us, 0);
	assert_int_equal(c->strict, 1);
}

static void
server__device(void **state)
{
	static const char *const names[] = {"-a", ".", "a/b", "a b", "\xc3\xa4"};
	char text[256], expect[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(text, sizeof(text),
			       "[device]\nname = %s\nsize = 1G\n[backup]\npath = /b\n", names[i]);
		(void)snprintf(expect, sizeof(expect),
			       "[device] name = %s: not a device name; allowed: 1 to 63 of A-Z a-z "
			       "0-9 . _ -, beginning with a letter or digit",
			       names[i]);
		check_bad(*state, true, -EINVAL, text, expect);
	}
	check_bad(*state, true, -EINVAL, "[device]\nname = a\nsize = 17X\n[backup]\npath = /b\n",
		  "[device] size = 17X: not a size; allowed: 1M to 64T, with unit K, M, G or T");
	check_bad(*state, true, -EINVAL,
		  "[device]\nname = a\nsize = 1G\nslab_size = 3M\n[backup]\npath = /b\n",
		  "[device] slab_size = 3M: not a power of two; allowed: 1M, 2M, 4M, ... 1G");
	check_bad(*state, true, -EINVAL,
		  "[device]\nname = a\nsize = 4G\nslab_size = 2G\n[backup]\npath = /b\n",
		  "[device] slab_size = 2G: too large; allowed: 1M to 1G, with unit K, M, G or T");
	check_bad(*state, true, -EINVAL, "[device]\nname = a\nsize = 65M\n[backup]\npath = /b\n",
		  "[device] size = 65M: not a multiple of slab_size (64M); allowed: a multiple of "
		  "64M");
	check_bad(*state, true, -EINVAL,
		  "[device]\nname = a\nsize = 1048577\nslab_size = 1M\n[backup]\npath = /b\n",
		  "[device] size = 1048577: not a multiple of slab_size (1M); allowed: a multiple "
		  "of 1M");
	check_bad(*state, true, -EINVAL, "[device]\nsize = 1G\n[backup]\npath = /b\n",
		  "[device] name: missing; allowed: 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a "
		  "letter or digit");
}

static void
server__later_keys_are_unknown(void **state)
{
	check_bad(*state, true, -EINVAL, SERVER "[limits]\nlatency = 64M\n",
		  "[limits] latency = 64M: unknown key; allowed: buffers, op_timeout_ms, "
		  "connect_timeout_ms, ping_ms, hedge_ms, probe_ms, control_timeout_ms, retry_ms, "
		  "retry_max_ms, refill_rate, realtime, spin_us or "
		  "strict");
	check_bad(
		*state, true, -EINVAL, SERVER "[compression]\nmethod = lz4\n",
		"[compression]: unknown section; allowed: device, nbd, backup, daemons, activity, "
		"placement, eviction or limits");
	check_bad(*state, true, -EINVAL, SERVER "[activity]\ncold_slab = 20\n",
		  "[activity] cold_slab = 20: not less than hot_slab (20); allowed: 0, or less "
		  "than hot_slab");
	check_good(*state, true, SERVER "[activity]\ncold_slab = 19\n");
	check_bad(*state, true, -EINVAL, SERVER "[placement]\nchoices = 9\n",
		  "[placement] choices = 9: too large; allowed: 1 to 8");
	check_bad(*state, true, -EINVAL, SERVER "[activity]\nalpha = 1.001\n",
		  "[activity] alpha = 1.001: too large; allowed: 0.001 to 1");
}

static void
server__listen(void **state)
{
	static const char *const bad[] = {
		"rdma:127.0.0.1:1", "127.0.0.1:1",	   "unix:x.sock", "tcp:localhost:1",
		"tcp:127.0.0.1",    "tcp:127.0.0.1:65536", "unix:"};
	char text[512], expect[512], path[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(text, sizeof(text), SERVER "[nbd]\nlisten = %s\n", bad[i]);
		(void)snprintf(expect, sizeof(expect),
			       "[nbd] listen = %s: %s is not such an address; allowed: 1 to 8 of "
			       "unix:/path, tcp:1.2.3.4:port, tcp:[v6]:port, with commas",
			       bad[i], bad[i]);
		check_bad(*state, true, -EINVAL, text, expect);
	}
	check_bad(*state, true, -EINVAL, SERVER "[nbd]\nlisten =\n",
		  "[nbd] listen = : empty; allowed: 1 to 8 of unix:/path, tcp:1.2.3.4:port, "
		  "tcp:[v6]:port, with commas");
	check_bad(*state, true, -EINVAL, SERVER "[nbd]\nlisten = unix:/x\ncontrol = /x\n",
		  "[nbd] control = /x: also in listen; allowed: a path that listen does not have");
	check_bad(*state, true, -EINVAL, SERVER "[nbd]\ncontrol = x\n",
		  "[nbd] control = x: not an absolute path; allowed: an absolute path of at most "
		  "107 bytes");
	memset(path, 'p', 108);
	path[0] = '/';
	path[107] = '\0'; /* 107 bytes fit */
	(void)snprintf(text, sizeof(text), SERVER "[nbd]\nlisten = unix:%s\n", path);
	check_good(*state, true, text);
	path[107] = 'p';
	path[108] = '\0';
	(void)snprintf(text, sizeof(text), SERVER "[nbd]\nlisten = unix:%s\n", path);
	assert_int_equal(load(*state, true, text), -EINVAL);
}

static void
server__portals(void **state)
{
	static const char *const bad[] = {
		"tcp:127.0.0.1:0", "dns:_slabswap._udp.a", "dns:a", "unix:/x",
		"rdma:host:9400",  "shm:d.sock",	   "shm:",  "rdma:10.0.0.1"};
	char text[512], expect[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(text, sizeof(text),
			       SERVER "[daemons]\nportals = tcp:10.0.0.1:1, %s\n", bad[i]);
		(void)snprintf(
			expect, sizeof(expect),
			"[daemons] portals = tcp:10.0.0.1:1, %s: %s is not such an address; "
			"allowed: up to 32 of rdma:1.2.3.4:port, tcp:1.2.3.4:port, "
			"tcp:[v6]:port (port 1 to 65535), shm:/path, dns:_slabswap._rdma.name, "
			"dns:_slabswap._tcp.name, with commas",
			bad[i], bad[i]);
		check_bad(*state, true, -EINVAL, text, expect);
	}
}

static void
server__dns(void **state)
{
	struct fixture *f = *state;

	check_good(f, true,
		   SERVER "[daemons]\nportals = dns:_slabswap._tcp.example.com, tcp:10.0.0.1:1\n"
			  "dns_servers = 127.0.0.1:53, [::1]:5353\n");
	assert_int_equal(f->server.portals_max, 66);
	assert_int_equal(f->server.dns_servers.count, 2);
	check_good(f, true, SERVER "[daemons]\nportals = dns:_x._rdma.a\nmax_portals = 3\n");
	assert_int_equal(f->server.portals_max, 3);
	check_bad(
		f, true, -EINVAL, SERVER "[daemons]\ndns_servers = 127.0.0.1\n",
		"[daemons] dns_servers = 127.0.0.1: 127.0.0.1 is not such an address; allowed: up "
		"to 8 of 1.2.3.4:port, [v6]:port, with commas");
	assert_int_equal(load(f, true,
			      SERVER "[daemons]\nportals = dns:_a._tcp.x, dns:_b._tcp.x, "
				     "dns:_c._tcp.x, dns:_d._tcp.x, dns:_e._tcp.x\n"),
			 -EINVAL);
	assert_non_null(strstr(f->line, "more than 4 dns: names; allowed: "));
}

static void
server__max_portals(void **state)
{
	struct fixture *f = *state;

	check_good(f, true, SERVER "[daemons]\nportals = tcp:10.0.0.1:1, tcp:10.0.0.2:1\n");
	assert_int_equal(f->server.portals_max, 3);
	check_bad(
		f, true, -EINVAL,
		SERVER "[daemons]\nportals = tcp:10.0.0.1:1, tcp:10.0.0.2:1\nmax_portals = 1\n",
		"[daemons] max_portals = 1: 2 are listed; allowed: 0, or the number of portals or "
		"more");
}

/* What a second reading finds changed, besides the portals. */
static void
server__diff(void **state)
{
	static const struct {
		const char *more, *expect;
	} cases[] = {
		{"[daemons]\nportals = tcp:10.0.0.2:1, tcp:10.0.0.3:1\n", ""},
		{"[limits]\nping_ms = 700\n[nbd]\nlisten = tcp:127.0.0.1:1\n",
		 "[nbd] listen, [limits] ping_ms"},
		{"[nbd]\nlisten = unix:/x, unix:/y\n", "[nbd] listen"},
		{"[nbd]\nexport = x\n[limits]\nbuffers = 8M\n", "[nbd] export, [limits] buffers"},
		{"[limits]\nstrict = yes\nrealtime = no\n", "[limits] realtime, [limits] strict"},
		{"[daemons]\nmax_portals = 7\n", "[daemons] max_portals"},
	};
	struct fixture *f = *state;
	struct server_file_config before;
	char text[512], changed[256];

	check_good(f, true, SERVER "[daemons]\nportals = tcp:10.0.0.1:1\n");
	before = f->server;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), SERVER "%s", cases[i].more);
		check_good(f, true, text);
		server_file_config_diff(&before, &f->server, changed, sizeof(changed));
		assert_string_equal(changed, cases[i].expect);
	}
	f->server = before;
	f->server.psk.length_bytes = 16; /* the file has the same name */
	server_file_config_diff(&before, &f->server, changed, sizeof(changed));
	assert_string_equal(changed, "[daemons] psk_file");
	server_file_config_diff(&before, &f->server, changed, 5); /* cut */
	assert_string_equal(changed, "[dae");
}

static void
server__backup_and_limits(void **state)
{
	check_good(*state, true, BARE);
	assert_false(server_file_has_backup(&((struct fixture *)*state)->server));
	check_bad(*state, true, -EINVAL, BARE "ack = both\n",
		  "[backup] ack = both: both needs a backup, and path = none; allowed: remote");
	check_bad(*state, true, -EINVAL, BARE "fill = yes\n",
		  "[backup] fill = yes: yes needs a backup, and path = none; allowed: no");
	check_bad(*state, true, -EINVAL, "[device]\nname = a\nsize = 1G\n[backup]\npath = b\n",
		  "[backup] path = b: not an absolute path; allowed: the absolute path of a "
		  "partition or file, or none");
	check_bad(*state, true, -EINVAL, "[device]\nname = a\nsize = 1G\n",
		  "[backup] path: missing; allowed: the absolute path of a partition or file, at "
		  "most 511 bytes");
	check_bad(*state, true, -EINVAL, SERVER "ack = local\n",
		  "[backup] ack = local: unknown word; allowed: remote or both");
	check_bad(*state, true, -EINVAL, SERVER "[limits]\nbuffers = 2M\n",
		  "[limits] buffers = 2M: too small; allowed: 4M to 4G, with unit K, M, G or T");
	check_bad(*state, true, -EINVAL, SERVER "[limits]\nop_timeout_ms = 9\n",
		  "[limits] op_timeout_ms = 9: too small; allowed: 10 to 60000 ms");
	check_bad(*state, true, -EINVAL, SERVER "[limits]\nretry_ms = 20\nretry_max_ms = 19\n",
		  "[limits] retry_max_ms = 19: less than retry_ms (20); allowed: retry_ms or more");
	/* the default of one key against the value of another */
	check_bad(*state, true, -EINVAL, SERVER "[limits]\nretry_ms = 20000\n",
		  "[limits] retry_max_ms = 10000: less than retry_ms (20000); allowed: retry_ms or "
		  "more");
}

static void
check_psk(struct fixture *f, bool is_server, int error, const char *path, const char *what)
{
	char text[512], expect[512];

	(void)snprintf(text, sizeof(text),
		       is_server ? SERVER "[daemons]\npsk_file = %s\n"
				 : "[memory]\nmax = 1G\n[daemon]\nlisten = "
				   "tcp:127.0.0.1:0\npsk_file = %s\n",
		       path);
	(void)snprintf(expect, sizeof(expect),
		       "[%s] psk_file = %s: %s; allowed: the absolute path of a file of 16 to 256 "
		       "bytes that only its owner can read (mode 0600)",
		       is_server ? "daemons" : "daemon", path, what);
	check_bad(f, is_server, error, text, expect);
}

static void
both__psk(void **state)
{
	struct fixture *f = *state;

	for (int is_server = 0; is_server < 2; is_server++) {
		(void)unlink(f->psk);
		check_psk(f, is_server, -EINVAL, "psk", "not an absolute path");
		check_psk(f, is_server, -ENOENT, f->psk, "cannot read: No such file or directory");
		file_write(f->psk, "0123456789abcdef", strlen("0123456789abcdef"), 0644);
		check_psk(f, is_server, -EACCES, f->psk, "open to group or others (mode 0644)");
		file_write(f->psk, "0123456789abcde\n", strlen("0123456789abcde\n"), 0600);
		check_psk(f, is_server, -EINVAL, f->psk, "key too short");
	}
}

static void
daemon__good(void **state)
{
	struct fixture *f = *state;
	struct daemon_file_config *c = &f->daemon;

	check_good(f, false, DAEMON);
	assert_int_equal(c->listen.count, 1);
	assert_int_equal(c->max_clients, 32);
	assert_int_equal(c->slab_bytes, 64 * MIB);
	assert_string_equal(c->control, "/run/slabswap/slabswapd.ctl");
	assert_int_equal(c->max_bytes, 1024 * MIB);
	assert_int_equal(c->max_per_client_bytes, 1024 * MIB);
	assert_true(c->headroom_bytes == UINT64_MAX);
	assert_int_equal(c->beta_milli, 200);
	assert_int_equal(c->period_ms, 1000);
	assert_int_equal(c->psi_limit, 10);
	assert_int_equal(c->huge_pages, 0);
	assert_int_equal(c->extra_choices, 2);
	assert_int_equal(c->evict_deadline_ms, 1500);
	assert_int_equal(c->stop_timeout_ms, 10000);
	check_good(f, false,
		   "[daemon]\nlisten = rdma:0.0.0.0:9400, shm:/run/d.sock\nmax_clients = 2\n"
		   "slab_size = 1M\n[memory]\nmax = 3M\nmax_per_client = 2M\nheadroom = 0\n"
		   "beta = 0.001\nperiod_ms = 10\npsi_limit = 100\nhuge_pages = "
		   "yes\n[eviction]\nextra_choices = 0\n"
		   "deadline_ms = 10\n");
	assert_int_equal(c->extra_choices, 0);
	assert_int_equal(c->evict_deadline_ms, 10);
	assert_int_equal(c->headroom_bytes, 0);
	assert_int_equal(c->beta_milli, 1);
	assert_int_equal(c->period_ms, 10);
	assert_int_equal(c->psi_limit, 100);
	assert_int_equal(c->huge_pages, 1);
	assert_int_equal(c->listen.count, 2);
	assert_int_equal(c->max_clients, 2);
	assert_int_equal(c->max_per_client_bytes, 2 * MIB);
}

static void
daemon__bad(void **state)
{
	check_bad(*state, false, -EINVAL, "[memory]\nmax = 1G\n",
		  "[daemon] listen: missing; allowed: 1 to 8 of rdma:1.2.3.4:port, "
		  "tcp:1.2.3.4:port, tcp:[v6]:port, shm:/path, with commas");
	check_bad(*state, false, -EINVAL, "[daemon]\nlisten = unix:/x\n[memory]\nmax = 1G\n",
		  "[daemon] listen = unix:/x: unix:/x is not such an address; allowed: 1 to 8 of "
		  "rdma:1.2.3.4:port, tcp:1.2.3.4:port, tcp:[v6]:port, shm:/path, with commas");
	check_bad(*state, false, -EINVAL, "[daemon]\nlisten = tcp:127.0.0.1:0\n",
		  "[memory] max: missing; allowed: 1M to 16T, with unit K, M, G or T");
	check_bad(*state, false, -EINVAL,
		  "[daemon]\nlisten = tcp:127.0.0.1:0\n[memory]\nmax = 65M\n",
		  "[memory] max = 65M: not a multiple of slab_size (64M); allowed: a multiple of "
		  "64M");
	check_bad(*state, false, -EINVAL, DAEMON "max_per_client = 100M\n",
		  "[memory] max_per_client = 100M: not a multiple of slab_size (64M); allowed: a "
		  "multiple of 64M");
	check_bad(*state, false, -EINVAL, DAEMON "max_per_client = 2G\n",
		  "[memory] max_per_client = 2G: more than max; allowed: max or less");
	check_bad(*state, false, -EINVAL, DAEMON "headroom = 17T\n",
		  "[memory] headroom = 17T: too large; allowed: 0 to 16T, with unit K, M, G or T");
	check_bad(*state, false, -EINVAL, DAEMON "beta = 1.5\n",
		  "[memory] beta = 1.5: too large; allowed: 0.001 to 1");
	check_bad(*state, false, -EINVAL, DAEMON "[eviction]\nextra_choices = 65\n",
		  "[eviction] extra_choices = 65: too large; allowed: 0 to 64");
	check_bad(*state, false, -EINVAL, DAEMON "[eviction]\ndeadline_ms = 9\n",
		  "[eviction] deadline_ms = 9: too small; allowed: 10 to 60000 ms");
	check_bad(*state, false, -EINVAL, DAEMON "psi_limit = 0\n",
		  "[memory] psi_limit = 0: too small; allowed: 1 to 100 %");
	check_bad(*state, false, -EINVAL,
		  "[daemon]\nlisten = tcp:127.0.0.1:0\nmax_clients = 0\n[memory]\nmax = 1G\n",
		  "[daemon] max_clients = 0: too small; allowed: 1 to 1024");
	check_bad(*state, false, -EINVAL,
		  "[daemon]\nlisten = tcp:127.0.0.1:0\nslab_size = 48M\n[memory]\nmax = 1G\n",
		  "[daemon] slab_size = 48M: not a power of two; allowed: 1M, 2M, 4M, ... 1G");
}

/* Whatever bytes are changed, left out or doubled: loaded, or refused with one line. */
static void
both__mutated(void **state)
{
	static const char server[] =
		"[device]\nname = swap0 ; c\nsize = 1G\nslab_size = 64M\n[nbd]\nlisten = "
		"unix:/a, tcp:[::1]:0\ndescription = \"a ; b\"\n[backup]\npath = /b\n[daemons]\n"
		"portals = rdma:10.0.0.1:1, tcp:[fe80::1%1]:2\n[limits]\nretry_ms = 20\n";
	static const char bytes[] = "\n\0 \t=[];#\"'\\,:/%019KMGTx\xff\r-.";
	struct fixture *f = *state;
	uint64_t seed = 42;
	unsigned int good = 0;

	for (int i = 0; i < 3000; i++) {
		char text[2 * sizeof(server)];
		size_t length = sizeof(server) - 1;

		memcpy(text, server, sizeof(server));
		for (int n = 1 + i % 3; n > 0; n--) {
			size_t at, count;

			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			at = (size_t)(seed >> 33) % length;
			count = 1 + (size_t)(seed >> 20) % 9;
			if (count > length - at)
				count = length - at;
			switch (seed >> 60 & 3) {
			case 0: /* double a piece */
				if (length + count >= sizeof(text))
					break;
				memmove(text + at + count, text + at, length - at);
				length += count;
				break;
			case 1: /* leave a piece out */
				memmove(text + at, text + at + count, length - at - count);
				length -= count;
				break;
			default:
				text[at] = bytes[(seed >> 40) % (sizeof(bytes) - 1)];
				break;
			}
		}
		if (load_bytes(f, true, text, length) == 0) {
			good++;
			assert_string_equal(f->line, "");
		} else {
			assert_memory_equal(f->line, f->ini, strlen(f->ini));
			assert_ptr_equal(strchr(f->line, '\n'), f->line + strlen(f->line) - 1);
		}
	}
	assert_in_range(good, 30, 2970); /* both kinds were there */
}

static void
journal__prefix(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(setenv("JOURNAL_STREAM", "1:2", 1), 0);
	assert_int_equal(load(f, false, "[x]\n"), -EINVAL);
	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	assert_memory_equal(f->line, "<3>/tmp/", 8);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(server__defaults), TEST(server__every_key),
		TEST(server__device),	TEST(server__later_keys_are_unknown),
		TEST(server__listen),	TEST(server__portals),
		TEST(server__dns),	TEST(server__max_portals),
		TEST(server__diff),	TEST(server__backup_and_limits),
		TEST(both__psk),	TEST(daemon__good),
		TEST(daemon__bad),	TEST(both__mutated),
		TEST(journal__prefix),
	};

	(void)unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
