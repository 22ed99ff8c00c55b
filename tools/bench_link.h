/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_link.h - one connection over any transport, for benchmarks: an event at
 * a time, with a deadline for every wait.
 */
#ifndef GP_BENCH_LINK_H
#define GP_BENCH_LINK_H

#include <gradpush/transport.h>

#include "base/base.h"

#define GP_LINK_EVENTS 64

typedef struct gp_link {
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_endpoint *ep;
    uint64_t spin_ns; /* polls that long before it sleeps */
    double timeout;   /* longest silence of the peer */
    gp_event events[GP_LINK_EVENTS];
    int first, count;
} gp_link;

gp_status gp_link_open(const gp_config *config, const gp_transport_ops *ops,
                       gp_link *out);
void gp_link_close(gp_link *link);

gp_status gp_link_listen(gp_link *link, const char *address, char *bound,
                         size_t capacity);
/* Waits for a peer. @param seconds  negative: for ever. */
gp_status gp_link_accept(gp_link *link, double seconds);
gp_status gp_link_connect(gp_link *link, const char *address, double seconds);

/* The same as gp_link_next(), after progress() was called or need not be. */
gp_status gp_link_await(gp_link *link, const gp_event **out);

/* The next event, valid until the next call. A closed connection is an error:
 * GP_ERR_PEER_LOST, or the first cause. Where somebody waits for the answer to
 * it, calls are not for nothing: the usual case is here. */
static inline gp_status
gp_link_next(gp_link *link, const gp_event **out)
{
    const gp_event *event = &link->events[link->first];

    if (!link->count) {
        event = link->events;
        link->first = 0;
        link->count =
            link->ops->progress(link->domain, link->events, GP_LINK_EVENTS);
    }
    if (link->count <= 0 || event->ep != link->ep ||
        event->type == GP_EVENT_CLOSED)
        return gp_link_await(link, out);
    link->first++;
    link->count--;
    *out = event;
    return GP_OK;
}

/* Posts and flushes a control message with `msg->payload` bytes of payload. */
gp_status gp_link_say(gp_link *link, const gp_msg *msg, const void *payload);

#endif
