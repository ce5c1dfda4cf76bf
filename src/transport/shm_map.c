/* SPDX-License-Identifier: MIT */
/* Ops run on the loop thread and end before they return: nothing is in use when a mapping goes. */
#include "transport/shm_map.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/alloc_scope.h"
#include "common/log.h"
#include "common/page.h"
#include "transport/shm_conn.h"
#include "transport/shm_memory.h"
#include "transport/shm_packet.h"
#include "transport/shm_table.h"

/* Unmapping 4 KiB pages takes about 10 ms for so many bytes. */
#define UNMAP_BYTES_PER_TURN (UINT64_C(1) << 30)
/* Some 50 us: requests are served between two of them. */
#define FAULT_BYTES_PER_TURN ((size_t)512 << 10)
/* What one page of the lowest level of page tables maps, on x86-64 and arm64. */
#define PAGE_TABLE_BYTES ((size_t)2 << 20)

/*
 * A page table for each part of @entry's memory, with one page in it: from here on an access
 * allocates nothing.  Where the kernel cannot, the first access of each page does it.
 */
static void
make_page_tables(const struct shm_entry *entry)
{
	for (size_t at = 0; at < entry->length_bytes; at += PAGE_TABLE_BYTES)
		(void)madvise(entry->base + at, PAGE_BYTES, entry->fault_advice);
}

void
shm_map_add(struct tp_conn *conn, uint32_t rkey, uint64_t length_bytes, int fd)
{
	struct shm_entry *entry;
	const char *why;
	uint8_t *base;
	int r = shm_table_grow(&conn->table, shm_table_index(rkey) + 1);

	if (r < 0) {
		(void)close(fd);
		shm_conn_end(conn, r);
		return;
	}
	entry = shm_table_at(&conn->table, rkey);
	if (entry->base || entry->is_unanswered) {
		(void)close(fd);
		shm_conn_violation(conn, "GRANT of an entry in use");
		return;
	}
	alloc_scope_enter();
	r = shm_memory_map(fd, length_bytes, &base, &entry->is_read_only, &why);
	alloc_scope_leave();
	if (r == -EPROTO) {
		shm_conn_violation(conn, why);
	} else if (r < 0) {
		log_err_errno(-r, "%s: cannot map what it lends", conn->name);
		shm_conn_end(conn, r);
	} else {
		entry->base = base;
		entry->rkey = rkey;
		entry->length_bytes = length_bytes;
		entry->fault_left_bytes = length_bytes;
		entry->fault_advice =
			entry->is_read_only ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
		make_page_tables(entry);
		conn->n_faulting++;
		defer_start(&conn->work);
	}
}

void
shm_map_fault_in(struct tp_conn *conn)
{
	struct shm_entry *entry;
	size_t part;

	assert(conn->n_faulting > 0);
	while (conn->table.entries[conn->fault_index].fault_left_bytes == 0)
		conn->fault_index = (conn->fault_index + 1) % conn->table.size;
	entry = &conn->table.entries[conn->fault_index];
	part = entry->fault_left_bytes < FAULT_BYTES_PER_TURN ? entry->fault_left_bytes
							      : FAULT_BYTES_PER_TURN;
	(void)madvise(entry->base + entry->length_bytes - entry->fault_left_bytes, part,
		      entry->fault_advice);
	entry->fault_left_bytes -= part;
	if (entry->fault_left_bytes == 0)
		conn->n_faulting--;
	if (conn->n_faulting > 0)
		defer_start(&conn->work);
}

static void
unmap(struct tp_conn *conn, struct shm_entry *entry)
{
	if (entry->fault_left_bytes > 0)
		conn->n_faulting--;
	entry->fault_left_bytes = 0;
	alloc_scope_enter();
	(void)munmap(entry->base, entry->length_bytes);
	alloc_scope_leave();
	entry->base = NULL;
}

void
shm_map_revoke(struct tp_conn *conn, uint32_t rkey)
{
	struct shm_entry *entry = shm_table_at(&conn->table, rkey);

	if (!entry || !entry->base || entry->rkey != rkey) {
		shm_conn_violation(conn, "REVOKE of what was not granted");
		return;
	}
	unmap(conn, entry);
	entry->is_unanswered = true;
	entry->next_answer = 0;
	if (conn->answer_tail)
		conn->table.entries[conn->answer_tail - 1].next_answer = shm_table_index(rkey) + 1;
	else
		conn->answer_head = shm_table_index(rkey) + 1;
	conn->answer_tail = shm_table_index(rkey) + 1;
	shm_packet_schedule(conn);
}

bool
shm_map_next_answer(struct tp_conn *conn, struct shm_frame *ret_frame)
{
	if (!conn->answer_head)
		return false;
	*ret_frame = (struct shm_frame){
		.kind = SHM_FRAME_REVOKED,
		.rkey = conn->table.entries[conn->answer_head - 1].rkey,
	};
	return true;
}

void
shm_map_answered(struct tp_conn *conn)
{
	struct shm_entry *entry = &conn->table.entries[conn->answer_head - 1];

	entry->is_unanswered = false;
	conn->answer_head = entry->next_answer;
	if (!conn->answer_head)
		conn->answer_tail = 0;
}

uint8_t *
shm_map_find(const struct tp_conn *conn, const struct tp_op *op)
{
	const struct shm_entry *entry = shm_table_at(&conn->table, op->rkey);
	uint64_t offset;

	if (!entry || !entry->base || entry->rkey != op->rkey || op->remote_addr < SHM_GRANT_ADDR)
		return NULL;
	if (entry->is_read_only && op->kind == TP_OP_WRITE)
		return NULL;
	offset = op->remote_addr - SHM_GRANT_ADDR;
	if (offset > entry->length_bytes || op->length_bytes > entry->length_bytes - offset)
		return NULL;
	return entry->base + offset;
}

bool
shm_maps_unmap(struct tp_conn *conn)
{
	uint64_t bytes = 0;

	while (conn->unmap_next < conn->table.size) {
		struct shm_entry *entry = &conn->table.entries[conn->unmap_next++];

		if (!entry->base)
			continue;
		bytes += entry->length_bytes;
		unmap(conn, entry);
		if (bytes >= UNMAP_BYTES_PER_TURN)
			return conn->unmap_next == conn->table.size;
	}
	return true;
}
