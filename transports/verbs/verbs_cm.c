/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_cm.c - events of rdma_cm, and lanes that are lost, come back, or do
 * not.
 *
 * An event is copied and acknowledged before it is handled: destroying an id
 * waits for the acknowledgement of its events, and private data is gone with
 * it. A lane that is lost is judged by a timer, after what had arrived on it
 * was delivered: a farewell may be among it, and then nothing was lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_port.h"

/* Events before others' turn. */
#define EVENTS        256
#define LOOK_AGAIN_NS 1000000u
/* How long what had arrived may take to be delivered before a lane is judged:
 * under load there is always something more. */
#define LOOK_MAX_NS 20000000u
/* A lane that is lost so often and moves nothing in between will be lost
 * again. */
#define LOSSES_MAX 5u
#define GOOD_NS    UINT64_C(10000000000)

/* The lane stays in use while it is up, so that control messages rarely
 * change lanes. */
static void
choose_control_lane(gp_endpoint *ep)
{
    const gp_vb_lane *now = ep->lane[ep->control_lane];

    if (now->state == GP_VB_LANE_SYNCING || now->state == GP_VB_LANE_UP)
        return;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i]->state == GP_VB_LANE_SYNCING ||
            ep->lane[i]->state == GP_VB_LANE_UP) {
            ep->control_lane = i;
            return;
        }
}

void
gp_vb_cm_up(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    gp_domain *d = ep->domain;

    if (lane->opened) {
        d->reconnects++;
        if (lane->said)
            GP_WARN("verbs %s: lane %u is back", ep->peer, lane->index);
    }
    lane->opened = true;
    lane->said = false;
    lane->retry_ns = lane->lost_ns = 0;
    lane->state = GP_VB_LANE_SYNCING;
    if (lane->synced)
        lane->state = GP_VB_LANE_UP;
    lane->probe_ns = lane->up_ns = gp_clock_ns();
    choose_control_lane(ep);
    if (ep->state == GP_VB_CONNECTING) {
        gp_vb_ep_opened(ep);
        if (ep->accepted && ep->lane_count > 1)
            gp_vb_accept_tell_rails(ep);
    }
    if (d->keepalive_ns)
        gp_vb_wake_at(d, lane->probe_ns + d->keepalive_ns / 2);
    gp_vb_ready(ep);
}

void
gp_vb_cm_established(gp_vb_lane *lane)
{
    if (lane->state != GP_VB_LANE_CONNECTING || !lane->ep->accepted)
        return;
    gp_vb_cm_up(lane);
}

static uint32_t
peer_queue_pair(const gp_vb_lane *lane)
{
    struct ibv_qp_attr attr = {0};
    struct ibv_qp_init_attr init = {0};

    if (!lane->qp || lane->ep->domain->api->query_qp(lane->qp, &attr,
                                                     IBV_QP_DEST_QPN, &init))
        return 0;
    return attr.dest_qp_num;
}

/* With other lanes left the peer need not wait for this one. Without memory for
 * the note it waits. */
static void
say_reached(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    uint8_t bytes[12] = {(uint8_t)lane->index};

    lane->adrift = true;
    lane->lost_epoch = lane->epoch;
    if (ep->lane_count == 1 || ep->state != GP_VB_OPEN)
        return;
    gp_put32(bytes + 4, lane->epoch);
    gp_put32(bytes + 8, lane->expected);
    if (gp_vb_note(ep, GP_VB_RECORD_REACHED, 0, bytes, sizeof(bytes)) != GP_OK)
        GP_DEBUG("verbs %s: %s", ep->peer, gp_last_error());
}

/* With others up, time costs speed only. */
bool
gp_vb_lane_overdue(const gp_vb_lane *lane, uint64_t now, uint64_t *until)
{
    const gp_endpoint *ep = lane->ep;

    *until = lane->lost_ns;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] != lane && ep->lane[i]->state == GP_VB_LANE_UP)
            *until = lane->patient_ns;
    return now >= *until;
}

static void
set_deadlines(gp_vb_lane *lane, uint64_t now)
{
    const gp_domain *d = lane->ep->domain;

    lane->lost_ns = lane->patient_ns = now;
    if (lane->device && lane->device->gone)
        return; /* it does not come back */
    if (d->reconnect_seconds <= 0)
        return;
    lane->lost_ns = gp_deadline(d->reconnect_seconds);
    lane->patient_ns = GP_MAX(lane->lost_ns, gp_deadline(d->rail_seconds));
}

void
gp_vb_cm_lose(gp_vb_lane *lane, gp_status status, const char *why)
{
    gp_endpoint *ep = lane->ep;
    gp_domain *d = ep->domain;
    uint32_t here = lane->qp ? lane->qp->qp_num : 0;
    uint32_t there = peer_queue_pair(lane);

    snprintf(lane->cause, sizeof(lane->cause),
             "%s [lane %u, qp 0x%x to 0x%x, %s:%u]", why, lane->index, here,
             there, lane->device ? lane->device->name : "?",
             lane->id ? lane->id->port_num : 0u);
    lane->cause_status = status;
    gp_vb_lane_drop(lane);
    lane->state = GP_VB_LANE_LOST;
    lane->said = false;
    choose_control_lane(ep);
    gp_vb_unassign(lane);
    say_reached(lane);
    lane->retry_ns = gp_clock_ns();
    lane->judge_ns = lane->retry_ns + LOOK_MAX_NS;
    set_deadlines(lane, lane->retry_ns);
    if (lane->losses++ && (lane->progress != lane->messages ||
                           lane->retry_ns - lane->up_ns > GOOD_NS))
        lane->losses = 1;
    lane->progress = lane->messages;
    lane->backoff_ns = 0;
    gp_vb_wake_at(d, lane->retry_ns);
    if (!gp_list_empty(&ep->received))
        gp_vb_ready(ep);
    gp_vb_ep_linger(ep, lane->retry_ns);
}

void
gp_vb_lane_failed(gp_vb_lane *lane, gp_status status, const char *format, ...)
{
    gp_endpoint *ep = lane->ep;
    char why[400];
    va_list args;

    if (ep->state == GP_VB_CLOSED || lane->state == GP_VB_LANE_IDLE ||
        lane->state == GP_VB_LANE_LOST)
        return;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (!lane->opened && ep->accepted && ep->state == GP_VB_CONNECTING)
        gp_vb_ep_fail(ep, status, "%s", why);
    else if (lane->opened &&
             (lane->state >= GP_VB_LANE_SYNCING || ep->accepted))
        gp_vb_cm_lose(lane, status, why);
    else if (ep->accepted)
        gp_vb_accept_failed(lane, why);
    else
        gp_vb_connect_failed(lane, "%s", why);
}

/* Tells the peer how far the lane got, which is the last word about it. */
static void
say_lost(gp_vb_lane *lane)
{
    uint8_t bytes[8] = {(uint8_t)lane->index};

    if (lane->told_lost)
        return;
    lane->told_lost = true;
    gp_put32(bytes + 4, lane->expected);
    if (gp_vb_note(lane->ep, GP_VB_RECORD_LOST, 0, bytes, sizeof(bytes)) !=
        GP_OK)
        gp_vb_ep_fail(lane->ep, GP_ERR_NO_MEMORY, "out of memory");
}

/* Whether any lane but this one still is, or may come back. */
static bool
others_left(const gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] != lane && ep->lane[i]->opened &&
            !ep->lane[i]->given_up)
            return true;
    return false;
}

static uint32_t
lanes_left(const gp_endpoint *ep)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        left += ep->lane[i]->opened && !ep->lane[i]->given_up;
    return left;
}

/* What this endpoint does without the lane from now on. */
static void
leave_lane(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;

    gp_vb_lane_drop(lane);
    lane->state = GP_VB_LANE_IDLE;
    lane->retry_ns = lane->lost_ns = 0;
    if (lane->opened)
        say_lost(lane);
    lane->given_up = true;
    choose_control_lane(ep);
    GP_WARN("verbs %s: goes on with %u of %u lanes: %s", ep->peer,
            lanes_left(ep), ep->lane_count, lane->cause);
    gp_vb_ready(ep);
}

void
gp_vb_cm_give_up(gp_vb_lane *lane, const char *why)
{
    gp_endpoint *ep = lane->ep;
    gp_status status = lane->cause_status;

    if (others_left(lane)) {
        leave_lane(lane);
        return;
    }
    if (status == GP_OK || status == GP_AGAIN)
        status = GP_ERR_PEER_LOST;
    if (lane->cause[0])
        gp_vb_ep_fail(ep, status, "%s%s%s", lane->cause, why ? "; " : "",
                      why ? why : "");
    else
        gp_vb_ep_fail(ep, status, "%s", why ? why : "the connection ended");
}

void
gp_vb_cm_lost(gp_endpoint *ep, uint32_t index, uint32_t next_frame)
{
    gp_vb_lane *lane = index < ep->lane_count ? ep->lane[index] : NULL;

    if (!lane || lane->peer_gave_up || ep->state == GP_VB_CLOSED)
        return;
    lane->peer_gave_up = true;
    if (!lane->given_up && !others_left(lane)) {
        gp_vb_ep_fail(ep, GP_ERR_PEER_LOST, "the peer gave up the last lane");
        return;
    }
    if (!lane->given_up) {
        if (!lane->cause[0])
            snprintf(lane->cause, sizeof(lane->cause),
                     "the peer gave up lane %u", index);
        leave_lane(lane);
    }
    /* It waits for the answer, also for a lane that was never up here. */
    say_lost(lane);
    if (ep->state != GP_VB_CLOSED)
        gp_vb_lane_forget(lane, next_frame);
}

static bool
says_more(const gp_endpoint *ep)
{
    return ep->state == GP_VB_OPEN || ep->state == GP_VB_LINGERING;
}

void
gp_vb_cm_reached(gp_endpoint *ep, uint32_t index, uint32_t epoch,
                 uint32_t next_frame)
{
    gp_vb_lane *lane = index < ep->lane_count ? ep->lane[index] : NULL;

    if (!lane || lane->given_up || !says_more(ep))
        return;
    if (lane->epoch == epoch &&
        (lane->state == GP_VB_LANE_SYNCING || lane->state == GP_VB_LANE_UP))
        gp_vb_cm_lose(lane, GP_ERR_PEER_LOST, "the peer lost it");
    if (!says_more(ep) || !lane->adrift || lane->lost_epoch != epoch)
        return;
    lane->adrift = false;
    gp_vb_lane_forget(lane, next_frame);
}

void
gp_vb_cm_rails(gp_endpoint *ep, const uint8_t *bytes, size_t length)
{
    if (!ep->accepted && ep->state == GP_VB_OPEN)
        gp_vb_connect_rails(ep, bytes, length);
}

/* ----------------------------------------------------------------- events */

static void
lane_event(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    const gp_verbs_api *api = lane->ep->domain->api;

    switch (event->type) {
    case RDMA_CM_EVENT_DISCONNECTED:
        gp_vb_lane_failed(lane, GP_ERR_PEER_LOST,
                          "the peer ended the connection");
        break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        if (lane->device)
            gp_vb_device_gone(lane->device, "the device was removed");
        else
            gp_vb_lane_failed(lane, GP_ERR_SYSTEM, "the device was removed");
        break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_ADDR_CHANGE:
    case RDMA_CM_EVENT_MULTICAST_JOIN:
    case RDMA_CM_EVENT_MULTICAST_ERROR:
        GP_DEBUG("verbs %s: %s", lane->ep->peer,
                 api->rdma_event_str(event->type));
        break;
    default:
        if (lane->ep->accepted)
            gp_vb_accept_event(lane, event);
        else
            gp_vb_connect_event(lane, event);
        break;
    }
}

/* The device stays in the system until its last id is gone. */
static void
listener_event(gp_domain *d, const gp_vb_cm_event *event)
{
    if (event->type != RDMA_CM_EVENT_DEVICE_REMOVAL) {
        GP_WARN("verbs: the listener got %s: %s",
                d->api->rdma_event_str(event->type),
                strerror(abs(event->status)));
        return;
    }
    GP_WARN("verbs: the device that peers connect to was removed: nobody else "
            "can connect");
    (void)d->api->rdma_destroy_id(d->listener);
    d->listener = NULL;
}

static void
handle(gp_domain *d, const gp_vb_cm_event *event)
{
    gp_vb_lane *lane = event->id->context;

    if (event->type == RDMA_CM_EVENT_CONNECT_REQUEST)
        gp_vb_accept_request(d, event);
    else if (event->id == d->listener)
        listener_event(d, event);
    else if (lane && lane->id == event->id)
        lane_event(lane, event);
    else if (event->type == RDMA_CM_EVENT_DEVICE_REMOVAL)
        gp_vb_parked_removal(d, event->id);
}

static void
copy_event(const struct rdma_cm_event *from, gp_vb_cm_event *to)
{
    const struct rdma_conn_param *param = &from->param.conn;

    to->type = from->event;
    to->status = from->status;
    to->id = from->id;
    to->listener = from->listen_id;
    to->length = 0;
    if (param->private_data) {
        to->length = GP_MIN((size_t)param->private_data_len, sizeof(to->bytes));
        memcpy(to->bytes, param->private_data, to->length);
    }
}

void
gp_vb_cm_events(gp_domain *d)
{
    for (int i = 0; i < EVENTS; i++) {
        struct rdma_cm_event *event = NULL;
        gp_vb_cm_event copy;

        if (d->api->rdma_get_cm_event(d->channel, &event))
            return;
        copy_event(event, &copy);
        (void)d->api->rdma_ack_cm_event(event);
        handle(d, &copy);
    }
}

/* ----------------------------------------------------------------- timers */

/* The peer's device is asked when nothing was heard for a while: it answers
 * though its process may be stopped, and a host that is gone does not. */
static void
check_silence(gp_vb_lane *lane, uint64_t now)
{
    gp_domain *d = lane->ep->domain;
    uint64_t limit = d->keepalive_ns, silent;

    if (lane->state != GP_VB_LANE_UP && lane->state != GP_VB_LANE_SYNCING)
        return;
    if (lane->alive || lane->probe_ns > now) {
        lane->alive = false;
        lane->probe_ns = now;
    }
    silent = now - lane->probe_ns;
    /* Behind much data on a slow link the answer takes longer; the device's
     * own retries end that if need be. */
    if (lane->sq_posted - lane->sq_retired > 1)
        limit *= 4;
    if (lane->probing && silent >= limit && gp_vb_port_failed(lane))
        return;
    if (lane->probing && silent >= limit) {
        gp_vb_lane_failed(lane, GP_ERR_PEER_LOST,
                          "the peer's device has not answered for %.1f s",
                          (double)silent / 1e9);
        return;
    }
    if (!lane->probing && silent >= d->keepalive_ns / 2)
        gp_vb_probe(lane);
    gp_vb_wake_at(d, now + d->keepalive_ns / 4);
}

static void
judge_lost(gp_vb_lane *lane, uint64_t now)
{
    gp_endpoint *ep = lane->ep;
    gp_domain *d = ep->domain;
    uint64_t until;

    if (gp_vb_has_received(ep) && now < lane->judge_ns) {
        gp_vb_ready(ep);
        gp_vb_wake_at(d, now + LOOK_AGAIN_NS);
        return;
    }
    if (gp_vb_lane_overdue(lane, now, &until) || lane->losses > LOSSES_MAX) {
        gp_vb_cm_give_up(lane, NULL);
        return;
    }
    if (!lane->said) {
        lane->said = true;
        GP_WARN("verbs %s: %s; it has %.1f s to come back", ep->peer,
                lane->cause, (double)(until - now) / 1e9);
    }
    if (!ep->accepted && now >= lane->retry_ns)
        gp_vb_connect_lane(lane, now);
    gp_vb_wake_at(d, until);
    if (lane->state == GP_VB_LANE_LOST && !ep->accepted && lane->retry_ns)
        gp_vb_wake_at(d, lane->retry_ns);
}

static void
lane_timers(gp_endpoint *ep, uint64_t now)
{
    for (uint32_t i = 0; i < ep->lane_count && ep->state == GP_VB_OPEN; i++) {
        gp_vb_lane *lane = ep->lane[i];

        if (lane->state == GP_VB_LANE_LOST)
            judge_lost(lane, now);
        else if (ep->domain->keepalive_ns)
            check_silence(lane, now);
    }
}

void
gp_vb_cm_timers(gp_domain *d, uint64_t now)
{
    GP_LIST_EACH (item, &d->endpoints) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        if (ep->state == GP_VB_CLOSED)
            continue;
        if (ep->accepted)
            gp_vb_accept_timer(ep, now);
        else
            gp_vb_connect_timer(ep, now);
        lane_timers(ep, now);
    }
    gp_vb_port_timer(d, now);
    gp_vb_parked_timer(d, now);
    GP_LIST_EACH (item, &d->lingering)
        gp_vb_ep_linger(GP_CONTAINER_OF(item, gp_endpoint, link), now);
}
