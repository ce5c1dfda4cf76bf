/* SPDX-License-Identifier: MIT */
/*
 * The floor of an NBD server over RDMA: memory of another machine, and nothing else.  No backup, no
 * second client, no timer, no epoll: it blocks in recv(), posts an RDMA operation for each request that
 * has come, sleeps until all of them are complete (or polls), and sends all answers at once.
 *
 * The donor's side lends its memory to the one who connects; the address and the key come with the
 * connection.
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "handshake.h"
#include "loop/unix_listen.h"
#include "wire/nbd_proto.h"

#define SLOTS 32u
#define SLOT_BYTES (128u * 1024u)
#define INPUT_BYTES (1024u * 1024u)

/* In the private data of the donor's accept. */
struct lent {
	uint64_t address;
	uint32_t rkey;
};

/* A request: its bytes, from its RDMA operation to its answer. */
struct slot {
	struct nbdp_request request;
	uint8_t reply[NBDP_SIMPLE_REPLY_BYTES];
	uint8_t *data; /* SLOT_BYTES */
};

struct floor {
	const char *donor; /* whom to connect to */
	const char *lend;  /* or where to wait for who does */
	const char *port;
	const char *path;
	uint64_t size_bytes;
	struct rdma_cm_id *id;
	struct ibv_mr *mr;
	uint64_t remote_address;
	uint32_t rkey;
	bool polls; /* the completion queue, instead of waiting for its events */
	int fd;
	uint32_t n_slots; /* in use */
	struct slot slots[SLOTS];
	size_t input_bytes;
	uint8_t input[INPUT_BYTES];
};

_Noreturn static void
die(const char *what)
{
	fprintf(stderr, "floor-rdma: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *
pages(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static struct rdma_cm_id *
endpoint(const char *address, const char *port, int flags)
{
	struct rdma_addrinfo hints = {.ai_port_space = RDMA_PS_TCP, .ai_flags = flags};
	struct ibv_qp_init_attr attr = {
		.cap = {.max_send_wr = SLOTS,
			.max_recv_wr = 1,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.sq_sig_all = 1,
	};
	struct rdma_addrinfo *found;
	struct rdma_cm_id *id;

	if (rdma_getaddrinfo(address, port, &hints, &found) < 0 ||
	    rdma_create_ep(&id, found, NULL, &attr) < 0)
		die(address);
	rdma_freeaddrinfo(found);
	return id;
}

static void
lend(const struct floor *f)
{
	struct rdma_cm_id *listener = endpoint(f->lend, f->port, RAI_PASSIVE);
	void *memory = pages(f->size_bytes);
	struct rdma_conn_param param = {.responder_resources = 16, .initiator_depth = 16};
	struct lent lent;
	struct rdma_cm_id *id;
	struct ibv_mr *mr;

	if (rdma_listen(listener, 1) < 0)
		die(f->lend);
	puts("listening");
	if (fflush(stdout) != 0 || rdma_get_request(listener, &id) < 0)
		die(f->lend);
	mr = ibv_reg_mr(id->pd, memory, f->size_bytes,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE);
	if (mr == NULL)
		die("ibv_reg_mr");
	lent = (struct lent){.address = htobe64((uintptr_t)memory), .rkey = htobe32(mr->rkey)};
	param.private_data = &lent;
	param.private_data_len = sizeof(lent);
	if (rdma_accept(id, &param) < 0)
		die("rdma_accept");
	for (;;)
		(void)pause();
}

static void
borrow(struct floor *f)
{
	struct rdma_conn_param param = {
		.responder_resources = 16, .initiator_depth = 16, .retry_count = 6};
	uint8_t *memory = pages((uint64_t)SLOTS * SLOT_BYTES);
	struct lent lent;

	f->id = endpoint(f->donor, f->port, 0);
	f->mr = rdma_reg_msgs(f->id, memory, (size_t)SLOTS * SLOT_BYTES);
	if (f->mr == NULL || rdma_connect(f->id, &param) < 0 ||
	    f->id->event->param.conn.private_data_len < sizeof(lent))
		die(f->donor);
	memcpy(&lent, f->id->event->param.conn.private_data, sizeof(lent));
	f->remote_address = be64toh(lent.address);
	f->rkey = be32toh(lent.rkey);
	for (uint32_t i = 0; i < SLOTS; i++)
		f->slots[i].data = memory + (size_t)i * SLOT_BYTES;
}

/* Returns false when the connection has ended, or asks what this server does not do. */
static bool
post(struct floor *f, const struct nbdp_request *request, const uint8_t *payload)
{
	struct slot *slot = &f->slots[f->n_slots++];
	const uint64_t address = f->remote_address + request->offset_bytes;

	slot->request = *request;
	if (request->command == NBDP_CMD_FLUSH)
		return true;
	if (request->length_bytes == 0 || request->length_bytes > SLOT_BYTES ||
	    request->offset_bytes > f->size_bytes - request->length_bytes)
		return false;
	if (request->command == NBDP_CMD_READ)
		return rdma_post_read(f->id, slot, slot->data, request->length_bytes, f->mr, 0,
				      address, f->rkey) == 0;
	if (request->command != NBDP_CMD_WRITE)
		return false;
	memcpy(slot->data, payload, request->length_bytes);
	return rdma_post_write(f->id, slot, slot->data, request->length_bytes, f->mr, 0, address,
			       f->rkey) == 0;
}

/* All that is in the input, as far as the slots go. */
static bool
post_input(struct floor *f)
{
	size_t at = 0;

	while (f->n_slots < SLOTS && f->input_bytes - at >= NBDP_REQUEST_BYTES) {
		struct nbdp_request request;
		size_t bytes = NBDP_REQUEST_BYTES;

		if (nbdp_get_request(f->input + at, &request) < 0)
			return false;
		if (request.command == NBDP_CMD_WRITE)
			bytes += request.length_bytes;
		if (f->input_bytes - at < bytes)
			break;
		if (!post(f, &request, f->input + at + NBDP_REQUEST_BYTES))
			return false;
		at += bytes;
	}
	f->input_bytes -= at;
	memmove(f->input, f->input + at, f->input_bytes);
	return true;
}

/* Returns 1, or what is wrong. */
static int
wait_one(struct floor *f, struct ibv_wc *ret_wc)
{
	int n;

	if (!f->polls)
		return rdma_get_send_comp(f->id, ret_wc);
	do
		n = ibv_poll_cq(f->id->send_cq, 1, ret_wc);
	while (n == 0);
	return n;
}

static void
wait_all(struct floor *f)
{
	for (uint32_t i = 0; i < f->n_slots; i++) {
		struct ibv_wc wc;

		if (f->slots[i].request.command == NBDP_CMD_FLUSH)
			continue;
		if (wait_one(f, &wc) != 1)
			die("completion queue");
		if (wc.status != IBV_WC_SUCCESS) {
			errno = EIO;
			die(ibv_wc_status_str(wc.status));
		}
	}
}

static bool
send_all(struct floor *f)
{
	struct iovec iovs[2 * SLOTS];
	size_t n = 0, bytes = 0;

	for (uint32_t i = 0; i < f->n_slots; i++) {
		struct slot *slot = &f->slots[i];

		iovs[n++] = (struct iovec){
			slot->reply, nbdp_put_simple_reply(slot->reply, 0, slot->request.cookie)};
		bytes += NBDP_SIMPLE_REPLY_BYTES;
		if (slot->request.command != NBDP_CMD_READ)
			continue;
		iovs[n++] = (struct iovec){slot->data, slot->request.length_bytes};
		bytes += slot->request.length_bytes;
	}
	f->n_slots = 0;
	for (struct iovec *v = iovs; bytes > 0;) {
		struct msghdr msg = {.msg_iov = v, .msg_iovlen = n};
		ssize_t sent = sendmsg(f->fd, &msg, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		bytes -= (size_t)sent;
		for (; n > 0 && (size_t)sent >= v->iov_len; v++, n--)
			sent -= (ssize_t)v->iov_len;
		if (n > 0) {
			v->iov_base = (uint8_t *)v->iov_base + sent;
			v->iov_len -= (size_t)sent;
		}
	}
	return true;
}

/* Until the client goes. */
static void
serve(struct floor *f)
{
	ssize_t n;

	f->input_bytes = 0;
	f->n_slots = 0;
	while ((n = recv(f->fd, f->input + f->input_bytes, INPUT_BYTES - f->input_bytes, 0)) > 0) {
		bool is_full;

		f->input_bytes += (size_t)n;
		do {
			if (!post_input(f))
				return;
			wait_all(f);
			is_full = f->n_slots == SLOTS;
			if (!send_all(f))
				return;
		} while (is_full);
	}
}

static void
serve_clients(struct floor *f)
{
	struct pollfd door = {.fd = unix_listen(f->path, SOCK_STREAM, 1), .events = POLLIN};

	if (door.fd < 0) {
		errno = -door.fd;
		die(f->path);
	}
	while (poll(&door, 1, -1) == 1) {
		f->fd = accept4(door.fd, NULL, NULL, SOCK_CLOEXEC);
		if (f->fd < 0)
			die("accept4");
		if (handshake(f->fd, f->size_bytes))
			serve(f);
		(void)close(f->fd);
	}
	die("poll");
}

static void
usage(void)
{
	fputs("usage: floor-rdma --lend ADDRESS --port PORT --size BYTES\n"
	      "       floor-rdma --donor ADDRESS --port PORT --size BYTES --socket PATH [--poll]\n"
	      "An NBD server with RDMA behind it and nothing else, one client at a time.\n",
	      stderr);
	exit(2);
}

static void
parse_options(struct floor *f, int argc, char **argv)
{
	static const struct option longs[] = {
		{"lend", required_argument, NULL, 'l'},
		{"donor", required_argument, NULL, 'd'},
		{"port", required_argument, NULL, 'p'},
		{"size", required_argument, NULL, 'b'},
		{"socket", required_argument, NULL, 's'},
		{"poll", no_argument, NULL, 'P'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'l')
			f->lend = optarg;
		else if (option == 'd')
			f->donor = optarg;
		else if (option == 'p')
			f->port = optarg;
		else if (option == 'b')
			f->size_bytes = strtoull(optarg, NULL, 10);
		else if (option == 's')
			f->path = optarg;
		else if (option == 'P')
			f->polls = true;
		else
			usage();
	}
	if (optind != argc || f->port == NULL || f->size_bytes < SLOT_BYTES ||
	    (f->lend == NULL) == (f->donor == NULL) || (f->donor == NULL) != (f->path == NULL))
		usage();
}

int
main(int argc, char **argv)
{
	struct floor *f = calloc(1, sizeof(*f));

	if (f == NULL)
		die("no memory");
	parse_options(f, argc, argv);
	if (f->lend != NULL)
		lend(f);
	borrow(f);
	serve_clients(f);
}
