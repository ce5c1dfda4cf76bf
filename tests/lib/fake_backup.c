/* SPDX-License-Identifier: MIT */
#include "lib/fake_backup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/page.h"

struct fake_backup {
	struct backup backup; /* first */
	struct list ops;
	uint32_t n_ops;
	uint64_t size_bytes;
	uint64_t clock; /* counts steps */
	bool can_zero;
	bool can_discard;
	int write_status;
	int read_status;
	uint8_t *bytes;
	uint64_t *written_at; /* per page */
	uint64_t synced_at;
};

static struct backup_op *
op_of(struct list *node)
{
	return container_of(node, struct backup_op, node);
}

static uint64_t
checksum(const struct backup_op *op)
{
	uint64_t sum = 14695981039346656037u;

	for (uint64_t at = 0; at < op->length_bytes; at += PAGE_BYTES) {
		const uint8_t *p = backup_op_page(op, at);

		for (uint32_t i = 0; i < PAGE_BYTES; i++)
			sum = (sum ^ p[i]) * 1099511628211u;
	}
	return sum;
}

static bool
conflicts(const struct backup_op *a, const struct backup_op *b)
{
	if (a->kind == BACKUP_OP_SYNC || b->kind == BACKUP_OP_SYNC)
		return false;
	if (a->kind == BACKUP_OP_READ && b->kind == BACKUP_OP_READ)
		return false;
	return a->offset_bytes < b->offset_bytes + b->length_bytes &&
	       b->offset_bytes < a->offset_bytes + a->length_bytes;
}

static void
check_parts(const struct backup_op *op)
{
	uint64_t bytes = 0;

	assert(op->kind == BACKUP_OP_WRITE && op->n_parts > 1 && op->n_parts <= BACKUP_PARTS_MAX);
	for (uint32_t i = 0; i < op->n_parts; i++) {
		assert(op->parts[i].iov_len > 0 && op->parts[i].iov_len % PAGE_BYTES == 0 &&
		       op->parts[i].iov_len <= BLOCK_BYTES);
		bytes += op->parts[i].iov_len;
	}
	assert(bytes == op->length_bytes);
}

static void
submit_cb(struct backup *b, struct backup_op *op)
{
	struct fake_backup *fb = container_of(b, struct fake_backup, backup);
	struct list *pos;

	assert(op->done);
	assert(op->offset_bytes % PAGE_BYTES == 0 && op->length_bytes % PAGE_BYTES == 0);
	assert(op->offset_bytes + op->length_bytes <= fb->size_bytes);
	assert(op->kind == BACKUP_OP_SYNC || op->length_bytes > 0);
	if (op->n_parts > 0)
		check_parts(op);
	else if (op->kind == BACKUP_OP_READ || op->kind == BACKUP_OP_WRITE)
		assert(op->buf && op->length_bytes <= BLOCK_BYTES);
	list_foreach (pos, &fb->ops) {
		assert(op_of(pos) != op);
		assert(!conflicts(op_of(pos), op));
	}
	if (op->kind == BACKUP_OP_WRITE)
		op->transferred_bytes = checksum(op);
	if (op->kind == BACKUP_OP_SYNC)
		op->transferred_bytes = fb->clock;
	list_add_tail(&fb->ops, &op->node);
	fb->n_ops++;
}

static bool
next_data_cb(struct backup *b, uint64_t offset, uint64_t *ret_start, uint64_t *ret_end)
{
	static const uint8_t zeros[PAGE_BYTES];
	const struct fake_backup *fb = container_of(b, struct fake_backup, backup);

	for (uint64_t at = offset & ~(uint64_t)(PAGE_BYTES - 1); at < fb->size_bytes;
	     at += PAGE_BYTES)
		if (memcmp(fb->bytes + at, zeros, PAGE_BYTES) != 0) {
			*ret_start = at;
			*ret_end = at + PAGE_BYTES;
			return true;
		}
	return false;
}

static const struct backup_ops fake_backup_ops = {
	.submit = submit_cb,
	.next_data = next_data_cb,
};

struct fake_backup *
fake_backup_new(uint64_t size_bytes, bool can_zero, bool can_discard)
{
	struct fake_backup *fb = calloc(1, sizeof(*fb));

	assert(fb);
	fb->backup.ops = &fake_backup_ops;
	fb->size_bytes = size_bytes;
	fb->can_zero = can_zero;
	fb->can_discard = can_discard;
	fb->bytes = calloc(1, size_bytes);
	fb->written_at = calloc(size_bytes / PAGE_BYTES, sizeof(*fb->written_at));
	assert(fb->bytes && fb->written_at);
	list_init(&fb->ops);
	return fb;
}

struct fake_backup *
fake_backup_free(struct fake_backup *fb)
{
	if (!fb)
		return NULL;
	assert(fb->n_ops == 0);
	free(fb->written_at);
	free(fb->bytes);
	free(fb);
	return NULL;
}

struct backup *
fake_backup_as_backup(struct fake_backup *fb)
{
	return &fb->backup;
}

uint8_t *
fake_backup_bytes(struct fake_backup *fb)
{
	return fb->bytes;
}

uint32_t
fake_backup_pending(const struct fake_backup *fb)
{
	return fb->n_ops;
}

static void
mark_written(struct fake_backup *fb, const struct backup_op *op)
{
	for (uint64_t at = 0; at < op->length_bytes; at += PAGE_BYTES)
		fb->written_at[(op->offset_bytes + at) / PAGE_BYTES] = ++fb->clock;
}

static int
op_carry_out(struct fake_backup *fb, struct backup_op *op)
{
	uint8_t *bytes = fb->bytes + op->offset_bytes;
	const bool is_read = op->kind == BACKUP_OP_READ;

	if (is_read && fb->read_status < 0)
		return fb->read_status;
	if (!is_read && fb->write_status < 0)
		return fb->write_status;
	switch (op->kind) {
	case BACKUP_OP_READ:
		memcpy(op->buf, bytes, op->length_bytes);
		return 0;
	case BACKUP_OP_WRITE:
		for (uint64_t at = 0; at < op->length_bytes; at += PAGE_BYTES)
			memcpy(bytes + at, backup_op_page(op, at), PAGE_BYTES);
		mark_written(fb, op);
		return 0;
	case BACKUP_OP_ZERO:
		if (!fb->can_zero)
			return -EOPNOTSUPP;
		memset(bytes, 0, op->length_bytes);
		mark_written(fb, op);
		return 0;
	case BACKUP_OP_DISCARD:
		if (!fb->can_discard)
			return -EOPNOTSUPP;
		memset(bytes, 0xdb, op->length_bytes);
		mark_written(fb, op);
		return 0;
	case BACKUP_OP_SYNC:
		fb->synced_at = op->transferred_bytes;
		return 0;
	}
	return -EINVAL;
}

static struct backup_op *
op_at(const struct fake_backup *fb, uint32_t index)
{
	struct list *node = fb->ops.next;

	assert(index < fb->n_ops);
	while (index-- > 0)
		node = node->next;
	return op_of(node);
}

const struct backup_op *
fake_backup_op(const struct fake_backup *fb, uint32_t index)
{
	return op_at(fb, index);
}

void
fake_backup_step(struct fake_backup *fb, uint32_t index)
{
	struct backup_op *op = op_at(fb, index);

	if (op->kind == BACKUP_OP_WRITE)
		assert(op->transferred_bytes == checksum(op)); /* invariant 3 */
	list_del(&op->node);
	fb->n_ops--;
	op->done(op, op_carry_out(fb, op));
}

void
fake_backup_run(struct fake_backup *fb)
{
	while (fb->n_ops > 0)
		fake_backup_step(fb, 0);
}

void
fake_backup_fail_writes(struct fake_backup *fb, int status)
{
	fb->write_status = status;
}

void
fake_backup_fail_reads(struct fake_backup *fb, int status)
{
	fb->read_status = status;
}

bool
fake_backup_is_durable(const struct fake_backup *fb, uint64_t offset_bytes)
{
	return fb->written_at[offset_bytes / PAGE_BYTES] <= fb->synced_at;
}
