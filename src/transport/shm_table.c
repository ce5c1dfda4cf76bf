/* SPDX-License-Identifier: MIT */
#include "transport/shm_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc_scope.h"

#define ENTRIES_FIRST 64u

int
shm_table_grow(struct shm_table *table, uint32_t size)
{
	uint32_t room = table->size ? table->size : ENTRIES_FIRST;
	struct shm_entry *entries;

	if (size <= table->size)
		return 0;
	if (size > SHM_TABLE_ENTRIES_MAX)
		return -ENOMEM;
	while (room < size)
		room *= 2;
	alloc_scope_enter();
	entries = realloc(table->entries, room * sizeof(*entries));
	alloc_scope_leave();
	if (!entries)
		return -ENOMEM;
	memset(entries + table->size, 0, (room - table->size) * sizeof(*entries));
	table->entries = entries;
	table->size = room;
	return 0;
}
