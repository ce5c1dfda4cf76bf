/* SPDX-License-Identifier: MIT */
/*
 * slabswap-nbd: joins the device core, the NBD server, the backup and the
 * transports on one loop.
 *
 * Start: configuration -> transports -> arena -> backup -> device -> NBD -> READY.
 * SIGHUP: the configuration is read again by another thread -> portals.
 * Stop (SIGTERM, SIGINT): NBD finishes what it accepted -> the device brings
 * everything to the backup and leaves its daemons -> transports -> exit 0.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <ev.h>

#include "backup/uring_backup.h"
#include "common/cli.h"
#include "common/log.h"
#include "common/log_ring.h"
#include "common/page.h"
#include "common/size.h"
#include "loop/clock.h"
#include "loop/control.h"
#include "loop/core_driver.h"
#include "loop/loop_reserve.h"
#include "loop/notify.h"
#include "loop/signals.h"
#include "loop/spin.h"
#include "loop/turn_clock.h"
#include "nbd_server/server.h"
#include "nbd_server/server_config_file.h"
#include "programs/doctor.h"
#include "programs/host_needs.h"
#include "programs/latency_report.h"
#include "programs/portals.h"
#include "programs/realtime.h"
#include "programs/reload.h"
#include "programs/server_memory.h"
#include "programs/status_report.h"
#include "programs/swap_safety.h"
#include "programs/transports.h"
#include "slab/device.h"

#define BACKUP_DEPTH 256u
/* Of these, for pages that are written: enough for any disk, and others can still be taken back. */
#define BACKUP_WRITES 128u
#define HOLD_BYTES_MAX (UINT64_C(8) << 20)
/* Watchers and descriptors of everything but NBD connections, and of each portal: two sessions. */
#define WATCHERS 64u
#define WATCHERS_PORTAL 8u

struct app {
	const char *config_path;
	struct server_file_config config;
	struct swap_safety safety;
	struct realtime realtime;
	struct ev_loop *loop;
	struct turn_clock clock;
	struct transports transports;
	struct portals portals;
	struct reload reload;
	void *arena;
	size_t arena_bytes;
	struct uring_backup *backup; /* NULL: none */
	struct slab_device *device;
	struct nbds_server *nbd;
	struct control *control;
	struct core_driver driver;
	struct spin spin;
	struct signals signals;
	uint64_t started_ns;
	bool is_stopping;
	int exit_status;
};

static void
device_event_cb(void *arg, enum slab_event_level level, const char *text)
{
	static const enum log_level levels[] = {
		[SLAB_EVENT_ERROR] = LOG_LEVEL_ERROR,
		[SLAB_EVENT_WARN] = LOG_LEVEL_WARN,
		[SLAB_EVENT_NOTICE] = LOG_LEVEL_NOTICE,
		[SLAB_EVENT_DEBUG] = LOG_LEVEL_DEBUG,
	};
	const struct app *app = arg;

	log_line(levels[level], "device %s: %s", app->config.name, text);
}

static void
entropy_cb(void *arg, void *buf, uint32_t length_bytes)
{
	(void)arg;
	if (getrandom(buf, length_bytes, 0) != (ssize_t)length_bytes) {
		/* At most 256 bytes never fail (getrandom(2)). */
		log_error("getrandom: %s", strerror(errno));
		abort();
	}
}

static struct status_source
status_source_of(const struct app *app)
{
	return (struct status_source){
		.config = &app->config,
		.device = app->device,
		.nbd = app->nbd,
		.backup = app->backup,
		.realtime = &app->realtime,
		.spin = &app->spin,
		.dns = app->portals.dns,
		.uptime_ns = clock_now_ns() - app->started_ns,
	};
}

static size_t
status_cb(void *arg, char *buf, size_t size)
{
	const struct status_source source = status_source_of(arg);

	return status_report_write(&source, buf, size);
}

static size_t
latency_cb(void *arg, char *buf, size_t size)
{
	const struct status_source source = status_source_of(arg);

	return latency_report_table(&source, buf, size);
}

static uint64_t
now_cb(void *arg)
{
	struct app *app = arg;

	return turn_clock_now(&app->clock);
}

static uint64_t
advance_cb(void *core, uint64_t now_ns)
{
	return slab_device_advance(core, now_ns);
}

static void
transports_stopped_cb(void *arg)
{
	struct app *app = arg;

	ev_break(app->loop, EVBREAK_ALL);
}

static void
device_stopped_cb(void *arg, int status)
{
	struct app *app = arg;

	if (status < 0)
		app->exit_status = EXIT_FAILURE;
	transports_stop(&app->transports, transports_stopped_cb, app);
}

static void
nbd_stopped_cb(void *arg)
{
	struct app *app = arg;

	slab_device_stop(app->device, device_stopped_cb, app);
}

static void
stop_cb(void *arg, int signal_number)
{
	struct app *app = arg;

	if (app->is_stopping)
		return;
	app->is_stopping = true;
	log_notice("device %s: stopping: %s", app->config.name, strsignal(signal_number));
	notify_stopping();
	portals_stop(&app->portals);
	nbds_server_stop(app->nbd, nbd_stopped_cb, app);
}

static void
reload_cb(void *arg)
{
	struct app *app = arg;

	if (!app->is_stopping)
		reload_request(&app->reload);
}

/* Only portals take effect; what else has changed needs a restart. */
static void
reloaded_cb(void *arg, int status, const struct server_file_config *fresh)
{
	struct app *app = arg;
	const char *name = app->config.name;
	char changed[512];

	if (app->is_stopping)
		return;
	if (status < 0 || portals_change(&app->portals, &fresh->portals) < 0) {
		log_warn("device %s: SIGHUP: %s is not good: the portals stay as they were", name,
			 app->reload.path);
		return;
	}
	log_notice("device %s: SIGHUP: %u portals", name, fresh->portals.count);
	server_file_config_diff(&app->config, fresh, changed, sizeof(changed));
	if (changed[0] != '\0')
		log_warn("device %s: SIGHUP: changed as well, takes a restart: %s", name, changed);
}

/* Fills @dc from the file; portals and their transports too. */
static int
device_configure(struct app *app, struct slab_device_config *dc)
{
	const struct server_file_config *c = &app->config;
	int r;

	r = portals_init(&app->portals, app->loop, &app->transports, c);
	if (r < 0)
		return r;
	*dc = (struct slab_device_config){
		.size_bytes = c->size_bytes,
		.slab_bytes = c->slab_bytes,
		.buffer_bytes = c->buffers_bytes,
		.ack = c->ack == SERVER_ACK_BOTH ? SLAB_ACK_BOTH : SLAB_ACK_REMOTE,
		.op_timeout_ns = c->op_timeout_ms * NSEC_PER_MSEC,
		.connect_timeout_ns = c->connect_timeout_ms * NSEC_PER_MSEC,
		.ping_ns = c->ping_ms * NSEC_PER_MSEC,
		.retry_ns = c->retry_ms * NSEC_PER_MSEC,
		.retry_max_ns = c->retry_max_ms * NSEC_PER_MSEC,
		.hedge_ns = c->hedge_ms * NSEC_PER_MSEC,
		.probe_ns = c->probe_ms * NSEC_PER_MSEC,
		.control_timeout_ns = c->control_timeout_ms * NSEC_PER_MSEC,
		.refill_rate = c->refill_rate,
		.migrate = c->migrate != 0,
		.migrate_rate = c->migrate_rate,
		.hot_slab = c->hot_slab,
		.alpha = c->alpha_milli / 1000.0,
		.cold_slab = c->cold_slab,
		.cold_periods = c->cold_periods,
		.choices = c->choices,
		.query_timeout_ns = c->query_timeout_ms * NSEC_PER_MSEC,
		.backup_writes = BACKUP_WRITES,
		.backup_delay_ns = c->delay_ms * NSEC_PER_MSEC,
		.period_ns = c->period_ms * NSEC_PER_MSEC,
		.name = c->name,
		.psk = c->psk,
		.portals = app->portals.list,
		.n_portals = app->portals.count,
		.max_portals = c->portals_max,
		.leave_timeout_ns = c->leave_timeout_ms * NSEC_PER_MSEC,
		.entropy = entropy_cb,
		.event = device_event_cb,
		.now = now_cb,
		.arg = app,
	};
	entropy_cb(NULL, dc->client_id, sizeof(dc->client_id));
	return 0;
}

/* NULL with errno. */
static void *
arena_map(size_t length_bytes)
{
	void *arena = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return arena == MAP_FAILED ? NULL : arena;
}

static void
warn_of_backup(const struct server_file_config *c, const struct uring_backup_info *info)
{
	if (!info->is_direct)
		log_warn("backup %s has no O_DIRECT: each write needs memory of the page cache, "
			 "swapping to it will hang; give swap a raw partition or disk",
			 info->path);
	else if (!info->is_block_device && !c->fill)
		log_warn("backup %s is a file: fine for a file system on the device, but swapping "
			 "to it can hang; give swap a raw partition or disk, or set [backup] "
			 "fill = yes",
			 info->path);
	else if (!info->is_block_device)
		log_warn("backup %s is a file: swapping to it is slower and less safe than to a "
			 "raw partition or disk; limit the memory of programs (MemoryMax=)",
			 info->path);
}

static int
backup_open(struct app *app)
{
	const struct uring_backup_config bc = {
		.path = app->config.backup_path,
		.clock = &app->clock,
		.size_bytes = app->config.size_bytes,
		.area = app->arena,
		.area_bytes = app->arena_bytes,
		.is_filled = app->config.fill,
		.depth = BACKUP_DEPTH,
	};
	struct uring_backup_info info;
	int r;

	if (!server_file_has_backup(&app->config)) {
		log_warn("device %s has no backup: every page that a daemon has is lost with it, "
			 "and "
			 "all of them when this server stops; swapping to it can kill any program; "
			 "[backup] path = a partition or disk",
			 app->config.name);
		return 0;
	}
	r = uring_backup_open(app->loop, &bc, &app->backup);
	if (r < 0)
		return r;
	uring_backup_info(app->backup, &info);
	warn_of_backup(&app->config, &info);
	return 0;
}

static int
device_open(struct app *app)
{
	struct slab_device_config dc;
	int r = device_configure(app, &dc);

	if (r < 0)
		return r;
	app->arena_bytes = slab_device_arena_bytes(&dc);
	app->arena = arena_map(app->arena_bytes);
	if (!app->arena)
		return log_err_errno(errno, "cannot get %zu bytes for page map and buffers",
				     app->arena_bytes);
	dc.arena = app->arena;
	r = backup_open(app);
	if (r < 0)
		return r;
	r = slab_device_new(&dc, app->backup ? uring_backup_as_backup(app->backup) : NULL,
			    &app->device);
	if (r < 0)
		return log_err_errno(-r, "cannot set up device %s", app->config.name);
	return 0;
}

static uint64_t
hold_bytes(const struct server_file_config *c)
{
	const uint64_t share = c->buffers_bytes / c->max_connections / 2;

	if (share < NBDS_HOLD_BYTES_MIN)
		return NBDS_HOLD_BYTES_MIN;
	return share < HOLD_BYTES_MAX ? share : HOLD_BYTES_MAX;
}

static int
nbd_open(struct app *app)
{
	const struct nbds_config nc = {
		.export_name = app->config.export_name,
		.description = app->config.description,
		.max_connections = app->config.max_connections,
		.hold_bytes_max = hold_bytes(&app->config),
		.clock = &app->clock,
	};
	int first_fd, n_fds, r;

	r = nbds_server_new(app->loop, slab_device_backend(app->device), &nc, &app->nbd);
	if (r < 0)
		return log_err_errno(-r, "cannot set up the NBD server");
	n_fds = notify_listen_fds(&first_fd);
	for (int i = 0; i < n_fds; i++) {
		r = nbds_server_add_listen_fd(app->nbd, first_fd + i);
		if (r < 0)
			return log_err_errno(-r, "cannot use socket %d of LISTEN_FDS",
					     first_fd + i);
	}
	/* Sockets that the service manager hands over stand for those of the file. */
	for (uint32_t i = 0; n_fds == 0 && i < app->config.listen.count; i++) {
		r = nbds_server_listen(app->nbd, app->config.listen.item[i]);
		if (r < 0)
			return r;
	}
	if (app->config.control[0] == '\0')
		return 0;
	r = control_new(app->loop, app->config.control, status_cb, app, &app->control);
	if (r == 0)
		control_add(app->control, "latency", latency_cb);
	return r;
}

static int
log_open(void)
{
	const int r = log_ring_start();

	return r < 0 ? log_err_errno(-r, "cannot start the thread of the log") : 0;
}

static void
say_ready(const struct app *app)
{
	const char *address;
	char size[SIZE_TEXT_BYTES], slab[SIZE_TEXT_BYTES], status[1024];

	size_format(app->config.size_bytes, size);
	size_format(app->config.slab_bytes, slab);
	for (size_t i = 0; (address = nbds_server_address(app->nbd, i)) != NULL; i++)
		log_notice("device %s: listening at %s", app->config.name, address);
	(void)snprintf(status, sizeof(status), "%s in slabs of %s, %u portals, backup %s", size,
		       slab, app->config.portals.count, app->config.backup_path);
	log_notice("device %s: slabswap-nbd %s ready: %s", app->config.name, SLABSWAP_VERSION,
		   status);
	notify_ready(status);
}

static void
app_close(struct app *app)
{
	reload_stop(&app->reload);
	control_free(app->control);
	nbds_server_free(app->nbd);
	slab_device_free(app->device);
	uring_backup_close(app->backup);
	transports_free(&app->transports);
	portals_fini(&app->portals);
	if (app->arena)
		(void)munmap(app->arena, app->arena_bytes);
	turn_clock_stop(&app->clock);
	explicit_bzero(&app->config.psk, sizeof(app->config.psk));
	ev_loop_destroy(app->loop);
}

static struct ev_loop *
loop_new(const struct server_file_config *c)
{
	struct ev_loop *loop = ev_default_loop(EVFLAG_AUTO);
	int r;

	if (!loop) {
		log_error("cannot make an event loop");
		return NULL;
	}
	r = loop_reserve(loop, WATCHERS + c->max_connections + WATCHERS_PORTAL * c->portals_max);
	if (r < 0)
		log_warn("max_connections and portals: %s: raise RLIMIT_NOFILE (LimitNOFILE=)",
			 strerror(-r));
	return loop;
}

static int
reload_open(struct app *app)
{
	const int r = reload_start(&app->reload, app->loop, app->config_path, reloaded_cb, app);

	return r < 0 ? log_err_errno(-r, "cannot start the thread of SIGHUP") : 0;
}

/* A real-time program does not poll: see realtime.c. */
static void
start_priorities(struct app *app)
{
	const bool is_realtime = app->config.realtime == SERVER_REALTIME_YES;

	spin_start(&app->spin, app->loop, is_realtime ? 0 : app->config.spin_us);
	if (app->config.realtime == SERVER_REALTIME_AUTO)
		realtime_start(&app->realtime, app->loop,
			       realtime_low_bytes(host_needs_min_free_now_kib("/proc/sys")),
			       &app->spin);
}

static int
app_run(struct app *app)
{
	app->loop = loop_new(&app->config);
	if (!app->loop)
		return EXIT_FAILURE;
	turn_clock_start(&app->clock, app->loop);
	app->started_ns = clock_now_ns();
	app->exit_status = EXIT_FAILURE;
	signals_start(&app->signals, app->loop, stop_cb, app);
	signals_on_hangup(&app->signals, reload_cb);
	if (reload_open(app) == 0 && device_open(app) == 0 && nbd_open(app) == 0 &&
	    log_open() == 0 && swap_safety_settle(&app->safety) == 0) {
		app->exit_status = EXIT_SUCCESS;
		core_driver_start(&app->driver, app->loop, &app->clock, advance_cb, app->device);
		start_priorities(app);
		portals_start(&app->portals, app->device);
		say_ready(app);
		ev_run(app->loop, 0);
		realtime_stop(&app->realtime);
		spin_stop(&app->spin);
		core_driver_stop(&app->driver);
		log_notice("device %s: stopped", app->config.name);
	}
	signals_stop(&app->signals);
	app_close(app);
	log_ring_stop();
	return app->exit_status;
}

int
main(int argc, char **argv)
{
	struct app *app;
	struct cli cli;
	int status;

	if (!cli_parse(argc, argv, "NBD server of a block device in other machines' memory.",
		       CLI_DOCTOR, &cli, &status))
		return status;
	app = calloc(1, sizeof(*app));
	if (!app) {
		log_error("no memory");
		return EXIT_FAILURE;
	}
	status = CLI_EXIT_USAGE;
	app->config_path = cli.config_path;
	if (server_file_config_load(cli.config_path, &app->config) == 0 &&
	    transports_check(cli.config_path, "[daemons] portals", &app->config.portals) == 0) {
		status = EXIT_SUCCESS;
		if (cli.is_doctor) {
			status = doctor_run(&cli, &app->config);
		} else if (!cli.is_check) {
			app->safety.realtime = (enum server_realtime)app->config.realtime;
			app->safety.is_strict = app->config.strict;
			app->safety.reserve_bytes = SERVER_RESERVE_BYTES +
						    SERVER_SESSION_BYTES * app->config.portals_max;
			swap_safety_enter(&app->safety);
			status = app_run(app);
		}
	}
	free(app);
	return status;
}
