/* SPDX-License-Identifier: MIT */
/*
 * Happy path: options until EXPORT_NAME or GO.  Replies of one option are built in
 * the connection's scratch, and the next option waits until they are sent.
 * Failure modes: wrong lengths get ERR_INVALID; what is unknown ERR_UNSUP; a bad
 * magic, an option longer than the limit, too many options or too much time end
 * the connection.
 */
#include "nbd_server/handshake.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "nbd_server/conn.h"
#include "nbd_server/status.h"
#include "wire/nbd_proto.h"

static void
scratch_sent(struct nbds_conn *conn, struct nbds_out *out)
{
	(void)out;
	conn->scratch_is_busy = false;
	nbds_conn_unblock(conn);
}

static void
send_scratch(struct nbds_conn *conn)
{
	struct nbds_out *out = &conn->scratch_out;

	conn->scratch_is_busy = true;
	out->header_bytes = 0;
	out->data = conn->scratch;
	out->data_bytes = conn->scratch_bytes;
	out->done = scratch_sent;
	conn->scratch_bytes = 0;
	nbds_out_push(conn, out);
}

void
nbds_handshake_greet(struct nbds_conn *conn)
{
	conn->scratch_bytes = (uint32_t)nbdp_put_greeting(conn->scratch);
	send_scratch(conn);
}

/* A reply with @length_bytes of payload; returns where that goes. */
static uint8_t *
add_reply(struct nbds_conn *conn, uint32_t option, uint32_t reply, size_t length_bytes)
{
	uint8_t *at = conn->scratch + conn->scratch_bytes;
	uint8_t *payload = at + nbdp_put_option_reply(at, option, reply, (uint32_t)length_bytes);

	conn->scratch_bytes += NBDP_OPTION_REPLY_BYTES + (uint32_t)length_bytes;
	assert(conn->scratch_bytes <= NBDS_SCRATCH_BYTES);
	return payload;
}

static void
add_error(struct nbds_conn *conn, uint32_t option, uint32_t reply, const char *text)
{
	size_t bytes = strlen(text);

	memcpy(add_reply(conn, option, reply, bytes), text, bytes);
}

static bool
is_export(const struct nbds_conn *conn, const char *name, size_t name_bytes)
{
	const char *ours = conn->env->export_name;

	return !name_bytes || (name_bytes == strlen(ours) && !memcmp(name, ours, name_bytes));
}

static void
take_export_name(struct nbds_conn *conn, const char *name, uint32_t name_bytes)
{
	if (!is_export(conn, name, name_bytes)) {
		nbds_conn_misbehaved(conn, "asked for an unknown export");
		return;
	}
	conn->scratch_bytes = (uint32_t)nbdp_put_export_reply(
		conn->scratch, conn->env->be->size_bytes, conn->env->transmission_flags,
		conn->handshake.no_zeroes);
	nbds_conn_enter_transmission(conn);
}

static void
take_list(struct nbds_conn *conn, uint32_t option, uint32_t length_bytes)
{
	size_t name_bytes = strlen(conn->env->export_name);
	size_t text_bytes = strlen(conn->env->description);
	uint8_t *at;

	if (length_bytes) {
		add_error(conn, option, NBDP_REP_ERR_INVALID, "LIST takes no data");
		return;
	}
	at = add_reply(conn, option, NBDP_REP_SERVER, 4 + name_bytes + text_bytes);
	at += nbdp_put_u32(at, (uint32_t)name_bytes);
	memcpy(at, conn->env->export_name, name_bytes);
	memcpy(at + name_bytes, conn->env->description, text_bytes);
	add_reply(conn, option, NBDP_REP_ACK, 0);
}

static void
add_text_info(struct nbds_conn *conn, uint32_t option, enum nbdp_info info, const char *text)
{
	size_t bytes = strlen(text);
	uint8_t *at = add_reply(conn, option, NBDP_REP_INFO, 2 + bytes);

	at += nbdp_put_info_text(at, info);
	memcpy(at, text, bytes);
}

static void
add_infos(struct nbds_conn *conn, uint32_t option, const struct nbdp_info_request *request)
{
	const struct nbds_env *env = conn->env;
	uint8_t info[NBDP_INFO_BYTES_MAX];
	uint32_t wanted = 0;
	uint32_t i;
	size_t n;

	/* Asked for twice is answered once. */
	for (i = 0; i < request->infos; i++)
		if (nbdp_info_at(request, i) <= NBDP_INFO_BLOCK_SIZE)
			wanted |= 1u << nbdp_info_at(request, i);
	n = nbdp_put_info_export(info, env->be->size_bytes, env->transmission_flags);
	memcpy(add_reply(conn, option, NBDP_REP_INFO, n), info, n);
	if (wanted & (1u << NBDP_INFO_NAME))
		add_text_info(conn, option, NBDP_INFO_NAME, env->export_name);
	if ((wanted & (1u << NBDP_INFO_DESCRIPTION)) && *env->description)
		add_text_info(conn, option, NBDP_INFO_DESCRIPTION, env->description);
	if (wanted & (1u << NBDP_INFO_BLOCK_SIZE)) {
		n = nbdp_put_info_block_size(info, PAGE_BYTES, PAGE_BYTES, NBDP_PAYLOAD_BYTES_MAX);
		memcpy(add_reply(conn, option, NBDP_REP_INFO, n), info, n);
	}
	add_reply(conn, option, NBDP_REP_ACK, 0);
}

static void
take_info(struct nbds_conn *conn, uint32_t option, const uint8_t *payload, uint32_t length_bytes)
{
	struct nbdp_info_request request;

	if (nbdp_get_info_request(payload, length_bytes, &request) < 0) {
		add_error(conn, option, NBDP_REP_ERR_INVALID, "the lengths contradict each other");
		return;
	}
	if (!is_export(conn, request.name, request.name_bytes)) {
		add_error(conn, option, NBDP_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	add_infos(conn, option, &request);
	if (option == NBDP_OPT_GO)
		nbds_conn_enter_transmission(conn);
}

static bool
is_text(const char *text, uint32_t text_bytes, const char *expected)
{
	return text_bytes == strlen(expected) && !memcmp(text, expected, text_bytes);
}

static void
take_meta_context(struct nbds_conn *conn, uint32_t option, const uint8_t *payload,
		  uint32_t length_bytes)
{
	bool is_set = option == NBDP_OPT_SET_META_CONTEXT;
	struct nbdp_meta_request request;
	bool is_found;
	const char *query;
	uint32_t query_bytes;
	uint8_t *at;

	/* A SET that fails leaves nothing selected. */
	if (is_set)
		conn->handshake.has_allocation = false;
	if (!conn->handshake.has_structured) {
		add_error(conn, option, NBDP_REP_ERR_INVALID, "negotiate structured replies first");
		return;
	}
	if (nbdp_get_meta_request(payload, length_bytes, &request) < 0) {
		add_error(conn, option, NBDP_REP_ERR_INVALID, "the lengths contradict each other");
		return;
	}
	if (!is_export(conn, request.name, request.name_bytes)) {
		add_error(conn, option, NBDP_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	/* LIST without a query means all; a namespace alone means all of it. */
	is_found = !is_set && !request.queries;
	while (nbdp_meta_next(&request, &query, &query_bytes)) {
		is_found |= is_text(query, query_bytes, NBDP_BASE_ALLOCATION);
		is_found |= !is_set && is_text(query, query_bytes, "base:");
	}
	if (is_found) {
		at = add_reply(conn, option, NBDP_REP_META_CONTEXT,
			       4 + strlen(NBDP_BASE_ALLOCATION));
		at += nbdp_put_u32(at, is_set ? NBDS_ALLOCATION_ID : 0);
		memcpy(at, NBDP_BASE_ALLOCATION, strlen(NBDP_BASE_ALLOCATION));
		if (is_set)
			conn->handshake.has_allocation = true;
	}
	add_reply(conn, option, NBDP_REP_ACK, 0);
}

static void
take_structured_reply(struct nbds_conn *conn, uint32_t option, uint32_t length_bytes)
{
	if (length_bytes) {
		add_error(conn, option, NBDP_REP_ERR_INVALID, "STRUCTURED_REPLY takes no data");
		return;
	}
	conn->handshake.has_structured = true;
	add_reply(conn, option, NBDP_REP_ACK, 0);
}

static void
take_option(struct nbds_conn *conn, const struct nbdp_option *option, const uint8_t *payload)
{
	switch (option->option) {
	case NBDP_OPT_EXPORT_NAME:
		take_export_name(conn, (const char *)payload, option->length_bytes);
		break;
	case NBDP_OPT_ABORT:
		add_reply(conn, option->option, NBDP_REP_ACK, 0);
		nbds_conn_drain(conn, "client aborted the handshake");
		break;
	case NBDP_OPT_LIST:
		take_list(conn, option->option, option->length_bytes);
		break;
	case NBDP_OPT_INFO:
	case NBDP_OPT_GO:
		take_info(conn, option->option, payload, option->length_bytes);
		break;
	case NBDP_OPT_STRUCTURED_REPLY:
		take_structured_reply(conn, option->option, option->length_bytes);
		break;
	case NBDP_OPT_LIST_META_CONTEXT:
	case NBDP_OPT_SET_META_CONTEXT:
		take_meta_context(conn, option->option, payload, option->length_bytes);
		break;
	default:
		add_error(conn, option->option, NBDP_REP_ERR_UNSUP, "not supported");
		break;
	}
}

static enum nbds_step
client_flags_step(struct nbds_conn *conn)
{
	uint32_t flags;

	if (nbds_conn_input_bytes(conn) < NBDP_CLIENT_FLAGS_BYTES)
		return NBDS_STEP_INPUT;
	flags = nbdp_get_client_flags(conn->input + conn->input_start);
	conn->input_start += NBDP_CLIENT_FLAGS_BYTES;
	if (flags & ~(NBDP_FLAG_FIXED_NEWSTYLE | NBDP_FLAG_NO_ZEROES)) {
		nbds_conn_misbehaved(conn, "unknown client flags 0x%" PRIx32, flags);
		return NBDS_STEP_WAIT;
	}
	conn->handshake.has_client_flags = true;
	conn->handshake.no_zeroes = flags & NBDP_FLAG_NO_ZEROES;
	return NBDS_STEP_MORE;
}

static enum nbds_step
option_step(struct nbds_conn *conn)
{
	struct nbdp_option option;
	const uint8_t *at = conn->input + conn->input_start;
	uint32_t bytes = nbds_conn_input_bytes(conn);

	if (bytes < NBDP_OPTION_HEADER_BYTES)
		return NBDS_STEP_INPUT;
	if (nbdp_get_option(at, &option) < 0) {
		nbds_conn_misbehaved(conn, "an option without the magic number");
		return NBDS_STEP_WAIT;
	}
	if (option.length_bytes > NBDS_OPTION_BYTES_MAX ||
	    (option.option == NBDP_OPT_EXPORT_NAME &&
	     option.length_bytes > NBDP_STRING_BYTES_MAX)) {
		nbds_conn_misbehaved(conn, "option %" PRIu32 " of %" PRIu32 " bytes", option.option,
				     option.length_bytes);
		return NBDS_STEP_WAIT;
	}
	if (bytes - NBDP_OPTION_HEADER_BYTES < option.length_bytes)
		return NBDS_STEP_INPUT;
	if (++conn->handshake.options > NBDS_OPTIONS_MAX) {
		nbds_conn_misbehaved(conn, "more than %u options", NBDS_OPTIONS_MAX);
		return NBDS_STEP_WAIT;
	}
	conn->input_start += NBDP_OPTION_HEADER_BYTES + option.length_bytes;
	conn->budget--;
	take_option(conn, &option, at + NBDP_OPTION_HEADER_BYTES);
	if (conn->scratch_bytes)
		send_scratch(conn);
	return NBDS_STEP_MORE;
}

enum nbds_step
nbds_handshake_step(struct nbds_conn *conn)
{
	_Static_assert(NBDS_OPTION_BYTES_MAX + NBDP_OPTION_HEADER_BYTES <= NBDS_INPUT_BYTES,
		       "an option fits the input buffer");
	if (conn->is_draining)
		return NBDS_STEP_WAIT;
	if (conn->scratch_is_busy) {
		conn->is_blocked = true;
		return NBDS_STEP_WAIT;
	}
	return conn->handshake.has_client_flags ? option_step(conn) : client_flags_step(conn);
}
