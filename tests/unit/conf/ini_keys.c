/* SPDX-License-Identifier: MIT */
/* Prints what both ini files may hold, one key a line with tabs, so that a test
 * can compare the manual pages and the commented files in conf/ with the code. */
#include <stdio.h>

#include "daemon/daemon_config_file.h"
#include "nbd_server/server_config_file.h"

static void
keys_print(const char *file, const struct ini_key *keys, size_t count)
{
	char allowed[256];

	for (size_t i = 0; i < count; i++) {
		const struct ini_key *key = &keys[i];

		ini_allowed(key, allowed, sizeof(allowed));
		(void)printf("%s\t%s\t%s\t%s\t%s\t%s\n", file, key->section, key->name,
			     !key->def	    ? "required"
			     : key->def_doc ? "derived"
					    : "default",
			     key->def_doc ? key->def_doc
			     : key->def	  ? key->def
					  : "",
			     allowed);
	}
}

int
main(void)
{
	size_t count;
	const struct ini_key *keys;

	keys = server_file_config_keys(&count);
	keys_print("slabswap-nbd.ini", keys, count);
	keys = daemon_file_config_keys(&count);
	keys_print("slabswapd.ini", keys, count);
	return 0;
}
