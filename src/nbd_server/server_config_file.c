/* SPDX-License-Identifier: MIT */
/* Everything that slabswap-nbd.ini can get wrong is said here, before the program does anything. */
#include "nbd_server/server_config_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/config_check.h"

#define FIELD(f) .offset = offsetof(struct server_file_config, f)
#define STRING_FIELD(f)                                                                            \
	.offset = offsetof(struct server_file_config, f),                                          \
	.field_bytes = sizeof(((struct server_file_config *)NULL)->f)

/* Portals that a SIGHUP may add without anything said of it in the file: enough to replace one.
 * Each has half a MiB of locked memory kept for its session. */
#define SPARE_PORTALS 1u
/* With a name that stands for many. */
#define SPARE_PORTALS_DNS 64u

static const char *const ack_words[] = {"remote", "both", NULL};
static const char *const yes_words[] = {"no", "yes", NULL};
static const char *const realtime_words[] = {"no", "yes", "auto", NULL};

static const struct ini_key server_keys[] = {
	{"device", "name", INI_STRING, STRING_FIELD(name), .min = 1,
	 .allowed = "1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"},
	{"device", "size", INI_SIZE, FIELD(size_bytes), .min = UINT64_C(1) << 20,
	 .max = UINT64_C(64) << 40},
	{"device", "slab_size", INI_SIZE, FIELD(slab_bytes), .def = "64M",
	 .min = CONFIG_SLAB_BYTES_MIN, .max = CONFIG_SLAB_BYTES_MAX},
	{"nbd", "listen", INI_LIST, FIELD(listen), .def = "",
	 .def_doc = "unix:/run/slabswap/NAME.sock", .min = 1, .max = 8,
	 .allowed = CONFIG_LISTEN_ALLOWED},
	{"nbd", "export", INI_STRING, STRING_FIELD(export_name), .def = "",
	 .allowed = "at most 255 bytes of text"},
	{"nbd", "description", INI_STRING, STRING_FIELD(description), .def = "",
	 .allowed = "at most 255 bytes of text"},
	{"nbd", "control", INI_STRING, STRING_FIELD(control), .def = "",
	 .def_doc = "/run/slabswap/NAME.ctl", .min = 1, .allowed = CONFIG_SOCKET_ALLOWED},
	{"nbd", "max_connections", INI_NUMBER, FIELD(max_connections), .def = "8", .min = 1,
	 .max = 1024},
	{"backup", "path", INI_STRING, STRING_FIELD(backup_path), .min = 1,
	 .allowed = "the absolute path of a partition or file, at most 511 bytes"},
	{"backup", "ack", INI_WORD, FIELD(ack), .def = "remote", .words = ack_words},
	{"backup", "fill", INI_WORD, FIELD(fill), .def = "no", .words = yes_words},
	{"backup", "delay_ms", INI_NUMBER, FIELD(delay_ms), .def = "20", .max = 10000,
	 .unit = "ms"},
	{"daemons", "portals", INI_LIST, FIELD(portals), .def = "", .max = INI_LIST_MAX,
	 .allowed = CONFIG_PORTALS_ALLOWED},
	{"daemons", "dns_servers", INI_LIST, FIELD(dns_servers), .def = "", .max = 8,
	 .allowed = CONFIG_DNS_SERVERS_ALLOWED},
	{"daemons", "max_portals", INI_NUMBER, FIELD(max_portals), .def = "0", .max = 256},
	{"daemons", "leave_timeout_ms", INI_NUMBER, FIELD(leave_timeout_ms), .def = "30000",
	 .min = 10, .max = 600000, .unit = "ms"},
	{"daemons", "psk_file", INI_STRING, STRING_FIELD(psk_file), .def = "",
	 .allowed = CONFIG_PSK_ALLOWED},
	{"activity", "hot_slab", INI_NUMBER, FIELD(hot_slab), .def = "20", .max = 1000000,
	 .unit = "pages/s"},
	{"activity", "alpha", INI_MILLI, FIELD(alpha_milli), .def = "0.2", .min = 1, .max = 1000},
	{"activity", "period_ms", INI_NUMBER, FIELD(period_ms), .def = "1000", .min = 10,
	 .max = 60000, .unit = "ms"},
	{"activity", "cold_slab", INI_NUMBER, FIELD(cold_slab), .def = "0", .max = 1000000,
	 .unit = "pages/s"},
	{"activity", "cold_periods", INI_NUMBER, FIELD(cold_periods), .def = "5", .min = 1,
	 .max = 86400},
	{"placement", "choices", INI_NUMBER, FIELD(choices), .def = "2", .min = 1, .max = 8},
	{"placement", "query_timeout_ms", INI_NUMBER, FIELD(query_timeout_ms), .def = "2000",
	 .min = 10, .max = 60000, .unit = "ms"},
	{"eviction", "migration", INI_WORD, FIELD(migrate), .def = "yes", .words = yes_words},
	{"eviction", "migrate_rate", INI_SIZE, FIELD(migrate_rate), .def = "256M",
	 .min = UINT64_C(1) << 20, .max = UINT64_C(64) << 30},
	{"limits", "buffers", INI_SIZE, FIELD(buffers_bytes), .def = "64M",
	 .min = UINT64_C(4) << 20, .max = UINT64_C(4) << 30},
	{"limits", "op_timeout_ms", INI_NUMBER, FIELD(op_timeout_ms), .def = "2000", .min = 10,
	 .max = 60000, .unit = "ms"},
	{"limits", "connect_timeout_ms", INI_NUMBER, FIELD(connect_timeout_ms), .def = "2000",
	 .min = 10, .max = 60000, .unit = "ms"},
	{"limits", "ping_ms", INI_NUMBER, FIELD(ping_ms), .def = "500", .min = 10, .max = 60000,
	 .unit = "ms"},
	{"limits", "hedge_ms", INI_NUMBER, FIELD(hedge_ms), .def = "50", .max = 60000,
	 .unit = "ms"},
	{"limits", "probe_ms", INI_NUMBER, FIELD(probe_ms), .def = "500", .max = 60000,
	 .unit = "ms"},
	{"limits", "control_timeout_ms", INI_NUMBER, FIELD(control_timeout_ms), .def = "10000",
	 .max = 600000, .unit = "ms"},
	{"limits", "retry_ms", INI_NUMBER, FIELD(retry_ms), .def = "500", .min = 10, .max = 60000,
	 .unit = "ms"},
	{"limits", "retry_max_ms", INI_NUMBER, FIELD(retry_max_ms), .def = "10000", .min = 10,
	 .max = 600000, .unit = "ms"},
	{"limits", "refill_rate", INI_SIZE, FIELD(refill_rate), .def = "64M",
	 .max = UINT64_C(64) << 30},
	{"limits", "realtime", INI_WORD, FIELD(realtime), .def = "auto", .words = realtime_words},
	{"limits", "spin_us", INI_NUMBER, FIELD(spin_us), .def = "50", .max = CONFIG_SPIN_US_MAX,
	 .unit = "us", .zero = "off"},
	{"limits", "strict", INI_WORD, FIELD(strict), .def = "no", .words = yes_words},
};
#define SERVER_KEY_COUNT (sizeof(server_keys) / sizeof(server_keys[0]))

const struct ini_key *
server_file_config_keys(size_t *ret_count)
{
	*ret_count = SERVER_KEY_COUNT;
	return server_keys;
}

static bool
is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool
is_device_name(const char *name)
{
	if (!is_alphanumeric(*name))
		return false;
	for (; *name; name++)
		if (!is_alphanumeric(*name) && !strchr("._-", *name))
			return false;
	return true;
}

/* What follows from the name when the file does not say it. */
static void
fill_derived(const struct ini *ini, struct server_file_config *config)
{
	if (!ini_has(ini, "nbd", "listen")) {
		config->listen.count = 1;
		(void)snprintf(config->listen.item[0], INI_ITEM_BYTES, "unix:/run/slabswap/%s.sock",
			       config->name);
	}
	if (!ini_has(ini, "nbd", "control"))
		(void)snprintf(config->control, sizeof(config->control), "/run/slabswap/%s.ctl",
			       config->name);
	config->portals_max = config->max_portals;
	if (config->portals_max == 0)
		config->portals_max =
			config->portals.count +
			(config_count_dns(&config->portals) ? SPARE_PORTALS_DNS : SPARE_PORTALS);
}

static int
check_device(const struct ini *ini, const struct server_file_config *config,
	     char problem[INI_PROBLEM_BYTES])
{
	int r;

	if (!is_device_name(config->name))
		return ini_problem(ini, "device", "name", problem, server_keys[0].allowed,
				   "not a device name");
	r = config_check_slab_size(ini, "device", config->slab_bytes, problem);
	if (r < 0)
		return r;
	return config_check_multiple(ini, "device", "size", config->size_bytes, config->slab_bytes,
				     problem);
}

static int
check_nbd(const struct ini *ini, const struct server_file_config *config,
	  char problem[INI_PROBLEM_BYTES])
{
	int r;

	r = config_check_socket_path(ini, "nbd", "control", config->control, problem);
	if (r < 0)
		return r;
	r = config_check_addresses(ini, "nbd", "listen", &config->listen, CONFIG_UNIX | CONFIG_TCP,
				   CONFIG_LISTEN_ALLOWED, problem);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < config->listen.count; i++)
		if (strncmp(config->listen.item[i], "unix:", 5) == 0 &&
		    strcmp(config->listen.item[i] + 5, config->control) == 0)
			return ini_problem(ini, "nbd", "control", problem,
					   "a path that listen does not have", "also in listen");
	return 0;
}

bool
server_file_has_backup(const struct server_file_config *config)
{
	return strcmp(config->backup_path, "none") != 0;
}

static int
check_backup(const struct ini *ini, const struct server_file_config *config,
	     char problem[INI_PROBLEM_BYTES])
{
	if (!server_file_has_backup(config)) {
		if (config->ack != SERVER_ACK_REMOTE)
			return ini_problem(ini, "backup", "ack", problem, "remote",
					   "both needs a backup, and path = none");
		if (config->fill)
			return ini_problem(ini, "backup", "fill", problem, "no",
					   "yes needs a backup, and path = none");
		return 0;
	}
	if (config->backup_path[0] != '/')
		return ini_problem(ini, "backup", "path", problem,
				   "the absolute path of a partition or file, or none",
				   "not an absolute path");
	return 0;
}

static int
check_daemons(const struct ini *ini, const struct server_file_config *config,
	      char problem[INI_PROBLEM_BYTES])
{
	int r;

	r = config_check_addresses(ini, "daemons", "portals", &config->portals,
				   CONFIG_TCP | CONFIG_RDMA | CONFIG_SHM | CONFIG_DNS |
					   CONFIG_PORT_NEEDED,
				   CONFIG_PORTALS_ALLOWED, problem);
	if (r < 0)
		return r;
	if (config_count_dns(&config->portals) > SERVER_DNS_NAMES_MAX)
		return ini_problem(ini, "daemons", "portals", problem, CONFIG_PORTALS_ALLOWED,
				   "more than %u dns: names", SERVER_DNS_NAMES_MAX);
	r = config_check_addresses(ini, "daemons", "dns_servers", &config->dns_servers,
				   CONFIG_PLAIN | CONFIG_PORT_NEEDED, CONFIG_DNS_SERVERS_ALLOWED,
				   problem);
	if (r < 0)
		return r;
	if (config->portals.count > config->portals_max)
		return ini_problem(ini, "daemons", "max_portals", problem,
				   "0, or the number of portals or more", "%u are listed",
				   config->portals.count);
	return 0;
}

static int
check_all(const struct ini *ini, struct server_file_config *config, char problem[INI_PROBLEM_BYTES])
{
	int r;

	r = check_device(ini, config, problem);
	if (r < 0)
		return r;
	fill_derived(ini, config);
	r = check_nbd(ini, config, problem);
	if (r < 0)
		return r;
	r = check_backup(ini, config, problem);
	if (r < 0)
		return r;
	r = check_daemons(ini, config, problem);
	if (r < 0)
		return r;
	if (config->cold_slab > 0 && config->cold_slab >= config->hot_slab)
		return ini_problem(ini, "activity", "cold_slab", problem,
				   "0, or less than hot_slab", "not less than hot_slab (%u)",
				   config->hot_slab);
	if (config->retry_max_ms < config->retry_ms)
		return ini_problem(ini, "limits", "retry_max_ms", problem, "retry_ms or more",
				   "less than retry_ms (%u)", config->retry_ms);
	return config_load_psk(ini, "daemons", config->psk_file, &config->psk, problem);
}

int
server_file_config_load(const char *path, struct server_file_config *ret_config)
{
	char problem[INI_PROBLEM_BYTES];
	struct ini *ini = NULL;
	int r;

	memset(ret_config, 0, sizeof(*ret_config));
	r = ini_load(path, server_keys, SERVER_KEY_COUNT, ret_config, &ini, problem);
	if (r == 0)
		r = check_all(ini, ret_config, problem);
	if (r < 0)
		ini_print_problem(problem);
	(void)ini_free(ini);
	return r;
}
