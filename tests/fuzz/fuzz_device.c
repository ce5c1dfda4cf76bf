/* SPDX-License-Identifier: MIT */
/*
 * The device core with daemons that say anything: messages that make sense or not,
 * at any moment, beside those of the obedient daemon of unit/slab, with requests
 * running, faults of network and backup, and time.  The input is the list of what happens.
 *
 * Held: the oracle judges every read until a daemon has said that a slab lies where
 * it does not; in the end every request is answered, nothing leaks, the device stops.
 */
#include <errno.h>

#include "fuzz.h"
#include "slab/core.h"
#include "unit/slab/world.h"

#define SLABS 1u
#define DAEMONS 2u
#define PENDING_MAX 32u
#define OPERATIONS 16u
#define FAILURES_MAX 48u
#define MIB_PER_S (UINT64_C(64) << 20)
#define PSK "a secret of enough length"

struct run {
	struct world *w;
	struct fuzz_input in;
	uint32_t failures;
};

static void
request(struct run *r)
{
	const uint8_t what = fuzz_u8(&r->in);
	const uint64_t page = (uint64_t)(what & 0x80 ? 192 : 0) + fuzz_below(&r->in, 64);
	const uint32_t in_block = (uint32_t)(page % BLOCK_PAGES);
	const uint8_t length = fuzz_u8(&r->in);
	enum backend_kind kind = BACKEND_READ + what % 5;
	uint64_t offset = page * PAGE_BYTES;
	uint32_t bytes = PAGE_BYTES * (1 + length % 32);
	uint32_t flags = what & 0x40 && kind != BACKEND_READ ? BACKEND_FUA : 0;

	if (world_pending(r->w) >= PENDING_MAX)
		return;
	if (kind == BACKEND_READ || kind == BACKEND_WRITE) {
		bytes = PAGE_BYTES * (1 + length % (BLOCK_PAGES - in_block));
		if (length & 0x80) {
			offset += (length & 7) * (uint64_t)SECTOR_BYTES;
			bytes = (1 + (length >> 3) % (8 - (length & 7))) * SECTOR_BYTES;
		}
	} else if (kind == BACKEND_FLUSH) {
		offset = bytes = flags = 0;
	} else if (kind == BACKEND_ZERO && what & 0x20) {
		flags |= length & 0x40 ? BACKEND_FAST_ZERO : BACKEND_NO_HOLE;
	}
	if (bytes > SLABS * SLAB_BYTES_MIN - offset)
		bytes = (uint32_t)(SLABS * SLAB_BYTES_MIN - offset);
	(void)world_submit(r->w, kind, flags, offset, bytes);
}

/* Of a slab that is granted, wherever the input does not say otherwise. */
static void
fill_mr_info(struct run *r, const struct fake_daemon *f, struct ctl_msg *msg)
{
	const uint8_t wrong = fuzz_u8(&r->in);
	const struct fake_daemon_slab *s = &f->slabs[fuzz_u8(&r->in) % f->n_slabs];
	struct tp_remote remote = {0};

	/* It has an address once the daemon has said so itself. */
	if (s->is_granted)
		tp_grant_remote(s->grant, &remote);
	msg->u.mr_info = (struct ctl_mr_info){
		.slab = s->slab,
		.generation = s->generation,
		.addr = remote.addr,
		.length_bytes = f->slab_bytes,
		.rkey = remote.rkey,
	};
	if (wrong & 1)
		msg->u.mr_info.slab = fuzz_u8(&r->in);
	if (wrong & 2)
		msg->u.mr_info.generation += fuzz_u8(&r->in);
	if (wrong & 4)
		msg->u.mr_info.addr += fuzz_u64(&r->in);
	if (wrong & 8)
		msg->u.mr_info.length_bytes = fuzz_u64(&r->in);
	if (wrong & 16)
		msg->u.mr_info.rkey = fuzz_u32(&r->in);
	if (wrong)
		world_distrust(r->w);
	msg->request_id = msg->u.mr_info.slab + 1;
}

static void
fill_message(struct run *r, struct fake_daemon *f, struct ctl_msg *msg)
{
	struct auth_psk psk = {.length_bytes = strlen(PSK)};

	switch (msg->type) {
	case CTL_CHALLENGE: /* the fake daemon's nonce: it checks the answer */
		memcpy(psk.key, PSK, psk.length_bytes);
		memset(msg->u.challenge.nonce, 7, CTL_NONCE_BYTES);
		auth_proof(&psk, fuzz_u8(&r->in) & 1 ? AUTH_CLIENT : AUTH_DAEMON, f->hello,
			   f->hello_bytes, msg->u.challenge.nonce, msg->u.challenge.proof);
		break;
	case CTL_WELCOME:
		msg->u.welcome.slab_bytes = fuzz_u8(&r->in) & 1 ? fuzz_u64(&r->in) : f->slab_bytes;
		msg->u.welcome.free_slabs = fuzz_u32(&r->in);
		break;
	case CTL_REFUSED:
		msg->u.refused.reason = fuzz_u8(&r->in);
		break;
	case CTL_FREE_MEM:
		msg->u.free_mem.free_slabs = fuzz_u32(&r->in);
		msg->u.free_mem.usage_permille = fuzz_below(&r->in, CTL_USAGE_PERMILLE_MAX + 1);
		break;
	case CTL_MR_INFO:
		fill_mr_info(r, f, msg);
		break;
	case CTL_CHECK_ACTIVITY:
	case CTL_EVICT: {
		const struct fake_daemon_slab *s = &f->slabs[fuzz_u8(&r->in) % f->n_slabs];

		msg->u.evict.slab = s->slab;
		msg->u.evict.generation = s->generation + (fuzz_u8(&r->in) == 1);
		msg->u.evict.deadline_ms = 1 + fuzz_u8(&r->in);
		break;
	}
	default:
		break;
	}
}

static void
say_message(struct run *r, struct fake_daemon *f)
{
	struct ctl_msg msg = {.type = (enum ctl_type)(1 + fuzz_below(&r->in, CTL_DONE))};
	const uint8_t how = fuzz_u8(&r->in);
	uint8_t buf[CTL_MESSAGE_BYTES_MAX];
	size_t length;

	if (!f->conn)
		return;
	msg.request_id = how & 1 ? fuzz_u32(&r->in) : how % 8;
	fill_message(r, f, &msg);
	msg.version = how & 0x10 ? fuzz_u16(&r->in) : 0;
	length = ctl_encode(&msg, buf);
	if (how & 0x20) {
		buf[fuzz_u8(&r->in) % length] ^= fuzz_u8(&r->in);
		if (msg.type == CTL_MR_INFO)
			world_distrust(r->w);
	}
	(void)tp_send(f->conn, buf, length);
}

static void
say_bytes(struct run *r, struct fake_daemon *f)
{
	size_t length;
	const uint8_t *bytes = fuzz_take(&r->in, (size_t)fuzz_u8(&r->in) * 2, &length);

	if (!f->conn || length == 0)
		return;
	world_distrust(r->w); /* it may be an MR_INFO */
	(void)tp_send(f->conn, bytes, length);
}

static void
behave(struct run *r, struct fake_daemon *f)
{
	const uint8_t how = fuzz_u8(&r->in);

	f->lie = (enum fake_daemon_lie)(how % (LIE_HELLO_PONG + 1));
	f->is_full = how & 0x20;
	f->refuse_reason = how & 0x40 ? fuzz_u8(&r->in) : 0;
	f->claimed_free = how & 0x80 ? fuzz_u32(&r->in) : 0;
}

static void
fail_next(struct run *r)
{
	const uint8_t how = fuzz_u8(&r->in);

	if (r->failures++ >= FAILURES_MAX)
		return;
	switch (how % 4) {
	case 0:
		fake_net_fail(world_net(r->w), FAKE_OP, how & 4 ? -ETIMEDOUT : -EACCES);
		break;
	case 1:
		fake_net_fail(world_net(r->w), FAKE_GRANTED, -ENOMEM);
		break;
	case 2:
		fake_net_fail(world_net(r->w), FAKE_UP, -ECONNREFUSED);
		break;
	default:
		fake_net_fail(world_net(r->w), FAKE_OP, 0);
		break;
	}
}

static void
step_backup(struct run *r)
{
	struct fake_backup *fb = world_backup(r->w);
	const uint8_t how = fuzz_u8(&r->in);

	if (fake_backup_pending(fb) > 0)
		fake_backup_step(fb, how % fake_backup_pending(fb));
}

/* A slab goes back: asked for, taken, or given up by the device. */
static void
evict(struct run *r, struct fake_daemon *f)
{
	const uint8_t how = fuzz_u8(&r->in);
	struct fake_daemon_slab *s = &f->slabs[0];

	if (how & 0x80)
		(void)slab_evict_begin(world_device(r->w), 0,
				       how & 0x40 ? 1 + fuzz_u16(&r->in) * UINT64_C(100000) : 0);
	else if (!s->is_granted || s->is_revoking)
		return;
	else if (how & 0x40)
		fake_daemon_revoke(s);
	else if (how & 0x20)
		fake_daemon_check_activity(f, s->slab);
	else
		fake_daemon_evict(f, s->slab, 1 + fuzz_u8(&r->in) * 20u);
}

static void
break_backup(struct run *r)
{
	const uint8_t how = fuzz_u8(&r->in);

	world_allow_read_errors(r->w); /* a lost daemon may take the only copy */
	fake_backup_fail_writes(world_backup(r->w), how & 1 ? -EIO : how & 2 ? -ENOSPC : 0);
	fake_backup_fail_reads(world_backup(r->w), how & 4 ? -EIO : 0);
}

static void
step_net(struct run *r)
{
	uint32_t steps = 1 + fuzz_below(&r->in, 8);

	while (steps-- && fake_net_step_random(world_net(r->w)))
		continue;
}

static void
operate(struct run *r)
{
	const uint8_t op = fuzz_u8(&r->in);
	const uint32_t index = op / OPERATIONS % DAEMONS;
	struct fake_daemon *f = world_daemon(r->w, index);

	switch (op % OPERATIONS) {
	case 0:
	case 1:
	case 2:
		request(r);
		break;
	case 3:
	case 4:
		step_net(r);
		break;
	case 5:
		(void)fake_net_step_kind(world_net(r->w),
					 (enum fake_kind)(1 + fuzz_below(&r->in, FAKE_KINDS - 1)),
					 NULL);
		break;
	case 6:
		step_backup(r);
		break;
	case 7:
		world_pass(r->w, fuzz_u16(&r->in) * UINT64_C(100000));
		break;
	case 8:
		world_put_done(r->w);
		break;
	case 9:
	case 10:
		say_message(r, f);
		break;
	case 11:
		say_bytes(r, f);
		break;
	case 12:
		behave(r, f);
		break;
	case 13:
		if (op & 0x80)
			fake_daemon_set_up(f, op & 0x40);
		else
			world_daemon_kill(r->w, index, -ECONNRESET);
		break;
	case 14:
		if (op & 0x80)
			fake_net_hold(world_net(r->w), FAKE_OP, op & 0x40);
		else
			fail_next(r);
		break;
	default:
		if (op & 0x80)
			evict(r, f);
		else
			break_backup(r);
		break;
	}
}

/* Memory that a daemon has taken back without a word is found out at the next access. */
static void
read_all(struct world *w)
{
	const uint64_t size_bytes = slab_device_backend(world_device(w))->size_bytes;

	for (uint64_t at = 0; at < size_bytes; at += BLOCK_BYTES)
		(void)world_do(w, BACKEND_READ, at, BLOCK_BYTES);
	world_assert_right(w);
}

/* Everything works again: all is answered, and stays right. */
static void
end(struct run *r)
{
	struct world *w = r->w;
	int status;

	fake_net_hold(world_net(w), FAKE_OP, false);
	fake_backup_fail_writes(world_backup(w), 0);
	fake_backup_fail_reads(world_backup(w), 0);
	for (uint32_t i = 0; i < DAEMONS; i++) {
		struct fake_daemon *f = world_daemon(w, i);

		f->lie = LIE_NONE;
		f->is_full = false;
		f->refuse_reason = f->claimed_free = 0;
		fake_daemon_set_up(f, true);
	}
	for (uint32_t i = 0; i < 60; i++) {
		world_settle(w);
		world_put_done(w);
		world_pass(w, 500 * NSEC_PER_MSEC);
	}
	FUZZ_CHECK(world_pending(w) == 0);
	read_all(w);
	if (!world_is_distrusted(w))
		world_check_remote(w);
	status = world_stop(w);
	/* Lost pages are an error to the last. */
	FUZZ_CHECK(status == (world_stats(w).pages_lost > 0 ? -EIO : 0));
	FUZZ_CHECK(world_stats(w).pages_degraded == 0);
	FUZZ_CHECK(world_stats(w).slabs_mapped == 0);
	if (!world_is_distrusted(w) && world_stats(w).pages_lost == 0)
		world_check_backup(w);
	world_free(w);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run r = {.in = {data, size}};
	const uint8_t how = fuzz_u8(&r.in);
	const struct world_config config = {
		.seed = 1 + how % 8,
		.n_slabs = SLABS,
		.n_daemons = DAEMONS,
		.slabs_per_daemon = 1,
		.ack = how & 0x10 ? SLAB_ACK_BOTH : SLAB_ACK_REMOTE,
		.refill_rate = how & 0x08 ? MIB_PER_S : 0,
		.migrate_rate = how & 0x08 ? MIB_PER_S : 0,
		.can_zero = how & 0x20,
		.can_discard = how & 0x40,
		.psk = how & 0x80 ? PSK : NULL,
		.daemon_psk = how & 0x80 ? PSK : NULL,
	};

	r.w = world_new(&config);
	while (r.in.left) {
		operate(&r);
		(void)slab_device_advance(world_device(r.w), world_now(r.w));
		world_assert_right(r.w);
	}
	end(&r);
	return 0;
}
