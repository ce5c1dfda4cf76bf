/* SPDX-License-Identifier: MIT */
/* Everything that slabswapd.ini can get wrong is said here, before the program does anything. */
#include "daemon/daemon_config_file.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "transport/config_check.h"

#define FIELD(f) .offset = offsetof(struct daemon_file_config, f)
#define STRING_FIELD(f)                                                                            \
	.offset = offsetof(struct daemon_file_config, f),                                          \
	.field_bytes = sizeof(((struct daemon_file_config *)NULL)->f)

static const char *const yes_words[] = {"no", "yes", NULL};

static const struct ini_key daemon_keys[] = {
	{"daemon", "listen", INI_LIST, FIELD(listen), .min = 1, .max = 8,
	 .allowed = CONFIG_PORTAL_LISTEN_ALLOWED},
	{"daemon", "max_clients", INI_NUMBER, FIELD(max_clients), .def = "32", .min = 1,
	 .max = 1024},
	{"daemon", "slab_size", INI_SIZE, FIELD(slab_bytes), .def = "64M",
	 .min = CONFIG_SLAB_BYTES_MIN, .max = CONFIG_SLAB_BYTES_MAX},
	{"daemon", "psk_file", INI_STRING, STRING_FIELD(psk_file), .def = "",
	 .allowed = CONFIG_PSK_ALLOWED},
	{"daemon", "control", INI_STRING, STRING_FIELD(control),
	 .def = "/run/slabswap/slabswapd.ctl", .min = 1, .allowed = CONFIG_SOCKET_ALLOWED},
	{"daemon", "stop_timeout_ms", INI_NUMBER, FIELD(stop_timeout_ms), .def = "10000", .min = 0,
	 .max = 40000, .unit = "ms"},
	{"daemon", "spin_us", INI_NUMBER, FIELD(spin_us), .def = "50", .max = CONFIG_SPIN_US_MAX,
	 .unit = "us", .zero = "off"},
	{"memory", "max", INI_SIZE, FIELD(max_bytes), .min = UINT64_C(1) << 20,
	 .max = UINT64_C(16) << 40},
	{"memory", "max_per_client", INI_SIZE, FIELD(max_per_client_bytes), .def = "",
	 .def_doc = "the value of max", .min = UINT64_C(1) << 20, .max = UINT64_C(16) << 40},
	{"memory", "headroom", INI_SIZE, FIELD(headroom_bytes), .def = "",
	 .def_doc = "an eighth of the machine's memory", .min = 0, .max = UINT64_C(16) << 40},
	{"memory", "beta", INI_MILLI, FIELD(beta_milli), .def = "0.2", .min = 1, .max = 1000},
	{"memory", "period_ms", INI_NUMBER, FIELD(period_ms), .def = "1000", .min = 10,
	 .max = 60000, .unit = "ms"},
	{"memory", "psi_limit", INI_NUMBER, FIELD(psi_limit), .def = "10", .min = 1, .max = 100,
	 .unit = "%"},
	{"memory", "huge_pages", INI_WORD, FIELD(huge_pages), .def = "no", .words = yes_words},
	{"eviction", "extra_choices", INI_NUMBER, FIELD(extra_choices), .def = "2", .min = 0,
	 .max = 64},
	{"eviction", "deadline_ms", INI_NUMBER, FIELD(evict_deadline_ms), .def = "1500", .min = 10,
	 .max = 60000, .unit = "ms"},
};
#define DAEMON_KEY_COUNT (sizeof(daemon_keys) / sizeof(daemon_keys[0]))

const struct ini_key *
daemon_file_config_keys(size_t *ret_count)
{
	*ret_count = DAEMON_KEY_COUNT;
	return daemon_keys;
}

static int
check_memory(const struct ini *ini, const struct daemon_file_config *config,
	     char problem[INI_PROBLEM_BYTES])
{
	int r;

	r = config_check_slab_size(ini, "daemon", config->slab_bytes, problem);
	if (r < 0)
		return r;
	r = config_check_multiple(ini, "memory", "max", config->max_bytes, config->slab_bytes,
				  problem);
	if (r < 0)
		return r;
	r = config_check_multiple(ini, "memory", "max_per_client", config->max_per_client_bytes,
				  config->slab_bytes, problem);
	if (r < 0)
		return r;
	if (config->max_per_client_bytes > config->max_bytes)
		return ini_problem(ini, "memory", "max_per_client", problem, "max or less",
				   "more than max");
	return 0;
}

static int
check_all(const struct ini *ini, struct daemon_file_config *config, char problem[INI_PROBLEM_BYTES])
{
	int r;

	if (!ini_has(ini, "memory", "max_per_client"))
		config->max_per_client_bytes = config->max_bytes;
	if (!ini_has(ini, "memory", "headroom"))
		config->headroom_bytes = UINT64_MAX;
	r = config_check_addresses(ini, "daemon", "listen", &config->listen,
				   CONFIG_TCP | CONFIG_RDMA | CONFIG_SHM,
				   CONFIG_PORTAL_LISTEN_ALLOWED, problem);
	if (r < 0)
		return r;
	r = config_check_socket_path(ini, "daemon", "control", config->control, problem);
	if (r < 0)
		return r;
	r = check_memory(ini, config, problem);
	if (r < 0)
		return r;
	return config_load_psk(ini, "daemon", config->psk_file, &config->psk, problem);
}

int
daemon_file_config_load(const char *path, struct daemon_file_config *ret_config)
{
	char problem[INI_PROBLEM_BYTES];
	struct ini *ini = NULL;
	int r;

	memset(ret_config, 0, sizeof(*ret_config));
	r = ini_load(path, daemon_keys, DAEMON_KEY_COUNT, ret_config, &ini, problem);
	if (r == 0)
		r = check_all(ini, ret_config, problem);
	if (r < 0)
		ini_print_problem(problem);
	(void)ini_free(ini);
	return r;
}
