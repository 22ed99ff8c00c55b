/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_ep.c - the life of an endpoint.
 *
 * An endpoint that failed keeps its memory, without queue pairs, until its
 * owner closes it. One that its owner closed while control messages were still
 * under way lingers for a while; nobody is told of it any more. What is over is
 * retired, and freed at the start of the next progress(), because the events of
 * the last one may point into it.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transports/verbs/verbs_port.h"

/* A packet that was lost is sent again after one to four seconds. */
#define LINGER_SECONDS 5.0
#define LINGER_MAX     1024u
/* What closing waits for payloads under way. */
#define CLOSE_NS 20000000u

gp_endpoint *
gp_vb_ep_create(gp_domain *d, uint32_t lanes)
{
    gp_endpoint *ep = calloc(1, sizeof(*ep));

    if (!ep)
        return NULL;
    ep->domain = d;
    ep->state = GP_VB_CONNECTING;
    ep->lane_count = lanes;
    ep->turn = ep->turn_heard = 1;
    ep->start_ns = gp_clock_ns();
    gp_list_init(&ep->link);
    gp_list_init(&ep->event);
    gp_list_init(&ep->ready);
    gp_list_init(&ep->control.waiting);
    gp_list_init(&ep->data.waiting);
    gp_list_init(&ep->notes);
    gp_list_init(&ep->free_entries);
    gp_list_init(&ep->sent);
    gp_list_init(&ep->received);
    for (uint32_t i = 0; i < lanes; i++)
        if (gp_vb_lane_create(ep, i, &ep->lane[i]) != GP_OK) {
            gp_vb_ep_free(ep);
            return NULL;
        }
    gp_list_insert(&d->endpoints, &ep->link);
    return ep;
}

void
gp_vb_ep_settle(gp_endpoint *ep)
{
    ep->domain->stranger_bytes -= ep->cost;
    ep->cost = 0;
}

void
gp_vb_ep_opened(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    if (ep->state != GP_VB_CONNECTING)
        return;
    if (ep->accepted)
        d->pending_accepts--;
    ep->state = GP_VB_OPEN;
    ep->deadline_ns = UINT64_MAX;
    gp_list_insert(&d->opened, &ep->event);
    gp_vb_ready(ep);
}

static void
fence_all(gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->lane_count; i++) {
        gp_vb_lane *lane = ep->lane[i];

        if (!lane)
            continue;
        gp_vb_lane_drop(lane);
        lane->state = GP_VB_LANE_IDLE;
        lane->retry_ns = 0;
    }
}

static void
log_end(gp_endpoint *ep)
{
    /* With tcp left, its owner says why that is taken. */
    if (ep->status == GP_OK ||
        (ep->state == GP_VB_CONNECTING && !ep->accepted && ep->domain->hasty))
        GP_DEBUG("verbs %s: %s", ep->peer, ep->why);
    else if (ep->trusted || !ep->accepted ||
             gp_log_may(&ep->domain->log, "verbs"))
        GP_WARN("verbs %s: %s (%s)", ep->peer, ep->why,
                gp_status_text(ep->status));
}

/* Nobody was told of it, or its owner has closed it. */
static void
vanish(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    if (ep->accepted && ep->state == GP_VB_CONNECTING)
        d->pending_accepts--;
    ep->state = GP_VB_CLOSED;
    fence_all(ep);
    gp_vb_mem_close(ep);
    gp_list_remove(&ep->event);
    gp_list_remove(&ep->ready);
    gp_list_remove(&ep->link);
    gp_list_insert(&d->retired, &ep->link);
}

void
gp_vb_ep_fail(gp_endpoint *ep, gp_status status, const char *format, ...)
{
    bool unknown = ep->accepted && ep->state == GP_VB_CONNECTING;
    va_list args;

    if (ep->state == GP_VB_CLOSED)
        return;
    if (ep->state == GP_VB_LINGERING) {
        vanish(ep);
        return;
    }
    va_start(args, format);
    vsnprintf(ep->why, sizeof(ep->why), format, args);
    va_end(args);
    ep->status = status;
    log_end(ep);
    if (unknown) {
        vanish(ep);
        return;
    }
    ep->state = GP_VB_CLOSED;
    fence_all(ep);
    free(ep->attempt);
    ep->attempt = NULL;
    /* ACCEPTED or CONNECTED still comes first when it is due. */
    if (gp_list_empty(&ep->event))
        gp_list_insert(&ep->domain->closed, &ep->event);
}

static bool
any_lane_up(const gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && (ep->lane[i]->state == GP_VB_LANE_SYNCING ||
                            ep->lane[i]->state == GP_VB_LANE_UP))
            return true;
    return false;
}

void
gp_vb_ep_linger(gp_endpoint *ep, uint64_t now)
{
    if (ep->state != GP_VB_LINGERING)
        return;
    if (!gp_vb_has_unsent(ep) || !any_lane_up(ep) || now >= ep->deadline_ns)
        vanish(ep);
    else
        gp_vb_wake_at(ep->domain, ep->deadline_ns);
}

/* The farewell is queued behind the control messages that were posted. */
static void
start_to_linger(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;
    uint32_t lingering = 0;

    gp_vb_mem_close(ep);
    if (ep->state == GP_VB_CLOSED) { /* its last queue pair did not end that */
        vanish(ep);
        return;
    }
    gp_list_remove(&ep->event);
    ep->state = GP_VB_LINGERING;
    ep->deadline_ns = gp_deadline(LINGER_SECONDS);
    if (gp_vb_note(ep, GP_VB_RECORD_BYE, 0, NULL, 0) != GP_OK) {
        vanish(ep);
        return;
    }
    ep->bye_sent = true;
    gp_list_remove(&ep->link);
    GP_LIST_EACH (item, &d->lingering)
        lingering++;
    if (lingering >= LINGER_MAX)
        vanish(GP_CONTAINER_OF(d->lingering.next, gp_endpoint, link));
    gp_list_insert(&d->lingering, &ep->link);
    gp_vb_send(ep);
    gp_vb_ready(ep);
    gp_vb_ep_linger(ep, gp_clock_ns());
}

/* False when devices may still read payloads after a moment. Requests that are
 * under way take microseconds as a rule, and with them done the peer hears an
 * orderly end; ending them by force would look to it like a fault. */
static bool
payloads_are_free(gp_endpoint *ep)
{
    uint64_t deadline = gp_clock_ns() + CLOSE_NS;

    while (ep->state == GP_VB_OPEN && gp_vb_drop_data(ep)) {
        gp_vb_send(ep); /* control */
        if (!any_lane_up(ep) || gp_expired(deadline))
            return false;
        if (gp_vb_poll(ep->domain) <= 0)
            (void)sched_yield();
    }
    return ep->state == GP_VB_OPEN;
}

void
gp_vb_ep_close(gp_endpoint *ep)
{
    ep->user = NULL;
    if (ep->state == GP_VB_OPEN && payloads_are_free(ep) && any_lane_up(ep))
        start_to_linger(ep);
    else
        vanish(ep);
}

void
gp_vb_ep_free(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    gp_vb_ep_settle(ep);
    gp_list_remove(&ep->link);
    gp_list_remove(&ep->event);
    gp_list_remove(&ep->ready);
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i])
            gp_vb_lane_free(ep->lane[i]);
    gp_vb_slab_free(ep);
    gp_vb_entries_free(ep);
    gp_vb_mem_close(ep);
    for (uint32_t i = 0; i < GP_VB_PATH_MAX; i++)
        if (ep->pd[i])
            gp_vb_pd_put(d, ep->pd[i]);
    gp_regions_free(&ep->regions);
    free(ep->exposure);
    free(ep->remote);
    free(ep->attempt);
    free(ep);
}
