/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_peer.h - memory of accelerators, and the ways by which RDMA devices
 * reach it: a registered DMA-BUF, addresses that a peer-memory module
 * translates, or none.
 *
 * A domain has a pair for each accelerator and device. A pair's way is found
 * out once, before anything is sent, and can only get worse: when a device
 * refuses a registration, or fails at a transfer that involves the memory. Then
 * all lanes on that device are lost and come back, and what they carried is
 * sent again by the next way; by the last of them, which is none, in pieces
 * that are copied by the accelerator.
 */
#ifndef GP_VERBS_PEER_H
#define GP_VERBS_PEER_H

#include "transports/verbs/verbs_int.h"

#define GP_VB_PEER_TEXT 200

typedef struct gp_vb_pair {
    gp_list link; /* domain->pairs */
    gp_domain *domain;
    const gp_peer_memory *peer;
    char name[32];   /* the accelerator's, for the log */
    char device[64]; /* the RDMA device's */
    gp_direct way;
    bool works[GP_DIRECT_STAGING];                /* as far as is known */
    char why[GP_DIRECT_STAGING][GP_VB_PEER_TEXT]; /* where not */
    bool stale; /* what was registered by a way before is to go */
} gp_vb_pair;

/* For the table. */
gp_status gp_vb_peer_probe(gp_domain *d, const gp_peer_memory *peer, void *base,
                           size_t bytes);
gp_status gp_vb_mem_reg_peer(gp_domain *d, const gp_peer_memory *peer,
                             void *base, size_t bytes, gp_mem **out);
gp_direct gp_vb_peer_way(const gp_endpoint *ep, const gp_mem *mem);
bool gp_vb_peer_describe(const gp_domain *d, const gp_peer_memory *peer,
                         uint32_t n, gp_direct *way, char *text,
                         size_t capacity);
void gp_vb_peers_free(gp_domain *d);

/* Registers a part of such a memory by the pair's way, or by the next one that
 * works. NULL: by none, which is no fault; errors of GRADPUSH_GDR_*=yes are for
 * the log. */
struct ibv_mr *gp_vb_peer_register(const gp_vb_mem *mem, const gp_vb_pd *pd,
                                   size_t offset, size_t bytes, int access);

/* A WRITE from that memory is about to be posted as `position`. */
void gp_vb_peer_posted(gp_vb_lane *lane, const gp_vb_mem *mem,
                       uint32_t position);
/* A request of the lane failed, or its queue pair was refused access: when an
 * accelerator's memory may be the reason its pair goes one way down, and all
 * lanes on the device break. */
void gp_vb_peer_request_failed(gp_vb_lane *lane, enum ibv_wc_status status);
void gp_vb_peer_access_failed(gp_vb_lane *lane);
/* After lanes that broke were fenced. */
void gp_vb_peer_renew(gp_domain *d);

/* memcpy() from a payload, to a region; false, with the endpoint broken. */
bool gp_vb_peer_load(gp_vb_lane *lane, const gp_vb_mem *mem, void *to,
                     const void *from, size_t bytes);
bool gp_vb_peer_store(gp_vb_lane *lane, uint32_t token, void *to,
                      const void *from, size_t bytes);

#endif
