/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_msg.c - messages between the two ends of a pair.
 *
 * A message struct moves by its link: outbox, the peer's inbox, and for data
 * back through `returned` to `done` and `idle`. A control message, a copy, is
 * the receiver's from the inbox on, so a sender that closes takes none along.
 */
#include <stdlib.h>
#include <string.h>

#include "transports/loop/loop_int.h"

#define IDLE_MAX    64u
#define IDLE_ENOUGH 8u

static gp_loop_message *
message_of(gp_list *item)
{
    return GP_CONTAINER_OF(item, gp_loop_message, link);
}

static void
message_free(gp_loop_message *m)
{
    free(m->large);
    free(m);
}

void
gp_loop_messages_free(gp_list *list)
{
    gp_list *item;

    while ((item = gp_list_pop(list)))
        message_free(message_of(item));
}

static gp_loop_message *
message_take(gp_endpoint *ep)
{
    gp_list *item = gp_list_pop(&ep->idle);
    gp_loop_message *m;

    if (item) {
        ep->idle_count--;
        return message_of(item);
    }
    m = malloc(sizeof(*m));
    if (m) {
        gp_list_init(&m->link);
        m->large = NULL;
    }
    return m;
}

static void
message_keep(gp_endpoint *ep, gp_loop_message *m)
{
    free(m->large);
    m->large = NULL;
    if (ep->idle_count >= IDLE_MAX + GP_LOOP_DATA_DEPTH) {
        free(m);
        return;
    }
    gp_list_insert(&ep->idle, &m->link);
    ep->idle_count++;
}

static bool
copy_control(gp_loop_message *m, const void *payload, size_t length)
{
    uint8_t *to = m->small;

    if (length > GP_LOOP_INLINE) {
        to = m->large = malloc(length);
        if (!to)
            return false;
    }
    if (length)
        memcpy(to, payload, length);
    m->payload = to;
    return true;
}

static bool
has_room(gp_endpoint *ep, bool control)
{
    if (!control)
        return ep->data_queued < GP_LOOP_DATA_DEPTH;
    return ep->data_queued + atomic_load(&ep->control_queued) <
           GP_LOOP_DATA_DEPTH + GP_LOOP_CONTROL_DEPTH;
}

static gp_status
check_post(gp_endpoint *ep, const gp_msg *msg, const void *payload)
{
    if (ep->state == GP_LOOP_CLOSED)
        return gp_fail(GP_ERR_PEER_LOST, "post: %s: the connection is closed",
                       ep->name);
    if (msg->payload && !payload)
        return gp_fail(GP_ERR_INVALID, "post: payload is NULL");
    if (!msg->region && msg->payload > GP_CONTROL_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "post: control payload of %llu bytes, limit %u",
                       (unsigned long long)msg->payload, GP_CONTROL_MAX);
    return has_room(ep, !msg->region) ? GP_OK : GP_AGAIN;
}

static void
queue(gp_endpoint *ep, gp_loop_message *m)
{
    if (m->msg.region)
        ep->data_queued++;
    else
        atomic_fetch_add(&ep->control_queued, 1);
    gp_list_insert(&ep->outbox, &m->link);
    if (gp_list_empty(&ep->dirty))
        gp_list_insert(&ep->domain->dirty, &ep->dirty);
}

gp_status
gp_loop_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
             gp_mem *mem, uint64_t cookie)
{
    gp_status status = check_post(ep, msg, payload);
    gp_loop_message *m;

    (void)mem;
    if (status != GP_OK)
        return status;
    m = message_take(ep);
    if (!m)
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    m->msg = *msg;
    m->payload = payload;
    m->cookie = cookie;
    if (!msg->region && !copy_control(m, payload, (size_t)msg->payload)) {
        message_keep(ep, m);
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    }
    if (ep->domain->checksum && !(msg->flags & GP_MSG_PAYLOAD_CRC)) {
        m->msg.payload_crc = gp_crc32c(0, m->payload, (size_t)msg->payload);
        m->msg.flags |= GP_MSG_PAYLOAD_CRC;
    }
    queue(ep, m);
    return GP_OK;
}

/* A copied payload is free at once; a struct of its own carries the cookie. */
static gp_status
note_control_sent(gp_endpoint *ep, uint64_t cookie)
{
    gp_loop_message *m = message_take(ep);

    if (!m)
        return gp_fail(GP_ERR_NO_MEMORY, "flush: out of memory");
    m->cookie = cookie;
    m->msg.region = 0;
    gp_list_insert(&ep->done, &m->link);
    return GP_OK;
}

static gp_endpoint *
peer_of(const gp_endpoint *ep)
{
    return ep->pair->side[!ep->index];
}

/* Pair lock held. */
void
gp_loop_tell(gp_endpoint *peer)
{
    gp_domain *d = peer->domain;

    pthread_mutex_lock(&d->lock);
    if (gp_list_empty(&peer->ready))
        gp_list_insert(&d->ready, &peer->ready);
    gp_loop_wake(d);
    pthread_mutex_unlock(&d->lock);
}

gp_status
gp_loop_flush(gp_endpoint *ep)
{
    gp_endpoint *peer;
    gp_status status = GP_OK;
    gp_list *item;

    if (ep->state == GP_LOOP_CLOSED)
        return gp_fail(GP_ERR_PEER_LOST, "flush: %s: the connection is closed",
                       ep->name);
    if (ep->state == GP_LOOP_CONNECTING || gp_list_empty(&ep->outbox))
        return GP_OK;
    gp_list_remove(&ep->dirty);
    GP_LIST_EACH (each, &ep->outbox)
        if (!message_of(each)->msg.region && message_of(each)->cookie)
            status = note_control_sent(ep, message_of(each)->cookie);
    pthread_mutex_lock(&ep->pair->lock);
    if (!gp_list_empty(&ep->done))
        gp_loop_tell(ep);
    peer = peer_of(ep);
    while (peer && (item = gp_list_pop(&ep->outbox)))
        gp_list_insert(&peer->inbox, item);
    if (peer)
        gp_loop_tell(peer);
    pthread_mutex_unlock(&ep->pair->lock);
    return status;
}

/* Pair lock held. The sender may be gone; then the struct is ours to free. */
static void
give_back(gp_endpoint *ep, gp_loop_message *m)
{
    gp_endpoint *peer = peer_of(ep);

    if (!peer) {
        message_free(m);
        return;
    }
    peer->lent--;
    gp_list_insert(&peer->returned, &m->link);
    gp_loop_tell(peer);
    pthread_cond_broadcast(&ep->pair->returned);
}

void
gp_loop_release(gp_endpoint *ep, const gp_msg *msg, const void *payload)
{
    (void)msg;
    GP_LIST_EACH (item, &ep->lent_in) {
        if (message_of(item)->payload != payload)
            continue;
        gp_list_remove(item);
        pthread_mutex_lock(&ep->pair->lock);
        give_back(ep, message_of(item));
        pthread_mutex_unlock(&ep->pair->lock);
        return;
    }
}

void
gp_loop_return_all(gp_endpoint *ep)
{
    gp_list *item;

    while ((item = gp_list_pop(&ep->lent_in)))
        give_back(ep, message_of(item));
}

/* Who sends more control messages than it gets would allocate for ever, so a
 * struct that is not needed here goes back to where it came from. */
static bool
repay(gp_endpoint *ep, gp_loop_message *m)
{
    gp_endpoint *peer;

    if (ep->idle_count < IDLE_ENOUGH || !ep->pair)
        return false;
    m->cookie = 0;
    pthread_mutex_lock(&ep->pair->lock);
    peer = peer_of(ep);
    if (peer)
        gp_list_insert(&peer->returned, &m->link);
    pthread_mutex_unlock(&ep->pair->lock);
    return peer != NULL;
}

void
gp_loop_recycle_held(gp_endpoint *ep)
{
    gp_list *item;

    while ((item = gp_list_pop(&ep->held)))
        if (!repay(ep, message_of(item)))
            message_keep(ep, message_of(item));
}

/* The next message, counted as lent when it is data. */
static gp_loop_message *
next_message(gp_endpoint *ep, bool *peer_closed)
{
    gp_endpoint *peer;
    gp_list *item;

    pthread_mutex_lock(&ep->pair->lock);
    peer = peer_of(ep);
    *peer_closed = ep->peer_closed;
    item = gp_list_pop(&ep->inbox);
    if (item && message_of(item)->msg.region)
        peer->lent++; /* a sender that closes takes its data back */
    else if (item && peer &&
             atomic_fetch_sub(&peer->control_queued, 1) >=
                 GP_LOOP_CONTROL_DEPTH)
        gp_loop_tell(peer);
    pthread_mutex_unlock(&ep->pair->lock);
    return item ? message_of(item) : NULL;
}

static bool
damaged(const gp_endpoint *ep, const gp_loop_message *m)
{
    return ep->domain->checksum && (m->msg.flags & GP_MSG_PAYLOAD_CRC) &&
           gp_crc32c(0, m->payload, (size_t)m->msg.payload) !=
               m->msg.payload_crc;
}

static void
deliver(gp_endpoint *ep, gp_loop_out *out, const gp_loop_message *m,
        const void *payload)
{
    gp_event *event = gp_loop_emit(out, ep, GP_EVENT_MESSAGE);

    event->msg = m->msg;
    event->payload = payload;
}

static void
receive_control(gp_endpoint *ep, gp_loop_out *out, gp_loop_message *m)
{
    uint32_t limit = ep->trusted ? GP_CONTROL_MAX : GP_CONTROL_MAX_UNTRUSTED;

    gp_list_insert(&ep->held, &m->link);
    if (m->msg.payload > limit)
        gp_loop_fail(ep, GP_ERR_PROTOCOL,
                     "control message longer than allowed");
    else if (damaged(ep, m))
        gp_loop_fail(ep, GP_ERR_CHECKSUM, "damaged control payload");
    else
        deliver(ep, out, m, m->payload);
}

static void
receive_data(gp_endpoint *ep, gp_loop_out *out, gp_loop_message *m)
{
    uint32_t flags = 0;
    uint8_t *to = NULL;
    gp_status status =
        gp_regions_find(&ep->regions, m->msg.region, m->msg.offset,
                        m->msg.payload, &to, &flags);
    const char *why = "data message outside what was exposed";

    if (status == GP_OK && to && damaged(ep, m)) {
        status = GP_ERR_CHECKSUM;
        why = "damaged payload";
    }
    if (status != GP_OK) {
        gp_loop_fail(ep, status, why);
    } else if (to && m->msg.payload && (flags & GP_REGION_LANDING)) {
        gp_list_insert(&ep->lent_in, &m->link);
        deliver(ep, out, m, m->payload);
        return;
    } else if (to) {
        if (m->msg.payload && to != m->payload) /* formed there already? */
            memcpy(to, m->payload, (size_t)m->msg.payload);
        deliver(ep, out, m, to);
    }
    pthread_mutex_lock(&ep->pair->lock);
    give_back(ep, m);
    pthread_mutex_unlock(&ep->pair->lock);
}

static void
collect_returned(gp_endpoint *ep)
{
    gp_list *item;

    pthread_mutex_lock(&ep->pair->lock);
    while ((item = gp_list_pop(&ep->returned)))
        gp_list_insert(&ep->done, item);
    pthread_mutex_unlock(&ep->pair->lock);
}

void
gp_loop_report_sent(gp_endpoint *ep, gp_loop_out *out)
{
    while (!gp_list_empty(&ep->done)) {
        gp_loop_message *m = message_of(ep->done.next);

        if (m->cookie) {
            if (out->count == out->max)
                return;
            gp_loop_emit(out, ep, GP_EVENT_SENT)->cookie = m->cookie;
        }
        gp_list_remove(&m->link);
        if (m->msg.region)
            ep->data_queued--;
        message_keep(ep, m);
    }
}

bool
gp_loop_serve(gp_endpoint *ep, gp_loop_out *out)
{
    bool peer_closed = false;

    if (!ep->announced)
        return true;
    collect_returned(ep);
    gp_loop_report_sent(ep, out);
    while (ep->state == GP_LOOP_OPEN) {
        gp_loop_message *m;

        if (out->count == out->max)
            return true;
        m = next_message(ep, &peer_closed);
        if (!m && peer_closed)
            gp_loop_fail(ep, GP_OK, "closed by the peer");
        if (!m)
            break;
        if (m->msg.region)
            receive_data(ep, out, m);
        else
            receive_control(ep, out, m);
    }
    return ep->state == GP_LOOP_OPEN && !gp_list_empty(&ep->done);
}
