/* SPDX-License-Identifier: MIT */
/*
 * The shm transport and a peer of a raw socket that keeps no rule: the first byte of the
 * input chooses whether ours is the daemon's side or the client's, the rest is the list of
 * what happens.
 *
 * Held: each op is done once; what is not sealed is never mapped; no descriptor is left;
 * every connection goes down, once; nothing is counted as held when the peer is gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <ev.h>

#include "common/log.h"
#include "fuzz.h"
#include "transport/shm.h"
#include "wire/shm_frame.h"

#define LIMITS                                                                                     \
	(struct shm_limits)                                                                        \
	{                                                                                          \
		.handshake_ms = 5000, .stall_ms = 10000, .revoke_ms = 5000, .half_open_max = 4     \
	}
#define SLAB_BYTES 8192u
#define GRANTS 4u
#define OPS 8u
#define OP_BYTES 4096u
#define TURNS_TO_END 10000
#define STEPS_MAX 200

/* Lives as long as the process. */
struct bench {
	struct ev_loop *loop;
	struct tp *tp;
	struct tp_listener *listener;
	int raw_listen_fd;
	struct sockaddr_un address;
	struct sockaddr_un raw_address;
	uint8_t buf[OPS][OP_BYTES];
	struct tp_region *buf_region;
	int files; /* open before an input */
	struct scene *scene;
};

struct loan {
	struct tp_grant *grant; /* NULL: none, or over */
	bool is_granted;
	bool is_revoking;
	void *memory;
	struct tp_region *region;
};

struct scene_op {
	struct tp_op op; /* first */
	bool is_posted;
};

struct scene {
	struct bench *b;
	struct fuzz_input in;
	int fd;		      /* the raw peer's; -1: closed */
	struct tp_conn *conn; /* ours; NULL: none yet, or down */
	bool has_come;
	int downs;
	struct loan loans[GRANTS];
	struct scene_op ops[OPS];
};

static void
up_cb(void *arg)
{
	(void)arg;
}

static void
message_cb(void *arg, const void *msg, size_t length_bytes)
{
	struct scene *s = arg;

	FUZZ_CHECK(s->conn && length_bytes >= 1 && length_bytes <= TP_MESSAGE_BYTES_MAX);
	(void)tp_send(s->conn, msg, length_bytes);
}

static void
down_cb(void *arg, int reason)
{
	struct scene *s = arg;

	(void)reason;
	s->conn = NULL;
	s->downs++;
	for (unsigned i = 0; i < GRANTS; i++)
		s->loans[i].grant = NULL;
	for (unsigned i = 0; i < OPS; i++)
		FUZZ_CHECK(!s->ops[i].is_posted);
}

static const struct tp_conn_events events = {.up = up_cb, .message = message_cb, .down = down_cb};

static void
incoming_cb(void *arg, struct tp_conn *conn)
{
	struct bench *b = arg;

	FUZZ_CHECK(b->scene && !b->scene->has_come);
	b->scene->has_come = true;
	b->scene->conn = conn;
	tp_accept(conn, &events, b->scene);
}

static void
granted_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	FUZZ_CHECK(loan->grant == grant && !loan->is_granted);
	loan->is_granted = status == 0;
	if (status < 0)
		loan->grant = NULL;
}

static void
revoked_cb(void *arg, struct tp_grant *grant, int status)
{
	struct loan *loan = arg;

	FUZZ_CHECK(loan->grant == grant && loan->is_revoking && status == 0);
	loan->grant = NULL;
}

static void
done_cb(struct tp_op *op, int status)
{
	struct scene_op *o = (struct scene_op *)op;

	FUZZ_CHECK(o->is_posted && status <= 0);
	o->is_posted = false;
}

static int
count_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	FUZZ_CHECK(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static struct bench *bench(void);

static void
remove_sockets(void)
{
	struct bench *b = bench();

	(void)unlink(b->address.sun_path);
	(void)unlink(b->raw_address.sun_path);
	*strrchr(b->address.sun_path, '/') = '\0';
	(void)rmdir(b->address.sun_path);
}

static void
bench_start(struct bench *b)
{
	char directory[] = "/tmp/fuzz_shm.XXXXXX";

	log_set_level(LOG_LEVEL_NONE);
	FUZZ_CHECK(mkdtemp(directory));
	b->address.sun_family = b->raw_address.sun_family = AF_UNIX;
	(void)snprintf(b->address.sun_path, sizeof(b->address.sun_path), "%s/ours", directory);
	(void)snprintf(b->raw_address.sun_path, sizeof(b->raw_address.sun_path), "%s/raw",
		       directory);
	b->loop = ev_loop_new(EVFLAG_AUTO);
	FUZZ_CHECK(b->loop && shm_tp_new_with_limits(b->loop, &LIMITS, &b->tp) == 0);
	FUZZ_CHECK(tp_listen(b->tp, b->address.sun_path, incoming_cb, b, &b->listener) == 0);
	b->raw_listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	FUZZ_CHECK(b->raw_listen_fd >= 0);
	FUZZ_CHECK(bind(b->raw_listen_fd, (struct sockaddr *)&b->raw_address,
			sizeof(b->raw_address)) == 0);
	FUZZ_CHECK(listen(b->raw_listen_fd, 8) == 0);
	FUZZ_CHECK(tp_region_register(b->tp, b->buf, sizeof(b->buf), TP_LEND_NOT, &b->buf_region) ==
		   0);
	ev_run(b->loop, EVRUN_NOWAIT);
	FUZZ_CHECK(atexit(remove_sockets) == 0);
	b->files = count_files();
}

static struct bench *
bench(void)
{
	static struct bench b;

	if (!b.loop)
		bench_start(&b);
	return &b;
}

static void
raw_read(struct scene *s)
{
	uint8_t bytes[SHM_FRAME_BYTES_MAX];
	struct shm_frame frame;
	ssize_t n;

	/* Descriptors are not asked for: the kernel closes them. */
	while (s->fd >= 0 && (n = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		for (uint32_t fds = 0; fds < 2; fds++)
			if (shm_frame_decode(bytes, (size_t)n, fds, &frame) == 0)
				FUZZ_CHECK((frame.kind == SHM_FRAME_GRANT) == (fds == 1));
}

static void
turn(struct scene *s)
{
	ev_run(s->b->loop, EVRUN_NOWAIT);
}

static int
make_memory(uint8_t how)
{
	const int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const uint8_t page[SLAB_BYTES] = {0};

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(ftruncate(fd, how & 1 ? SLAB_BYTES : SLAB_BYTES / 2) == 0);
	if (how & 2)
		FUZZ_CHECK(pwrite(fd, page, how & 1 ? SLAB_BYTES : SLAB_BYTES / 2, 0) > 0);
	(void)fcntl(fd, F_ADD_SEALS,
		    (how & 4 ? F_SEAL_SHRINK : 0) | (how & 8 ? F_SEAL_GROW : 0) |
			    (how & 16 ? F_SEAL_SEAL : 0) | (how & 32 ? F_SEAL_WRITE : 0));
	return fd;
}

static void
raw_send(struct scene *s, const void *bytes, size_t length, uint32_t n_fds, uint8_t how)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	int fds[8];

	for (uint32_t i = 0; i < n_fds; i++)
		fds[i] = make_memory(how);
	if (n_fds > 0) {
		struct cmsghdr *c;

		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	if (s->fd >= 0)
		(void)sendmsg(s->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (uint32_t i = 0; i < n_fds; i++)
		(void)close(fds[i]);
}

/* A packet that decodes, or almost. */
static void
say_frame(struct scene *s)
{
	const uint8_t what = fuzz_u8(&s->in);
	uint8_t bytes[SHM_FRAME_BYTES_MAX] = {0};
	struct shm_frame f = {.kind = (enum shm_frame_kind)(what % 8)};
	uint32_t n_fds = f.kind == SHM_FRAME_GRANT ? 1 : 0;
	size_t length = SHM_FRAME_HEADER_BYTES;

	if (f.kind == SHM_FRAME_PREAMBLE)
		f.value = 1 + what / 128;
	else if (f.kind == SHM_FRAME_MESSAGE)
		length += 1 + fuzz_u8(&s->in);
	else
		f.rkey = fuzz_below(&s->in, 8) | (uint32_t)fuzz_below(&s->in, 3) << 16;
	if (f.kind == SHM_FRAME_GRANT)
		f.value = what & 64 ? fuzz_u64(&s->in) : SLAB_BYTES;
	if (what & 32)
		n_fds = fuzz_below(&s->in, 8);
	shm_frame_encode(&f, bytes);
	raw_send(s, bytes, length, n_fds, n_fds ? fuzz_u8(&s->in) : 0);
}

static void
say_bytes(struct scene *s)
{
	size_t n;
	const uint8_t *bytes = fuzz_take(&s->in, fuzz_u8(&s->in) * 3u, &n);

	raw_send(s, bytes, n, 0, 0);
}

static void
lend(struct scene *s)
{
	struct loan *loan = &s->loans[fuzz_below(&s->in, GRANTS)];
	int r;

	if (!s->conn || loan->memory)
		return;
	FUZZ_CHECK(tp_memory_new(s->b->tp, SLAB_BYTES, false, &loan->memory) == 0);
	FUZZ_CHECK(tp_region_register(s->b->tp, loan->memory, SLAB_BYTES, TP_LEND, &loan->region) ==
		   0);
	r = tp_grant(s->conn, loan->region, granted_cb, loan, &loan->grant);
	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -ENOTCONN);
	if (r < 0)
		loan->grant = NULL;
}

static void
take_back(struct scene *s)
{
	struct loan *loan = &s->loans[fuzz_below(&s->in, GRANTS)];

	if (!s->conn || !loan->grant || !loan->is_granted || loan->is_revoking)
		return;
	loan->is_revoking = true;
	tp_revoke(loan->grant, revoked_cb, loan);
}

static void
post(struct scene *s, bool is_daemon)
{
	const uint32_t index = fuzz_below(&s->in, OPS);
	struct scene_op *o = &s->ops[index];

	if (is_daemon || !s->conn || o->is_posted)
		return;
	o->op = (struct tp_op){
		.kind = fuzz_u8(&s->in) % 2 ? TP_OP_WRITE : TP_OP_READ,
		.length_bytes = 1 + fuzz_u16(&s->in) % OP_BYTES,
		.region = s->b->buf_region,
		.buf = s->b->buf[index],
		.remote_addr = UINT64_C(0x100000) + fuzz_u16(&s->in) % (SLAB_BYTES + 2),
		.rkey = fuzz_below(&s->in, 8) | (uint32_t)fuzz_below(&s->in, 3) << 16,
		.done = done_cb,
	};
	o->is_posted = true;
	tp_post(s->conn, &o->op);
	FUZZ_CHECK(o->is_posted);
}

static void
step(struct scene *s, bool is_daemon)
{
	switch (fuzz_below(&s->in, 10)) {
	case 0:
	case 1:
		say_frame(s);
		break;
	case 2:
		say_bytes(s);
		break;
	case 3:
		lend(s);
		break;
	case 4:
		take_back(s);
		break;
	case 5:
		post(s, is_daemon);
		break;
	case 6:
		if (s->conn)
			(void)tp_send(s->conn, "hello", 5);
		break;
	case 7:
		raw_read(s);
		break;
	case 8:
		if (fuzz_below(&s->in, 4) == 0 && s->conn)
			tp_close(s->conn);
		else if (s->fd >= 0 && fuzz_below(&s->in, 4) == 0)
			(void)shutdown(s->fd, SHUT_WR);
		break;
	default:
		turn(s);
	}
}

static void
begin(struct scene *s, bool is_daemon)
{
	struct bench *b = s->b;

	if (is_daemon) {
		s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		FUZZ_CHECK(s->fd >= 0);
		FUZZ_CHECK(connect(s->fd, (struct sockaddr *)&b->address, sizeof(b->address)) == 0);
		return;
	}
	FUZZ_CHECK(tp_connect(b->tp, b->raw_address.sun_path, UINT64_C(5000000000), &events, s,
			      &s->conn) == 0);
	s->has_come = true;
	s->fd = accept4(b->raw_listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	FUZZ_CHECK(s->fd >= 0);
}

static void
end(struct scene *s)
{
	struct bench *b = s->b;

	(void)close(s->fd);
	s->fd = -1;
	for (int i = 0; s->conn || tp_memory_held(b->tp) > 0 || i < 4; i++) {
		FUZZ_CHECK(i < TURNS_TO_END);
		ev_run(b->loop, tp_memory_held(b->tp) > 0 ? EVRUN_ONCE : EVRUN_NOWAIT);
	}
	FUZZ_CHECK(s->downs == (s->has_come ? 1 : 0));
	for (unsigned i = 0; i < GRANTS; i++) {
		if (!s->loans[i].memory)
			continue;
		FUZZ_CHECK(tp_region_release(s->loans[i].region) == 0);
		tp_memory_free(b->tp, s->loans[i].memory);
	}
	FUZZ_CHECK(count_files() == b->files);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	(void)bench();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scene *s = calloc(1, sizeof(*s));
	bool is_daemon;

	FUZZ_CHECK(s);
	s->b = bench();
	s->b->scene = s;
	s->in = (struct fuzz_input){data, size};
	is_daemon = fuzz_u8(&s->in) % 2;
	begin(s, is_daemon);
	for (int i = 0; s->in.left > 0 && i < STEPS_MAX; i++)
		step(s, is_daemon);
	end(s);
	s->b->scene = NULL;
	free(s);
	return 0;
}
