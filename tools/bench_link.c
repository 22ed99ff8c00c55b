/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_link.c - one connection over any transport, for benchmarks.
 *
 * progress() is called only when no event is left, since a control payload
 * lives until then.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "bench_link.h"

#define CLOCK_EVERY 16u

gp_status
gp_link_open(const gp_config *config, const gp_transport_ops *ops, gp_link *out)
{
    memset(out, 0, sizeof(*out));
    out->ops = ops;
    out->spin_ns = (uint64_t)(gp_config_seconds(config, "spin") * 1e9);
    out->timeout = gp_config_seconds(config, "timeout");
    return ops->open(config, &out->domain);
}

void
gp_link_close(gp_link *link)
{
    if (link->ep)
        link->ops->ep_close(link->ep);
    if (link->ops)
        link->ops->close(link->domain);
    memset(link, 0, sizeof(*link));
}

gp_status
gp_link_listen(gp_link *link, const char *address, char *bound, size_t capacity)
{
    return link->ops->listen(link->domain, address, bound, capacity);
}

/* Sleeps until the transport has something to do. */
static gp_status
link_sleep(gp_link *link, uint64_t deadline)
{
    struct pollfd fd = {link->ops->event_fd(link->domain), POLLIN, 0};
    gp_status status = link->ops->arm(link->domain);

    if (status == GP_AGAIN)
        return GP_OK;
    if (status != GP_OK)
        return status;
    if (poll(&fd, 1, gp_deadline_ms(deadline)) < 0 && errno != EINTR)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "poll");
    return GP_OK;
}

/* What the last progress() said. */
static gp_status
failed(gp_link *link)
{
    gp_status status = link->count < 0 ? (gp_status)link->count : GP_OK;

    link->count = GP_MAX(link->count, 0);
    return status;
}

/* Gets events until there is one or the deadline passes; 0 is the link's usual
 * time from now. The clock is asked now and then: it may cost more than a look
 * for events. */
static gp_status
link_fill(gp_link *link, uint64_t deadline)
{
    uint64_t spin = 0, now;
    gp_status status = GP_OK;

    link->first = 0;
    for (unsigned empty = 1;; empty++) {
        link->count =
            link->ops->progress(link->domain, link->events, GP_LINK_EVENTS);
        if (link->count > 0)
            return GP_OK;
        status = failed(link);
        if (status != GP_OK)
            return status;
        if (link->spin_ns && empty % CLOCK_EVERY)
            continue;
        now = gp_clock_ns();
        if (!spin)
            spin = now + link->spin_ns;
        if (!deadline)
            deadline = gp_deadline(link->timeout);
        if (now < spin)
            continue;
        if (gp_expired(deadline))
            return gp_fail(GP_ERR_TIMEOUT, "the other side is silent");
        status = link_sleep(link, deadline);
        if (status != GP_OK)
            return status;
    }
}

/* It stays until the next one is taken. */
static gp_status
link_take(gp_link *link, uint64_t deadline, const gp_event **out)
{
    if (!link->count) {
        gp_status status = link_fill(link, deadline);

        if (status != GP_OK)
            return status;
    }
    *out = &link->events[link->first++];
    link->count--;
    return GP_OK;
}

static gp_status
link_closed(const gp_event *event)
{
    if (event->status == GP_OK)
        return gp_fail(GP_ERR_PEER_LOST,
                       "the other side closed the connection");
    return gp_fail(event->status, "connection lost: %s",
                   gp_status_text(event->status));
}

gp_status
gp_link_accept(gp_link *link, double seconds)
{
    uint64_t deadline = gp_deadline(seconds);
    const gp_event *event = NULL;
    gp_status status;

    do
        status = link_take(link, deadline, &event);
    while (status == GP_OK && event->type != GP_EVENT_ACCEPTED);
    if (status == GP_OK)
        link->ep = event->ep;
    return status;
}

gp_status
gp_link_connect(gp_link *link, const char *address, double seconds)
{
    uint64_t deadline = gp_deadline(seconds);
    const gp_event *event = NULL;
    gp_status status =
        link->ops->connect(link->domain, address, deadline, &link->ep);

    if (status != GP_OK)
        return status;
    do {
        status = link_take(link, gp_deadline(seconds + 1), &event);
        if (status == GP_OK && event->type == GP_EVENT_CLOSED)
            return gp_fail(event->status ? event->status : GP_ERR_UNREACHABLE,
                           "no connection to %s (%s): is `gradpush bench "
                           "transport --listen` running there, with the same "
                           "--transport, and does no firewall lie between?",
                           address, gp_status_text(event->status));
    } while (status == GP_OK && event->type != GP_EVENT_CONNECTED);
    return status;
}

gp_status
gp_link_await(gp_link *link, const gp_event **out)
{
    const gp_event *event = NULL;
    gp_status status = failed(link);

    if (status != GP_OK)
        return status;
    for (;;) {
        status = link_take(link, 0, &event);
        if (status != GP_OK)
            return status;
        if (event->ep != link->ep) { /* a stranger, who came too late */
            if (event->type == GP_EVENT_ACCEPTED)
                link->ops->ep_close(event->ep);
            continue;
        }
        if (event->type == GP_EVENT_CLOSED)
            return link_closed(event);
        *out = event;
        return GP_OK;
    }
}

gp_status
gp_link_say(gp_link *link, const gp_msg *msg, const void *payload)
{
    gp_status status = link->ops->post(link->ep, msg, payload, NULL, 0);

    if (status == GP_OK)
        status = link->ops->flush(link->ep);
    if (status == GP_AGAIN)
        return gp_fail(GP_ERR_INTERNAL, "no room for a control message");
    return status;
}
