/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers.h - two ends of one connection, made of plain verbs calls: what the
 * fabric's own tests speak with. Step mode only; waits give up after a number
 * of turns and fail the test.
 */
#ifndef GP_SIM_PEERS_H
#define GP_SIM_PEERS_H

#include "tests/sim/sim.h"

#define PEER_BYTES 65536

typedef struct peer {
    const gp_verbs_api *api;
    struct rdma_event_channel *events;
    struct rdma_cm_id *id, *listener;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    struct ibv_qp *qp;
    uint8_t *memory; /* PEER_BYTES, registered for remote writing */
} peer;

typedef struct peers {
    gp_sim *sim;
    const gp_verbs_api *api;
    peer a, b; /* a connects, b listens */
    /* How the next connection is made. */
    unsigned send_wrs, recv_wrs, receives, entries;
    uint8_t rnr_retry;
} peers;

void peers_open(peers *p, const gp_sim_options *options);
void peers_connect(peers *p);
void peers_connected(peers *p, const gp_sim_options *options);
/* Ends the connection and releases everything of it, in the right order. */
void peers_release(peers *p);
/* Releases, and fails the test unless the fabric is empty and content. */
void peers_close(peers *p);
/* The same where `violations` are expected. */
void peers_close_after(peers *p, size_t violations);

void peer_make_qp(peers *p, peer *of);
void peer_drop(peer *of); /* everything but the event channel */
/* The next event; acknowledged unless `keep`. */
struct rdma_cm_event *peer_event(peers *p, peer *of,
                                 enum rdma_cm_event_type type, bool keep);
bool peer_no_event(peers *p, peer *of);

int peer_send(peer *from, size_t at, size_t bytes, uint64_t wr_id,
              unsigned flags);
int peer_write(peer *from, const peer *to, size_t at, size_t bytes,
               uint64_t wr_id, unsigned flags);
int peer_write_imm(peer *from, const peer *to, size_t at, size_t bytes,
                   uint64_t wr_id, uint32_t imm_be);
int peer_receive(peer *at, size_t offset, size_t bytes, uint64_t wr_id);
/* One completion. */
struct ibv_wc peer_completion(peers *p, peer *of);
bool peer_quiet(peers *p, peer *of);
/* Expects a violation with that text in it, and forgets all. */
void expect_violation(gp_sim *sim, const char *text);

#endif
