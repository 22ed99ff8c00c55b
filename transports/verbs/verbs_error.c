/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_error.c - what a failed completion means, in words.
 *
 * Of a completion that failed only wr_id, status, qp_num and vendor_err are
 * defined; nothing else is looked at.
 */
#include <stdio.h>
#include <string.h>

#include "transports/verbs/verbs_port.h"

/* A cause that is outside of gradpush is a lost peer; one that can only be a
 * mistake in it, or in the device, is not called so. */
static const struct {
    enum ibv_wc_status wc;
    gp_status status;
    const char *text, *hint;
} causes[] = {
    {IBV_WC_LOC_LEN_ERR, GP_ERR_PROTOCOL,
     "a message was longer than the receive for it", NULL},
    {IBV_WC_LOC_QP_OP_ERR, GP_ERR_SYSTEM, "the device refused a work request",
     "its link went down, or a defect of gradpush or the driver"},
    {IBV_WC_LOC_PROT_ERR, GP_ERR_SYSTEM,
     "the device may not touch memory of a work request",
     "was memory freed before it was withdrawn? For GPU memory: is ACS off?"},
    {IBV_WC_WR_FLUSH_ERR, GP_ERR_PEER_LOST, "the queue pair was given up",
     NULL},
    {IBV_WC_MW_BIND_ERR, GP_ERR_SYSTEM, "a memory window cannot be bound",
     "try GRADPUSH_IB_WINDOWS=off"},
    {IBV_WC_BAD_RESP_ERR, GP_ERR_PEER_LOST,
     "the peer's device sent an answer that makes no sense", NULL},
    {IBV_WC_LOC_ACCESS_ERR, GP_ERR_SYSTEM,
     "the device may not write what arrived", NULL},
    {IBV_WC_REM_INV_REQ_ERR, GP_ERR_PEER_LOST,
     "the peer's device called a request invalid",
     "do both sides run the same gradpush?"},
    {IBV_WC_REM_ACCESS_ERR, GP_ERR_PEER_LOST,
     "the peer's device refused a write",
     "the region is not there any more: has the peer closed or restarted?"},
    {IBV_WC_REM_OP_ERR, GP_ERR_PEER_LOST,
     "the peer's device could not finish a request",
     "see dmesg on the peer's host"},
    {IBV_WC_RETRY_EXC_ERR, GP_ERR_PEER_LOST, "the peer's device did not answer",
     "host down, link down, or packets lost: check cable, VLAN, PFC and MTU; "
     "on a busy network raise GRADPUSH_IB_TIMEOUT"},
    {IBV_WC_RNR_RETRY_EXC_ERR, GP_ERR_PROTOCOL,
     "the peer had no receive for a message", "a defect of gradpush"},
    {IBV_WC_REM_ABORT_ERR, GP_ERR_PEER_LOST,
     "the peer's device ended the connection", NULL},
    {IBV_WC_FATAL_ERR, GP_ERR_SYSTEM, "the device failed", "see dmesg"},
    {IBV_WC_RESP_TIMEOUT_ERR, GP_ERR_PEER_LOST,
     "the peer's device did not answer in time", NULL},
    {IBV_WC_GENERAL_ERR, GP_ERR_SYSTEM, "the device reports an error",
     "see dmesg"},
};

static size_t
find(enum ibv_wc_status status)
{
    size_t i = 0;

    while (i < GP_COUNT_OF(causes) && causes[i].wc != status)
        i++;
    return i;
}

static const char *
kind_of(uint64_t wr_id)
{
    switch (gp_vb_wr_kind(wr_id)) {
    case GP_VB_WR_WRITE:
        return "write";
    case GP_VB_WR_FRAME:
        return "frame";
    case GP_VB_WR_RECEIVE:
        return "receive";
    case GP_VB_WR_BIND:
        return "bind";
    case GP_VB_WR_PROBE:
        return "probe";
    case GP_VB_WR_DRAIN:
        return "last request";
    }
    return "request";
}

gp_status
gp_vb_explain(const gp_vb_lane *lane, const struct ibv_wc *wc, char *text,
              size_t capacity)
{
    const gp_verbs_api *api = lane->ep->domain->api;
    const char *cause = "a work request failed", *hint = NULL;
    gp_status status = GP_ERR_SYSTEM;
    size_t i = find(wc->status);
    char down[32];

    if (i < GP_COUNT_OF(causes)) {
        cause = causes[i].text;
        hint = causes[i].hint;
        status = causes[i].status;
    }
    /* What a device says of a request when its own port is down differs from
     * one to the next, so the port itself is asked. */
    if (gp_vb_port_down(lane->ep->domain, lane->id)) {
        snprintf(down, sizeof(down), "port %u is down", lane->id->port_num);
        cause = down;
        hint = GP_VB_PORT_HINT;
        status = GP_ERR_PEER_LOST;
    }
    snprintf(text, capacity, "%s (%s; %s %u, qp 0x%x on %s, vendor 0x%x)%s%s",
             cause, api->wc_status_str(wc->status), kind_of(wc->wr_id),
             gp_vb_wr_index(wc->wr_id), wc->qp_num,
             lane->device ? lane->device->name : "no device", wc->vendor_err,
             hint ? "; hint: " : "", hint ? hint : "");
    return status;
}
