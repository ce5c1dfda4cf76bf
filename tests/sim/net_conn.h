/* SPDX-License-Identifier: MIT */
/* net_conn.h - the two ends of a connection, from connect to down(). */
#ifndef TESTS_SIM_NET_CONN_H
#define TESTS_SIM_NET_CONN_H

#include "sim/net.h"

int sim_connect(struct tp *tp, const char *address, uint64_t timeout_ns,
		const struct tp_conn_events *events, void *arg, struct tp_conn **ret_conn);
void sim_accept(struct tp_conn *conn, const struct tp_conn_events *events, void *arg);
void sim_close(struct tp_conn *conn);
const char *sim_conn_name(const struct tp_conn *conn);
int sim_send(struct tp_conn *conn, const void *msg, size_t length_bytes);

/* What waited for a link goes on. */
void sim_conn_unstall(struct sim_conn *c);
/* Its host is gone: nothing more happens here; @is_told: the other end hears of it. */
void sim_conn_vanish(struct sim_conn *c, bool is_told);
void sim_conn_free(struct sim_conn *c);

#endif /* TESTS_SIM_NET_CONN_H */
