/* SPDX-License-Identifier: MIT */
/*
 * slabswapd - lends this machine's memory to slabswap-nbd of other machines.
 *
 * Joins the daemon core to its transports, its memory and the loop.  Start:
 * worker, transports, memory, core, listeners, control socket, READY; the pool
 * fills in the background.  SIGTERM: listeners closed, then the core (slabs asked
 * back, clients, memory), then the transports, then the loop ends; a second
 * signal skips the asking, a deadline ends the process when that does not get through.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <ev.h>

#include "common/cli.h"
#include "common/list.h"
#include "common/log.h"
#include "common/log_ring.h"
#include "common/page.h"
#include "daemon/daemon.h"
#include "daemon/daemon_config_file.h"
#include "daemon/status_json.h"
#include "loop/clock.h"
#include "loop/control.h"
#include "loop/core_driver.h"
#include "loop/epoch_page.h"
#include "loop/host_limits.h"
#include "loop/host_memory.h"
#include "loop/notify.h"
#include "loop/signals.h"
#include "loop/slab_memory_host.h"
#include "loop/spin.h"
#include "loop/worker.h"
#include "programs/host_needs.h"
#include "programs/transports.h"
#include "transport/transport.h"

#define HELLO_TIMEOUT_NS (5 * NSEC_PER_SEC)
#define CLIENT_TIMEOUT_NS (15 * NSEC_PER_SEC)
/* A stop that takes longer, after the drain, is ended by force; systemd would wait a minute. */
#define STOP_DEADLINE_S 15.0
/* As if half of the machine's memory were not its own (proc(5)). */
#define OOM_SCORE_ADJ (-500)
/* Lines about peers that were not served, per second; the others are counted. */
#define REJECTED_LINES_PER_S 10u

struct app {
	struct daemon_file_config file;
	uint64_t started_ns;
	struct ev_loop *loop;
	struct signals signals;
	ev_timer stop_deadline;
	ev_timer memory_timer;
	struct host_memory host_memory;
	bool memory_failed; /* it cannot be read; has been said */
	struct worker *worker;
	struct transports transports;
	struct slab_memory *memory;
	struct epoch_page *epoch_page;
	struct daemon *daemon;
	struct core_driver driver;
	struct spin spin;
	bool is_driven;
	struct control *control;
	struct tp_listener *listeners[INI_LIST_MAX];
	bool is_stopping;
	bool is_hurried;     /* stops without waiting for the clients */
	bool is_over;	     /* nothing is left to wait for */
	bool status_changed; /* systemd has not been told */
	uint64_t rejected_second;
	uint32_t rejected_lines;
	uint64_t rejected_unsaid;
};

/* --- what the core has to say --- */

static void
log_rejected(struct app *app, const char *text)
{
	const uint64_t second = clock_now_ns() / NSEC_PER_SEC;

	if (second != app->rejected_second) {
		app->rejected_second = second;
		app->rejected_lines = 0;
		if (app->rejected_unsaid > 0)
			log_warn("%" PRIu64 " more connections were not served",
				 app->rejected_unsaid);
		app->rejected_unsaid = 0;
	}
	if (app->rejected_lines++ < REJECTED_LINES_PER_S)
		log_warn("%s", text);
	else
		app->rejected_unsaid++;
}

static void
event_cb(void *arg, enum daemon_event event, const char *text)
{
	struct app *app = arg;

	app->status_changed = true;
	switch (event) {
	case DAEMON_EVENT_JOINED:
	case DAEMON_EVENT_LEFT:
	case DAEMON_EVENT_POOL_READY:
	case DAEMON_EVENT_RELIEVED:
	case DAEMON_EVENT_EVICTION:
		log_notice("%s", text);
		break;
	case DAEMON_EVENT_REJECTED:
		log_rejected(app, text);
		break;
	case DAEMON_EVENT_MEMORY_FAILED:
	case DAEMON_EVENT_SHORT:
	case DAEMON_EVENT_MISBEHAVED:
		log_warn("%s", text);
		break;
	}
}

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	(void)arg;
	/* Fails only for more than 256 bytes or on kernels without getrandom(). */
	if (getentropy(buf, length_bytes) < 0) {
		log_error("no random numbers: %s", strerror(errno));
		abort();
	}
}

static void
format_status(const struct app *app, char *buf, size_t size)
{
	struct daemon_stats stats;

	daemon_get_stats(app->daemon, &stats);
	(void)snprintf(buf, size, "%u clients; %u slabs lent, %u free, of %u", stats.clients,
		       stats.slabs_mapped, stats.slabs_free, stats.slabs_max);
}

static uint64_t
advance_cb(void *core, uint64_t now_ns)
{
	struct app *app = core;
	const uint64_t next_ns = daemon_advance(app->daemon, now_ns);
	char status[128];

	if (app->status_changed && !app->is_stopping) {
		app->status_changed = false;
		format_status(app, status, sizeof(status));
		notify_status(status);
	}
	return next_ns;
}

/* What the host has, once a period. */
static void
memory_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct app *app = container_of(w, struct app, memory_timer);
	struct host_memory_sample sample;
	const int r = host_memory_read(&app->host_memory, &sample);

	(void)loop;
	(void)revents;
	if (r < 0) {
		if (!app->memory_failed)
			log_warn("cannot read what memory is available: %s; the headroom is not "
				 "kept",
				 strerror(-r));
		app->memory_failed = true;
		return;
	}
	app->memory_failed = false;
	daemon_host_memory(app->daemon, &(struct daemon_memory){
						.total_bytes = sample.total_bytes,
						.available_bytes = sample.available_bytes,
						.psi_centi = sample.psi_centi,
					});
}

static size_t
status_cb(void *arg, char *buf, size_t size)
{
	struct app *app = arg;
	struct spin_stats spin;

	spin_get_stats(&app->spin, &spin);
	return status_json(app->daemon, app->file.slab_bytes, clock_now_ns() - app->started_ns,
			   &spin, buf, size);
}

/* --- the end --- */

static void
close_listeners(struct app *app)
{
	for (uint32_t i = 0; i < app->file.listen.count; i++) {
		if (app->listeners[i])
			tp_listener_close(app->listeners[i]);
		app->listeners[i] = NULL;
	}
}

static void
transports_stopped_cb(void *arg)
{
	struct app *app = arg;

	app->is_over = true;
	ev_break(app->loop, EVBREAK_ALL);
}

static void
daemon_stopped_cb(void *arg)
{
	struct app *app = arg;

	transports_stop(&app->transports, transports_stopped_cb, app);
}

static void
stop_deadline_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
	log_error("the stop takes too long, giving up");
	log_ring_stop();
	_exit(EXIT_FAILURE);
}

static void
begin_stop(struct app *app)
{
	app->is_stopping = true;
	close_listeners(app);
	ev_timer_init(&app->stop_deadline, stop_deadline_cb,
		      app->file.stop_timeout_ms / 1000.0 + STOP_DEADLINE_S, 0.0);
	ev_timer_start(app->loop, &app->stop_deadline);
	if (app->is_driven)
		daemon_drain(app->daemon, app->file.stop_timeout_ms * NSEC_PER_MSEC,
			     daemon_stopped_cb, app);
	else
		transports_stop(&app->transports, transports_stopped_cb, app);
}

static void
stop_cb(void *arg, int signal_number)
{
	struct app *app = arg;

	if (app->is_stopping) {
		if (app->is_driven && !app->is_hurried) {
			log_notice("stopping at once: %s", strsignal(signal_number));
			app->is_hurried = true;
			daemon_stop(app->daemon, daemon_stopped_cb, app);
		}
		return;
	}
	log_notice("stopping: %s", strsignal(signal_number));
	notify_stopping();
	begin_stop(app);
}

static void
app_free(struct app *app)
{
	struct daemon_stats stats = {0};

	ev_timer_stop(app->loop, &app->stop_deadline);
	ev_timer_stop(app->loop, &app->memory_timer);
	spin_stop(&app->spin);
	if (app->is_driven)
		core_driver_stop(&app->driver);
	app->control = control_free(app->control);
	if (app->daemon)
		daemon_get_stats(app->daemon, &stats);
	app->daemon = daemon_free(app->daemon);
	app->worker = worker_free(app->worker);
	app->memory = slab_memory_host_free(app->memory);
	app->epoch_page = epoch_page_free(app->epoch_page);
	/* Lost slabs are still registered: the end of the process has to do. */
	if (stats.slabs_lost == 0)
		transports_free(&app->transports);
	signals_stop(&app->signals);
	ev_loop_destroy(app->loop);
}

/* --- the start --- */

static int
start_transports(struct app *app)
{
	for (uint32_t i = 0; i < app->file.listen.count; i++) {
		const char *rest;
		struct tp *tp;
		const int r = transports_get(&app->transports, app->loop, app->file.listen.item[i],
					     &tp, &rest);

		if (r < 0)
			return r;
	}
	return 0;
}

static int
start_listeners(struct app *app)
{
	char bound[TP_NAME_BYTES_MAX];

	for (uint32_t i = 0; i < app->file.listen.count; i++) {
		const char *address = app->file.listen.item[i];
		const char *rest;
		struct tp *tp;
		int r = transports_get(&app->transports, app->loop, address, &tp, &rest);

		if (r < 0)
			return r;
		r = tp_listen(tp, rest, daemon_incoming, app->daemon, &app->listeners[i]);
		if (r < 0)
			return log_err_errno(-r, "cannot listen at %s", address);
		tp_listener_address(app->listeners[i], bound, sizeof(bound));
		log_notice("listening at %s", bound);
	}
	return 0;
}

static void
warn_of_limits(const struct app *app)
{
	const uint64_t memory_bytes = host_limits_memory_bytes();
	const uint64_t lock_bytes = host_limits_lock_bytes();
	const uint64_t max_mib = app->file.max_bytes >> 20;

	if (memory_bytes > 0 && app->file.max_bytes > memory_bytes)
		log_warn("memory.max is %" PRIu64 " MiB, this machine has %" PRIu64 " MiB", max_mib,
			 memory_bytes >> 20);
	if (app->file.max_bytes > lock_bytes)
		log_warn("memory.max is %" PRIu64 " MiB, this process may lock %" PRIu64
			 " KiB (RLIMIT_MEMLOCK): slabs can be swapped out, rdma cannot register",
			 max_mib, lock_bytes >> 10);
	/* With a limit MCL_FUTURE would make the slabs' own mappings fail. */
	if (lock_bytes == UINT64_MAX && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_warn("cannot lock this process into memory: %s", strerror(errno));
}

/*
 * Lent memory is worth less than this machine's own programs, which is why the daemon
 * can be killed at all; but a large process that only waits must not be what every
 * shortage takes first.  What the service manager has set stays.
 */
static void
set_oom_score(void)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "re+");
	int score = 0;

	if (f && fscanf(f, "%d", &score) == 1 && score != 0) {
		(void)fclose(f);
		return;
	}
	if (f)
		rewind(f);
	if (!f || fprintf(f, "%d", OOM_SCORE_ADJ) < 0 || fflush(f) != 0)
		log_warn(
			"oom_score_adj: %s: the OOM killer takes this program for the largest; set "
			"OOMScoreAdjust=%d or give it CAP_SYS_RESOURCE",
			strerror(errno), OOM_SCORE_ADJ);
	if (f)
		(void)fclose(f);
}

static void
warn_of_cycle(void)
{
	char device[32];

	if (host_needs_swaps_to_nbd("/proc/swaps", device, sizeof(device)))
		log_warn("this machine swaps to %s: if the memory behind it is lent by a machine "
			 "that swaps to this one, both can hang; let no two machines swap to each "
			 "other",
			 device);
}

static int
start_core(struct app *app)
{
	const struct daemon_file_config *file = &app->file;
	struct daemon_config config = {
		.slab_bytes = file->slab_bytes,
		.max_slabs = (uint32_t)(file->max_bytes / file->slab_bytes),
		.max_slabs_client = (uint32_t)(file->max_per_client_bytes / file->slab_bytes),
		.headroom_bytes = file->headroom_bytes,
		.beta_milli = file->beta_milli,
		.psi_limit_centi = file->psi_limit * 100,
		.extra_choices = file->extra_choices,
		.evict_deadline_ns = file->evict_deadline_ms * NSEC_PER_MSEC,
		.max_clients = file->max_clients,
		.hello_timeout_ns = HELLO_TIMEOUT_NS,
		.client_timeout_ns = CLIENT_TIMEOUT_NS,
		.psk = file->psk,
		.epoch_region = epoch_page_region,
		.entropy = entropy_cb,
		.event = event_cb,
		.event_arg = app,
	};
	struct tp *tps[TRANSPORT_KINDS];
	size_t tp_count = 0;
	int r;

	for (unsigned i = 0; i < TRANSPORT_KINDS; i++) {
		if (app->transports.tps[i])
			tps[tp_count++] = app->transports.tps[i];
	}
	entropy_cb(NULL, &config.epoch, sizeof(config.epoch));
	entropy_cb(NULL, &config.seed, sizeof(config.seed));
	r = slab_memory_host_new(app->worker, file->slab_bytes, config.max_slabs, tps, tp_count,
				 &app->memory);
	if (r == 0)
		r = epoch_page_new(config.epoch, tps, tp_count, &app->epoch_page);
	config.epoch_region_arg = app->epoch_page;
	if (r == 0 && file->huge_pages)
		slab_memory_host_use_huge_pages(app->memory);
	if (r == 0)
		r = daemon_new(&config, app->memory, &app->daemon);
	explicit_bzero(&config.psk, sizeof(config.psk));
	explicit_bzero(&app->file.psk, sizeof(app->file.psk));
	if (r < 0)
		return log_err_errno(-r, "cannot set up %u slabs", config.max_slabs);
	return 0;
}

static void
start_memory_watch(struct app *app)
{
	const double period_s = app->file.period_ms / 1000.0;

	host_memory_init(&app->host_memory, "");
	ev_timer_set(&app->memory_timer, period_s, period_s);
	ev_timer_start(app->loop, &app->memory_timer);
	memory_cb(app->loop, &app->memory_timer, 0);
}

static int
start(struct app *app)
{
	char status[128];
	int r;

	warn_of_limits(app);
	warn_of_cycle();
	set_oom_score();
	host_limits_raise_files();
	r = log_ring_start();
	if (r < 0)
		return log_err_errno(-r, "cannot start the thread of the log");
	r = worker_new(app->loop, &app->worker);
	if (r < 0)
		return log_err_errno(-r, "cannot start the helper thread");
	r = start_transports(app);
	if (r < 0)
		return r;
	r = start_core(app);
	if (r < 0)
		return r;
	/* Before the pool begins to fill. */
	start_memory_watch(app);
	core_driver_start(&app->driver, app->loop, NULL, advance_cb, app);
	app->is_driven = true;
	spin_start(&app->spin, app->loop, app->file.spin_us);
	r = start_listeners(app);
	if (r < 0)
		return r;
	r = control_new(app->loop, app->file.control, status_cb, app, &app->control);
	if (r < 0)
		return r;
	log_notice("slabswapd " SLABSWAP_VERSION ": lending up to %" PRIu64 " slabs of %" PRIu64
		   " MiB",
		   app->file.max_bytes / app->file.slab_bytes, app->file.slab_bytes >> 20);
	format_status(app, status, sizeof(status));
	notify_ready(status);
	return 0;
}

static int
run(struct app *app)
{
	int r;

	app->started_ns = clock_now_ns();
	app->loop = ev_default_loop(EVFLAG_AUTO);
	if (!app->loop) {
		log_error("no event loop");
		return EXIT_FAILURE;
	}
	ev_init(&app->stop_deadline, stop_deadline_cb);
	ev_init(&app->memory_timer, memory_cb);
	signals_start(&app->signals, app->loop, stop_cb, app);
	r = start(app);
	if (r < 0)
		begin_stop(app);
	if (!app->is_over)
		(void)ev_run(app->loop, 0);
	app_free(app);
	if (r == 0)
		log_notice("stopped");
	log_ring_stop();
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
	struct app *app;
	struct cli cli;
	int status;

	if (!cli_parse(argc, argv, "Lends this machine's memory to slabswap-nbd.", 0, &cli,
		       &status))
		return status;
	app = calloc(1, sizeof(*app));
	if (!app) {
		log_error("cannot start: %s", strerror(ENOMEM));
		return EXIT_FAILURE;
	}
	if (daemon_file_config_load(cli.config_path, &app->file) < 0 ||
	    transports_check(cli.config_path, "[daemon] listen", &app->file.listen) < 0)
		status = CLI_EXIT_USAGE;
	else
		status = cli.is_check ? EXIT_SUCCESS : run(app);
	explicit_bzero(app, sizeof(*app));
	free(app);
	return status;
}
